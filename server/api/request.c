/* The life of a request: target kept raw, checks before the body, bounded body, handler, answer after the commit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/private.h"

void *request_started(void *arg, const char *target, struct MHD_Connection *connection) {
    struct api *api = arg;
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->api = api;
    request->connection = connection;
    request->began_us = clock_unix_us();
    snprintf(request->id, sizeof request->id, "%08x-%llx", api->id_base, (unsigned long long)++api->id_next);
    if (strlen(target) <= TARGET_MAX) {
        request->raw = strdup(target);
        request->decoded = malloc(strlen(target) + 2 * TARGET_PARAMS_MAX + 2);
        if (request->raw == NULL || request->decoded == NULL) {
            free(request->raw);
            free(request->decoded);
            free(request);
            return NULL;
        }
    }
    connection_headers(connection);
    return request;
}

static void leave_list(struct request *request) {
    if (request->prev != NULL)
        request->prev->next = request->next;
    else
        *request->list = request->next;
    if (request->next != NULL)
        request->next->prev = request->prev;
    request->prev = request->next = NULL;
    request->list = NULL;
}

void request_completed(void *arg, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode code) {
    struct request *request = *context;
    (void)arg;
    (void)code;
    *context = NULL;
    if (request == NULL)
        return;
    if (request->list != NULL)
        leave_list(request);
    inspection_forget(request);
    upload_end(request);
    onnx_forget(request);
    if (request->answer != NULL)
        MHD_destroy_response(request->answer);
    free(request->raw);
    free(request->decoded);
    free(request->body);
    free(request);
    connection_idle(connection);
}

const char *request_header(const struct request *request, const char *name) {
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result answer_failure(struct request *request, const struct err *err) {
    answer_problem(request, err, request->errors.n > 0 ? &request->errors : NULL);
    return answer_queue(request);
}

/* The first call: headers are complete, nothing of the body was read. What is refused here is refused for good: the connection is
 * closed where a body may be on its way or where the request could mean two things. */
static enum MHD_Result begin(struct request *request, const char *method) {
    struct err err = {0};
    request->begun = true;
    request->head = strcmp(method, "HEAD") == 0;
    request->method = request->head || strcmp(method, "GET") == 0 ? METHOD_GET
                      : strcmp(method, "POST") == 0               ? METHOD_POST
                      : strcmp(method, "PATCH") == 0              ? METHOD_PATCH
                      : strcmp(method, "DELETE") == 0             ? METHOD_DELETE
                                                                  : METHOD_OTHER;
    if (check_headers(request, &err) < 0 || check_route(request, &err) < 0) {
        connection_handled(request->connection);
        return answer_failure(request, &err);
    }
    connection_body(request->connection);
    return MHD_YES;
}

/* Collects the body up to BODY_MAX. An oversize body without a declared length is counted but not kept, so that the client gets
 * its 413, and cut off when it goes on for too long. */
static enum MHD_Result collect(struct request *request, const char *data, size_t size) {
    connection_read(request->connection, size);
    if (request->upload != NULL)
        return upload_take(request, data, size) ? MHD_YES : MHD_NO;
    request->body_seen += size;
    if (request->body_seen > BODY_MAX)
        return request->body_seen > BODY_DISCARD_MAX ? MHD_NO : MHD_YES;
    if (request->body_room < request->body_seen) {
        size_t room = request->body_room == 0 ? 4096 : request->body_room;
        while (room < request->body_seen)
            room *= 2;
        char *body = realloc(request->body, room);
        if (body == NULL)
            return MHD_NO;
        request->body = body;
        request->body_room = room;
    }
    memcpy(request->body + request->body_size, data, size);
    request->body_size += size;
    return MHD_YES;
}

/* Holds the answer back; requests_resume or request_go_on go on. */
static enum MHD_Result suspend(struct request *request, struct request **list) {
    request->next = *list;
    if (*list != NULL)
        (*list)->prev = request;
    *list = request;
    request->list = list;
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

void request_go_on(struct request *request) {
    leave_list(request);
    api_resume(request->api, request->connection);
}

static int run_handler(struct request *request, struct err *err) {
    struct store *store = request->api->options.store;
    if (!request->route->writes)
        return request->route->handler(request, err);
    if (store_savepoint(store, err) < 0)
        return -1;
    int failed = request->route->handler(request, err);
    if (failed == 0 && store_release(store, err) == 0)
        return 0;
    store_rollback(store);
    return -1;
}

static enum MHD_Result run(struct request *request) {
    struct err err = {0};
    connection_handled(request->connection);
    if (request->body_seen > BODY_MAX) {
        err_set(&err, ERR_TOO_LARGE, "the body is larger than %d bytes", BODY_MAX);
        return answer_failure(request, &err);
    }
    if (run_handler(request, &err) < 0) {
        inspection_forget(request);
        return answer_failure(request, &err);
    }
    if (request->inspection != NULL)
        return suspend(request, &request->api->asking);
    /* A read, too, may show what this turn wrote, by a worker or by another request: all wait for the same commit. */
    if (request->wrote || store_pending(request->api->options.store))
        return suspend(request, &request->api->waiting);
    return answer_queue(request);
}

enum MHD_Result request_handle(void *api, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *data_size, void **context) {
    struct request *request = *context;
    (void)api;
    (void)connection;
    (void)url;
    (void)version;
    if (request == NULL) /* out of memory when it started */
        return MHD_NO;
    if (request->list != NULL)
        return MHD_YES;
    if (request->answer != NULL)
        return answer_queue(request);
    if (!request->begun)
        return begin(request, method);
    if (*data_size > 0) {
        size_t size = *data_size;
        *data_size = 0;
        return collect(request, data, size);
    }
    return run(request);
}

/* What a read showed may be undone: it is read again. Not while there are writes that are neither kept nor undone, at the end. */
static void undo(struct request *request, const struct err *why) {
    struct err err = {0};
    if (request->wrote || store_pending(request->api->options.store))
        answer_problem(request, why, NULL);
    else if (request->route->handler(request, &err) < 0)
        answer_problem(request, &err, request->errors.n > 0 ? &request->errors : NULL);
}

void requests_resume(struct api *api, const struct err *err) {
    while (api->waiting != NULL) {
        struct request *request = api->waiting;
        if (err != NULL && err->code != ERR_NONE)
            undo(request, err);
        request_go_on(request);
    }
}
