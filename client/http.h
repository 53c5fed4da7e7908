/* Requests to the server by libcurl: one at a time, bounded in size and time, no redirects. */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

struct http;

/* A client of one server. server is "http://host:port" or "https://...", perhaps with a path in front of the API; ERR_FIELD when
 * it is something else. */
int http_new(const char *server, struct http **ret_http, struct err *err);
void http_free(struct http *http); /* accepts NULL */

/* The server's address without a slash at the end. Borrowed. */
const char *http_server(const struct http *http);

struct http_request {
    const char *method; /* "GET", "POST", "DELETE", "PATCH" */
    const char *path;   /* with the query; begins with a slash */
    const char *body;   /* JSON; NULL: none */
    size_t body_size;
    const char *idempotency_key; /* NULL: none */
    long timeout_ms;             /* 0: HTTP_TIMEOUT_MS */
    FILE *send;                  /* NULL, or what a PATCH sends as bytes, from where the file stands */
    int64_t send_size;           /* so many */
    FILE *save; /* NULL, or where the body of a 2xx answer goes: it may be of any size and take any time while it moves */
};

enum { HTTP_TIMEOUT_MS = 60000, HTTP_STALL_S = 60, HTTP_CONNECT_TIMEOUT_MS = 10000, HTTP_BODY_MAX = 64 << 20 };

struct http_response {
    long status;
    char *body; /* ends in a NUL that is not counted; never NULL after a success */
    size_t size;
    char type[64];         /* the media type, without parameters */
    int64_t retry_after_s; /* 0: not said */
    bool replayed;         /* Idempotent-Replayed: true */
};

/* Sends and waits. Returns 0 with any HTTP status; -1 and ERR_NETWORK when no answer came. The caller frees with
 * http_response_done. */
int http_send(struct http *http, const struct http_request *request, struct http_response *ret_response, struct err *err);
void http_response_done(struct http_response *response); /* accepts zeroed memory */

/* A fresh handle with the address and the rules that every request keeps; for the event stream. error (CURL_ERROR_SIZE bytes)
 * receives libcurl's messages and must outlive the handle. The caller ends it with curl_easy_cleanup. NULL: out of memory. */
CURL *http_handle(const struct http *http, const char *path, char *error);

/* What an answer says about itself, read from a handle whose headers have arrived. */
void http_describe(CURL *handle, struct http_response *ret_response);

/* "cannot reach http://..." as ERR_NETWORK, from a result of libcurl. Returns -1. */
int http_failed(const struct http *http, CURLcode code, const char *error, struct err *err);

/* Whether an answer means "not now, later perhaps": 429, 502, 503, 504. */
bool http_try_later(long status);

/* Percent-encodes a query value. Caller frees with curl_free; NULL: out of memory. */
char *http_escape(const char *value);

#endif
