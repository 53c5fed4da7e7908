/* Requests by libcurl: see http.h. */
#include "client/http.h"

#include <stdlib.h>
#include <string.h>

#include "client/buffer.h"
#include "client/interrupt.h"

struct http {
    char *server;
    bool loopback;
    CURL *handle; /* kept between requests, so that they share a connection */
    char error[CURL_ERROR_SIZE];
};

/* --- the address --- */

static int refuse_server(const char *server, const char *why, struct err *err) {
    return err_set(err, ERR_FIELD, "the server address \"%.200s\" %s; expected is something like http://127.0.0.1:8080", server,
                   why);
}

static bool is_loopback(const char *host) {
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
}

static bool has_part(CURLU *url, CURLUPart part) {
    char *text = NULL;
    bool found = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return found;
}

/* Checks the parts; what is wrong with them, or NULL. */
static const char *check_parts(CURLU *url, bool *ret_loopback) {
    char *scheme = NULL, *host = NULL;
    const char *wrong = NULL;
    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK || curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        wrong = "has no host";
    else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        wrong = "is not http or https";
    else if (has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT))
        wrong = "has a query or a fragment";
    else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        wrong = "has a user name or a password";
    else
        *ret_loopback = is_loopback(host);
    curl_free(scheme);
    curl_free(host);
    return wrong;
}

static int check_server(const char *server, bool *ret_loopback, struct err *err) {
    CURLU *url = curl_url();
    if (url == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while reading the server address");
    CURLUcode code = curl_url_set(url, CURLUPART_URL, server, 0);
    const char *wrong = code == CURLUE_OK ? check_parts(url, ret_loopback) : "is not a URL";
    curl_url_cleanup(url);
    return wrong == NULL ? 0 : refuse_server(server, wrong, err);
}

int http_new(const char *server, struct http **ret_http, struct err *err) {
    bool loopback = false;
    if (check_server(server, &loopback, err) != 0)
        return -1;
    struct http *http = calloc(1, sizeof *http);
    if (http != NULL) {
        http->loopback = loopback;
        http->server = strdup(server);
        http->handle = curl_easy_init();
    }
    if (http == NULL || http->server == NULL || http->handle == NULL) {
        http_free(http);
        return err_set(err, ERR_MEMORY, "out of memory while preparing requests to %.200s", server);
    }
    for (size_t n = strlen(http->server); n > 0 && http->server[n - 1] == '/'; n--)
        http->server[n - 1] = '\0';
    *ret_http = http;
    return 0;
}

void http_free(struct http *http) {
    if (http == NULL)
        return;
    curl_easy_cleanup(http->handle);
    free(http->server);
    free(http);
}

const char *http_server(const struct http *http) {
    return http->server;
}

/* --- handles --- */

static int on_progress(void *arg, curl_off_t total_down, curl_off_t down, curl_off_t total_up, curl_off_t up) {
    (void)arg, (void)total_down, (void)down, (void)total_up, (void)up;
    return interrupt_seen() ? 1 : 0;
}

/* What holds for every request. Setting an option fails only for want of memory or of a feature that 7.88 has. */
static CURLcode configure(CURL *handle, const struct http *http, const char *path, char *error) {
    char *url = NULL;
    if (asprintf(&url, "%s%s", http->server, path) < 0)
        return CURLE_OUT_OF_MEMORY;
    CURLcode code = curl_easy_setopt(handle, CURLOPT_URL, url); /* copied */
    free(url);
    error[0] = '\0';
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
    if (code == CURLE_OK)
        code = curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    if (code == CURLE_OK)
        code = curl_easy_setopt(handle, CURLOPT_USERAGENT, "residuum");
    if (code == CURLE_OK && http->loopback) /* an http_proxy variable is not meant for this machine */
        code = curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    return code;
}

CURL *http_handle(const struct http *http, const char *path, char *error) {
    CURL *handle = curl_easy_init();
    if (handle == NULL)
        return NULL;
    if (configure(handle, http, path, error) != CURLE_OK) {
        curl_easy_cleanup(handle);
        return NULL;
    }
    return handle;
}

void http_describe(CURL *handle, struct http_response *ret_response) {
    char *type = NULL;
    curl_off_t retry_after = 0;
    struct curl_header *header = NULL;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &ret_response->status);
    curl_easy_getinfo(handle, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_after);
    ret_response->retry_after_s = retry_after;
    ret_response->replayed = curl_easy_header(handle, "Idempotent-Replayed", 0, CURLH_HEADER, -1, &header) == CURLHE_OK;
    size_t n = type == NULL ? 0 : strcspn(type, "; \t");
    if (n >= sizeof ret_response->type)
        n = sizeof ret_response->type - 1;
    if (n > 0)
        memcpy(ret_response->type, type, n);
    ret_response->type[n] = '\0';
}

int http_failed(const struct http *http, CURLcode code, const char *error, struct err *err) {
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(err, ERR_MEMORY, "out of memory while talking to %s", http->server);
    const char *why = error[0] != '\0' ? error : curl_easy_strerror(code);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return err_set(err, ERR_NETWORK,
                       "cannot reach %s: %s (is residuumd running there? --server or RESIDUUM_SERVER name another)", http->server,
                       why);
    return err_set(err, ERR_NETWORK, "the connection to %s failed: %s", http->server, why);
}

bool http_try_later(long status) {
    return status == 429 || status == 502 || status == 503 || status == 504;
}

char *http_escape(const char *value) {
    return curl_easy_escape(NULL, value, 0);
}

/* --- one request --- */

struct sink {
    CURL *handle;
    FILE *save; /* NULL: all goes to body */
    struct buffer body;
    enum buffer_result result;
    bool unwritable;
};

static bool goes_to_file(const struct sink *sink) {
    long status = 0;
    curl_easy_getinfo(sink->handle, CURLINFO_RESPONSE_CODE, &status);
    return sink->save != NULL && status >= 200 && status < 300;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg) {
    struct sink *sink = arg;
    if (goes_to_file(sink)) {
        sink->unwritable = fwrite(bytes, 1, size * n, sink->save) != size * n;
        return sink->unwritable ? CURL_WRITEFUNC_ERROR : size * n;
    }
    sink->result = buffer_add(&sink->body, bytes, size * n, HTTP_BODY_MAX);
    return sink->result == BUFFER_OK ? size * n : CURL_WRITEFUNC_ERROR;
}

static bool add_header(struct curl_slist **headers, const char *header) {
    struct curl_slist *longer = curl_slist_append(*headers, header);
    if (longer == NULL)
        return false;
    *headers = longer;
    return true;
}

static bool request_headers(const struct http_request *request, struct curl_slist **ret_headers) {
    bool fine = add_header(ret_headers, "Accept: application/json, text/plain, */*") && add_header(ret_headers, "Expect:");
    if (request->body != NULL)
        fine = fine && add_header(ret_headers, "Content-Type: application/json");
    if (request->send != NULL)
        fine = fine && add_header(ret_headers, "Content-Type: application/octet-stream");
    if (request->idempotency_key != NULL) {
        char line[300];
        snprintf(line, sizeof line, "Idempotency-Key: %s", request->idempotency_key);
        fine = fine && add_header(ret_headers, line);
    }
    return fine;
}

static void set_request(CURL *handle, const struct http_request *request, struct curl_slist *headers, struct sink *sink) {
    if (request->save == NULL && request->send == NULL) {
        curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, request->timeout_ms > 0 ? request->timeout_ms : (long)HTTP_TIMEOUT_MS);
    } else {
        curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, (long)HTTP_STALL_S);
    }
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, sink);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    if (strcmp(request->method, "GET") == 0)
        return;
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
    if (request->send != NULL) {
        curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(handle, CURLOPT_READDATA, request->send);
        curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->send_size);
    }
    if (strcmp(request->method, "POST") != 0)
        return;
    curl_easy_setopt(handle, CURLOPT_POST, 1L);
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(request->body != NULL ? request->body_size : 0));
}

static int sink_failed(const struct http *http, const struct sink *sink, CURLcode code, struct err *err) {
    if (sink->unwritable)
        return err_set(err, ERR_IO, "cannot write what %s sends", http->server);
    switch (sink->result) {
    case BUFFER_MEMORY:
        return http_failed(http, CURLE_OUT_OF_MEMORY, "", err);
    case BUFFER_LIMIT:
        return err_set(err, ERR_PROTOCOL, "the answer of %s is larger than %d bytes, which a residuum server never sends",
                       http->server, (int)HTTP_BODY_MAX);
    case BUFFER_OK:
        break;
    }
    return http_failed(http, code, http->error, err);
}

int http_send(struct http *http, const struct http_request *request, struct http_response *ret_response, struct err *err) {
    struct curl_slist *headers = NULL;
    struct sink sink = {.handle = http->handle, .save = request->save};
    curl_easy_reset(http->handle); /* keeps the connection */
    CURLcode code = configure(http->handle, http, request->path, http->error);
    if (code == CURLE_OK && !request_headers(request, &headers))
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && buffer_add(&sink.body, "", 0, 1) != BUFFER_OK) /* an empty body is "", not NULL */
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK) {
        set_request(http->handle, request, headers, &sink);
        code = curl_easy_perform(http->handle);
    }
    int rc = code == CURLE_OK ? 0 : sink_failed(http, &sink, code, err);
    if (rc == 0) {
        *ret_response = (struct http_response){.body = sink.body.data, .size = sink.body.size};
        http_describe(http->handle, ret_response);
    } else {
        buffer_done(&sink.body);
    }
    curl_easy_setopt(http->handle, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return rc;
}

void http_response_done(struct http_response *response) {
    free(response->body);
    *response = (struct http_response){0};
}
