/* Answers: JSON, text, problem documents (RFC 9457), and the headers that every answer has. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log.h"
#include "server/api/private.h"

enum { RETRY_AFTER_S = 5 };

/* For the dashboard; harmless elsewhere. No inline script or style anywhere. */
static const char *const always[][2] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
     "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
};

int answer_header(struct request *request, const char *name, const char *value, struct err *err) {
    if (MHD_add_response_header(request->answer, name, value) == MHD_YES)
        return 0;
    return err_set(err, ERR_MEMORY, "cannot answer: no memory for header %s", name);
}

int answer_response(struct request *request, unsigned status, struct MHD_Response *steal, struct err *err) {
    if (steal == NULL)
        return err_set(err, ERR_MEMORY, "cannot answer: no memory for the response");
    if (request->answer != NULL)
        MHD_destroy_response(request->answer);
    request->answer = steal;
    request->status = status;
    return 0;
}

static int answer_buffer(struct request *request, unsigned status, const char *type, void *data, size_t size,
                         enum MHD_ResponseMemoryMode mode, struct err *err) {
    struct MHD_Response *response = MHD_create_response_from_buffer(size, data, mode);
    if (response == NULL && mode == MHD_RESPMEM_MUST_FREE)
        free(data);
    if (answer_response(request, status, response, err) < 0)
        return -1;
    return answer_header(request, MHD_HTTP_HEADER_CONTENT_TYPE, type, err);
}

int answer_text(struct request *request, unsigned status, const char *type, struct text *steal, struct err *err) {
    size_t size;
    char *data = text_steal(steal, &size);
    if (data == NULL)
        return err_set(err, ERR_MEMORY, "cannot answer: no memory for the body");
    return answer_buffer(request, status, type, data, size, MHD_RESPMEM_MUST_FREE, err);
}

int answer_bytes(struct request *request, unsigned status, const char *type, const void *borrowed, size_t size, struct err *err) {
    return answer_buffer(request, status, type, (void *)(uintptr_t)borrowed, size, MHD_RESPMEM_PERSISTENT, err);
}

/* libmicrohttpd sends the file by the kernel and closes it. */
int answer_download(struct request *request, const struct download *download, struct err *err) {
    char disposition[128];
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(download->size, download->steal_fd, download->offset);
    if (response == NULL)
        close(download->steal_fd);
    snprintf(disposition, sizeof disposition, "attachment; filename=\"%s\"", download->name);
    if (answer_response(request, MHD_HTTP_OK, response, err) < 0 ||
        answer_header(request, MHD_HTTP_HEADER_CONTENT_TYPE, download->type, err) < 0)
        return -1;
    return answer_header(request, MHD_HTTP_HEADER_CONTENT_DISPOSITION, disposition, err);
}

static int answer_json_as(struct request *request, unsigned status, const char *type, json_t *steal, struct err *err) {
    char *text = steal == NULL ? NULL : json_text(steal);
    json_decref(steal);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "cannot answer: no memory for the JSON text");
    return answer_buffer(request, status, type, text, strlen(text), MHD_RESPMEM_MUST_FREE, err);
}

int answer_json(struct request *request, unsigned status, json_t *steal, struct err *err) {
    return answer_json_as(request, status, "application/json", steal, err);
}

/* A failure's text may have been cut within a character: drop the torn end. */
static json_t *string_json(const char *text) {
    size_t size = strlen(text);
    json_t *value = NULL;
    for (size_t cut = 0; value == NULL && cut < 4 && cut <= size; cut++)
        value = json_stringn(text, size - cut);
    return value != NULL ? value : json_string("(not UTF-8)");
}

static json_t *blame_json(const struct err *err) {
    return json_pack("{s:o,s:o}", "pointer", string_json(err->pointer), "detail", string_json(err->text));
}

static json_t *errors_json(const struct err *err, const struct err_list *errors) {
    json_t *list = json_array();
    if (errors == NULL && err->pointer[0] != '\0')
        json_array_append_new(list, blame_json(err));
    for (size_t i = 0; errors != NULL && i < errors->n; i++)
        json_array_append_new(list, blame_json(&errors->items[i]));
    return list;
}

/* "invalid-field" -> "Invalid field" */
static void title_of(enum err_code code, char *ret_title, size_t size) {
    snprintf(ret_title, size, "%s", err_name(code));
    ret_title[0] = (char)toupper((unsigned char)ret_title[0]);
    for (char *c = ret_title; *c != '\0'; c++) {
        if (*c == '-')
            *c = ' ';
    }
}

/* Entries of a list say what is wrong with their field, without naming it: "is -1; 0 to 10 are possible". */
static json_t *list_detail_json(const struct err_list *errors) {
    char text[sizeof errors->items[0].pointer + sizeof errors->items[0].text + 64];
    size_t n = errors->n + errors->dropped;
    int used = n > 1 ? snprintf(text, sizeof text, "%zu fields are wrong; the first: ", n) : 0;
    snprintf(text + used, sizeof text - (size_t)used, "%s %s",
             errors->items[0].pointer[0] != '\0' ? errors->items[0].pointer : "the job", errors->items[0].text);
    return string_json(text);
}

/* A single error of a field may be written like an entry of a list, which begins with a small letter, or as a whole sentence. */
static json_t *detail_json(const struct err *err) {
    char text[sizeof err->pointer + sizeof err->text + 2];
    if (err->pointer[0] != '/' || !islower((unsigned char)err->text[0]))
        return string_json(err->text);
    snprintf(text, sizeof text, "%s %s", err->pointer, err->text);
    return string_json(text);
}

static json_t *problem_json(const struct request *request, const struct err *err, const struct err_list *errors) {
    char type[64], title[48];
    snprintf(type, sizeof type, "/problems/%s", err_name(err->code));
    title_of(err->code, title, sizeof title);
    json_t *list = errors_json(err, errors);
    json_t *detail = errors != NULL ? list_detail_json(errors) : detail_json(err);
    json_t *problem = json_pack("{s:s,s:s,s:i,s:o,s:s}", "type", type, "title", title, "status", err_http(err->code), "detail",
                                detail, "instance", request->id);
    if (problem != NULL && json_array_size(list) > 0)
        json_object_set(problem, "errors", list);
    json_decref(list);
    return problem;
}

static int allow_header(struct request *request, struct err *err) {
    char allow[64] = "";
    static const enum method methods[] = {METHOD_GET, METHOD_POST, METHOD_PATCH, METHOD_DELETE};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if ((request->allow & 1u << methods[i]) == 0)
            continue;
        size_t used = strlen(allow);
        snprintf(allow + used, sizeof allow - used, "%s%s", used > 0 ? ", " : "",
                 methods[i] == METHOD_GET ? "GET, HEAD" : method_name(methods[i]));
    }
    return answer_header(request, MHD_HTTP_HEADER_ALLOW, allow, err);
}

/* Codes that are no failures of a request (a bug of ours) become "internal". */
static const struct err *presentable(const struct err *err, struct err *ret_room) {
    if (err->code != ERR_NONE)
        return err;
    err_set(ret_room, ERR_INTERNAL, "the request failed without a reason; this is a fault of the server");
    return ret_room;
}

void answer_problem(struct request *request, const struct err *given, const struct err_list *errors) {
    struct err room = {0}, failure = {0};
    const struct err *err = presentable(errors != NULL ? &errors->items[0] : given, &room);
    char seconds[16];
    if (request->answer != NULL)
        MHD_destroy_response(request->answer);
    request->answer = NULL;
    if (err_http(err->code) >= 500 && err->code != ERR_UNAVAILABLE)
        log_line("error", "request-failed", "request", request->id, "code", err_name(err->code), "detail", err->text, NULL);
    snprintf(seconds, sizeof seconds, "%d", RETRY_AFTER_S);
    if (answer_json_as(request, (unsigned)err_http(err->code), "application/problem+json", problem_json(request, err, errors),
                       &failure) < 0)
        return;
    if (err->code == ERR_METHOD)
        allow_header(request, &failure);
    if (err->code == ERR_UNAVAILABLE || err->code == ERR_LIMIT)
        answer_header(request, MHD_HTTP_HEADER_RETRY_AFTER, seconds, &failure);
}

enum MHD_Result answer_queue(struct request *request) {
    struct err err = {0};
    if (request->answer == NULL) /* not even a problem document fits into memory */
        return MHD_NO;
    int failed = answer_header(request, "X-Request-Id", request->id, &err);
    for (size_t i = 0; i < sizeof always / sizeof always[0] && failed == 0; i++)
        failed = answer_header(request, always[i][0], always[i][1], &err);
    if (failed == 0 && MHD_get_response_header(request->answer, MHD_HTTP_HEADER_CACHE_CONTROL) == NULL)
        failed = answer_header(request, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store", &err);
    if (failed == 0 && request->closing)
        failed = answer_header(request, MHD_HTTP_HEADER_CONNECTION, "close", &err);
    if (failed < 0)
        return MHD_NO;
    metrics_count(&request->api->metrics, request->route, request->head, request->status, clock_unix_us() - request->began_us);
    enum MHD_Result result = MHD_queue_response(request->connection, request->status, request->answer);
    MHD_destroy_response(request->answer);
    request->answer = NULL;
    return result;
}
