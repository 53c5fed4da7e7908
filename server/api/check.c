/* What is refused before a body is read: requests that could mean two things, unknown paths, foreign pages, bodies too large. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/api/private.h"

struct counts {
    int content_length, transfer_encoding, host, authorization;
};

static enum MHD_Result count_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value) {
    struct counts *counts = arg;
    (void)kind;
    (void)value;
    counts->content_length += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    counts->transfer_encoding += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    counts->host += strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0;
    counts->authorization += strcasecmp(name, MHD_HTTP_HEADER_AUTHORIZATION) == 0;
    return MHD_YES;
}

/* libmicrohttpd 0.9.75 takes the first of several Content-Length and Content-Length with Transfer-Encoding: what a proxy in front
 * reads differently becomes a smuggled request. */
static int check_framing(const struct request *request, const struct counts *counts, struct err *err) {
    const char *encoding = request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    int64_t value;
    if (counts->content_length > 1 || counts->transfer_encoding > 1 || counts->authorization > 1)
        return err_set(err, ERR_REQUEST, "a header that may stand once only is given several times");
    if (encoding != NULL && length != NULL)
        return err_set(err, ERR_REQUEST, "Content-Length together with Transfer-Encoding is ambiguous; send one of them");
    if (encoding != NULL && strcasecmp(encoding, "chunked") != 0)
        return err_set(err, ERR_REQUEST, "Transfer-Encoding is not understood; only \"chunked\" is");
    if (length != NULL && !number_parse(length, &value))
        return err_set(err, ERR_REQUEST, "Content-Length is not a whole number");
    return 0;
}

int check_headers(struct request *request, struct err *err) {
    struct counts counts = {0};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, count_header, &counts);
    const char *host = request_header(request, MHD_HTTP_HEADER_HOST);
    request->closing = true;
    if (check_framing(request, &counts, err) < 0)
        return -1;
    if (counts.host != 1 || host == NULL)
        return err_at(err, ERR_REQUEST, "Host", "a request needs exactly one Host header");
    if (!listener_is_host(&request->api->listener, host))
        return err_at(err, ERR_REQUEST, "Host", "the Host header does not name this server; it is %s (or localhost)",
                      request->api->listener.address + strlen("http://"));
    if (request->raw == NULL)
        return err_set(err, ERR_REQUEST, "the target is longer than %d bytes", TARGET_MAX);
    if (target_parse(request->raw, request->decoded, &request->target, err) < 0)
        return -1;
    request->closing = false;
    return 0;
}

static bool has_body(const struct request *request) {
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    int64_t value = 0;
    return request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL ||
           (length != NULL && number_parse(length, &value) && value > 0);
}

/* A page of another origin may send simple requests with the person's network position; browsers say where they come from. */
static int check_origin(const struct request *request, struct err *err) {
    const char *origin = request_header(request, MHD_HTTP_HEADER_ORIGIN), *site = request_header(request, "Sec-Fetch-Site");
    const char *host = request_header(request, MHD_HTTP_HEADER_HOST);
    bool foreign = origin != NULL && (strncasecmp(origin, "http://", 7) != 0 || strcasecmp(origin + 7, host) != 0);
    if (foreign && strncasecmp(origin, "https://", 8) == 0) /* a proxy in front may speak TLS */
        foreign = strcasecmp(origin + 8, host) != 0;
    if (foreign || (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0))
        return err_set(err, ERR_FORBIDDEN, "pages of other origins may not change anything here");
    return 0;
}

static bool is_json(const char *type) {
    const char *json = "application/json";
    if (type == NULL || strncasecmp(type, json, strlen(json)) != 0)
        return false;
    const char *rest = type + strlen(json) + strspn(type + strlen(json), " \t");
    if (*rest == '\0')
        return true;
    if (*rest++ != ';')
        return false;
    rest += strspn(rest, " \t");
    return strcasecmp(rest, "charset=utf-8") == 0 || strcasecmp(rest, "charset=\"utf-8\"") == 0;
}

static int check_stream(struct request *request, struct err *err) {
    const char *type = request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (type == NULL || strcasecmp(type, "application/octet-stream") != 0)
        return err_at(err, ERR_MEDIA_TYPE, "Content-Type", "the body must be declared as application/octet-stream");
    return upload_begin(request, err);
}

static int check_body(struct request *request, struct err *err) {
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    int64_t size = 0;
    if (request->route->body == BODY_STREAM)
        return check_stream(request, err);
    if (request->route->body == BODY_NONE)
        return has_body(request)
                   ? err_set(err, ERR_REQUEST, "%s %s takes no body", method_name(request->method), request->route->path)
                   : 0;
    if (length != NULL && number_parse(length, &size) && size > BODY_MAX)
        return err_set(err, ERR_TOO_LARGE, "the body has %lld bytes; at most %d are read", (long long)size, BODY_MAX);
    if (!is_json(request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE)))
        return err_at(err, ERR_MEDIA_TYPE, "Content-Type", "the body must be declared as application/json");
    return 0;
}

int check_route(struct request *request, struct err *err) {
    request->route = route_find(request->method, request->target.path, request->args, &request->allow);
    request->closing = has_body(request);
    bool missing =
        request->route != NULL && request->route->handler == handle_file && !web_has(request->api->web, request->target.path);
    if (request->route == NULL || missing) {
        request->route = NULL;
        return err_set(err, ERR_NOT_FOUND, "there is nothing at this path; GET /v1/openapi.json lists what there is");
    }
    if (request->route->method != request->method)
        return err_set(err, ERR_METHOD, "this path does not know the method; Allow names those it knows");
    if (target_check_params(&request->target, request->route->params, err) < 0)
        return -1;
    if (request->route->writes && check_origin(request, err) < 0)
        return -1;
    if (request->route->writes && request->api->draining)
        return err_set(err, ERR_UNAVAILABLE, "the server is shutting down; try again when it is back");
    if (check_body(request, err) < 0)
        return -1;
    request->closing = false;
    return 0;
}
