/* The whole network as an ONNX file: a short worker writes it, it is sent, and nothing of it stays. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"

/* Of this daemon's requests only one has the name. */
static void file_name(const struct request *request, char *ret_name, size_t size) {
    snprintf(ret_name, size, "%s.onnx", request->id);
}

void onnx_forget(struct request *request) {
    char name[64];
    file_name(request, name, sizeof name);
    if (request->exports)
        sched_export_drop(request->api->options.sched, name);
    request->exports = false;
}

static int answer_onnx(struct request *request, const char *line, size_t size, struct err *err) {
    struct download download = {.type = "application/octet-stream"};
    char name[64];
    json_t *answer = json_parse(line, size, err);
    json_int_t epoch = json_integer_value(json_object_get(answer, "epoch"));
    json_decref(answer);
    file_name(request, name, sizeof name);
    snprintf(download.name, sizeof download.name, "%s-epoch-%lld.onnx", request->args[0], (long long)epoch);
    if (sched_export_open(request->api->options.sched, name, &download.steal_fd, &download.size, err) < 0)
        return -1;
    onnx_forget(request); /* what is open can be sent without its name */
    return answer_download(request, &download, err);
}

static int read_normalize(const struct request *request, bool *ret_normalize, struct err *err) {
    const char *text = target_param(&request->target, "normalize");
    *ret_normalize = text != NULL && strcmp(text, "true") == 0;
    if (text != NULL && !*ret_normalize && strcmp(text, "false") != 0)
        return err_at(err, ERR_FIELD, "?normalize", "normalize is \"%.40s\"; it must be true or false", text);
    return 0;
}

int handle_onnx(struct request *request, struct err *err) {
    char name[64], path[PATH_MAX];
    bool normalize;
    file_name(request, name, sizeof name);
    if (read_normalize(request, &normalize, err) < 0 || sched_export_path(request->api->options.sched, name, path, err) < 0)
        return -1;
    struct inspection_ask question = {.epoch = target_param(&request->target, "epoch"),
                                      .pointer = "?epoch",
                                      .steal_want = json_pack("{s:{s:s, s:b}}", "onnx", "out", path, "normalize", (int)normalize),
                                      .answer = answer_onnx};
    request->exports = true;
    return inspection_ask(request, &question, err);
}
