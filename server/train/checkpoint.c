/* The checkpoint of a running job, DIR/checkpoint.safetensors: tensors by name, momenta as "optimizer.NAME.momentum", and in
 * "__metadata__" all else that an exact resume needs. To change the format: change format_name; older files are then refused. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/version.h"
#include "server/train/private.h"
#include "server/train/safetensors.h"
#include "server/train/say.h"

static const char file_name[] = "checkpoint.safetensors", unusable_name[] = "checkpoint.unusable";
static const char format_name[] = "residuum-checkpoint-1";

/* --- the list of tensors --- */

struct tensor {
    enum backend_tensor kind;
    int param;
    char name[GRAPH_NAME_MAX + 40];
};

static size_t tensors_max(const struct graph *graph) {
    return 2 * (size_t)graph->params_n;
}

static size_t list_tensors(const struct graph *graph, struct tensor *tensors, struct safetensors_entry *entries) {
    size_t n = 0;
    for (int kind = TENSOR_VALUE; kind <= TENSOR_MOMENTUM; kind++)
        for (int i = 0; i < graph->params_n; i++) {
            const struct graph_param *param = &graph->params[i];
            if (kind == TENSOR_MOMENTUM && !param->trainable)
                continue;
            struct tensor *tensor = &tensors[n];
            *tensor = (struct tensor){.kind = (enum backend_tensor)kind, .param = i};
            snprintf(tensor->name, sizeof tensor->name, kind == TENSOR_VALUE ? "%s" : "optimizer.%s.momentum", param->name);
            entries[n++] =
                (struct safetensors_entry){tensor->name, param->shape, param->dims, param->count, SAFETENSORS_F32, NULL};
        }
    return n;
}

size_t checkpoint_floats(const struct graph *graph) {
    size_t floats = 0;
    for (int i = 0; i < graph->params_n; i++)
        floats += graph->params[i].count * (graph->params[i].trainable ? 2 : 1);
    return floats;
}

struct list {
    struct tensor *tensors;
    struct safetensors_entry *entries;
    size_t n;
};

static int list_init(struct list *list, const struct graph *graph, struct err *err) {
    *list = (struct list){.tensors = calloc(tensors_max(graph), sizeof *list->tensors),
                          .entries = calloc(tensors_max(graph), sizeof *list->entries)};
    if (list->tensors == NULL || list->entries == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the list of the checkpoint's tensors");
    list->n = list_tensors(graph, list->tensors, list->entries);
    return 0;
}

static void list_done(struct list *list) {
    free(list->tensors);
    free(list->entries);
}

/* --- writing --- */

static json_t *number_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static json_t *number_text(const char *format, ...) {
    char text[40];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return json_string(text);
}

/* Seventeen digits bring a double back exactly. */
static json_t *metadata_json(const struct trainer *t) {
    const struct train_state *s = &t->state;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "format", format_name,
                     "program", RESIDUUM_VERSION, "job", t->job->id, "spec", t->job->spec_text, "data_sha256",
                     t->data.train_sha256, "backend", t->info.name, "backend_version", t->info.version, "precision",
                     spec_precision_name(t->spec->precision), "threads", number_text("%d", t->threads), "epoch",
                     number_text("%d", s->epoch), "step", number_text("%jd", (intmax_t)s->step), "loss_sum",
                     number_text("%.17g", s->loss_sum), "correct", number_text("%jd", (intmax_t)s->correct), "seen",
                     number_text("%jd", (intmax_t)s->seen), "seconds", number_text("%.17g", s->seconds));
}

static int get_tensors(struct trainer *t, const struct list *list, struct err *err) {
    float *at = t->tensors;
    for (size_t i = 0; i < list->n; i++) {
        list->entries[i].values = at;
        if (t->api->get_tensor(t->plan, list->tensors[i].kind, list->tensors[i].param, at, err) != 0)
            return -1;
        at += list->entries[i].count;
    }
    return 0;
}

static int save_list(struct trainer *t, const struct list *list, int64_t *ret_bytes, struct err *err) {
    json_t *metadata = metadata_json(t);
    int rc = metadata == NULL ? err_set(err, ERR_MEMORY, "out of memory while writing a checkpoint") : get_tensors(t, list, err);
    if (rc == 0)
        rc = safetensors_write(t->job->dir, file_name, metadata, list->entries, list->n, ret_bytes, err);
    json_decref(metadata);
    return rc;
}

int checkpoint_save(struct trainer *t, struct err *err) {
    struct list list;
    int64_t bytes = 0;
    int rc = list_init(&list, t->graph, err);
    if (rc == 0)
        rc = save_list(t, &list, &bytes, err);
    list_done(&list);
    if (rc != 0)
        return -1;
    t->checkpoint_at = clock_seconds();
    say("checkpoint: epoch %d, step %jd", t->state.epoch, (intmax_t)t->state.step);
    return emit_event(t->emit, EVENT_CHECKPOINT,
                      json_pack("{s:i, s:I, s:s, s:I}", "epoch", t->state.epoch, "step", (json_int_t)t->state.step, "file",
                                file_name, "bytes", (json_int_t)bytes),
                      err);
}

/* --- reading --- */

static const char *text_of(const json_t *metadata, const char *key) {
    const char *text = json_string_value(json_object_get(metadata, key));
    return text != NULL ? text : "";
}

static int whole(const json_t *metadata, const char *key, int64_t max, int64_t *ret_value, struct err *err) {
    const char *text = text_of(metadata, key);
    char *end;
    long long value = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0 || value > max)
        return err_set(err, ERR_DATA, "its \"%s\" is \"%.40s\"; 0 to %jd are possible", key, text, (intmax_t)max);
    *ret_value = value;
    return 0;
}

static int real(const json_t *metadata, const char *key, double *ret_value, struct err *err) {
    const char *text = text_of(metadata, key);
    char *end;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || !isfinite(value) || value < 0)
        return err_set(err, ERR_DATA, "its \"%s\" is \"%.40s\", no finite number of at least 0", key, text);
    *ret_value = value;
    return 0;
}

/* Images in the first steps of an epoch. */
static int64_t images_of(const struct trainer *t, int64_t steps) {
    return steps == t->train_steps ? t->data.train.n : steps * t->batch;
}

static int parse_state(const struct trainer *t, const json_t *metadata, struct train_state *ret_state, struct err *err) {
    struct train_state s;
    int64_t epoch;
    if (whole(metadata, "epoch", t->spec->epochs, &epoch, err) != 0 ||
        whole(metadata, "step", t->train_steps, &s.step, err) != 0 ||
        whole(metadata, "seen", t->data.train.n, &s.seen, err) != 0 || whole(metadata, "correct", s.seen, &s.correct, err) != 0 ||
        real(metadata, "loss_sum", &s.loss_sum, err) != 0 || real(metadata, "seconds", &s.seconds, err) != 0)
        return -1;
    if (s.seen != images_of(t, s.step))
        return err_set(err, ERR_DATA, "it has seen %jd images in %jd steps; that makes %jd", (intmax_t)s.seen, (intmax_t)s.step,
                       (intmax_t)images_of(t, s.step));
    s.epoch = (int)epoch;
    *ret_state = s;
    return 0;
}

/* Of another spec, other data or another format: going on from it would be another training. */
static int check_same_work(const struct trainer *t, const json_t *metadata, struct err *err) {
    if (strcmp(text_of(metadata, "format"), format_name) != 0)
        return err_set(err, ERR_DATA, "its format is \"%.40s\", not %s", text_of(metadata, "format"), format_name);
    if (strcmp(text_of(metadata, "spec"), t->job->spec_text) != 0)
        return err_set(err, ERR_DATA, "it belongs to another spec");
    if (strcmp(text_of(metadata, "data_sha256"), t->data.train_sha256) != 0)
        return err_set(err, ERR_DATA, "the training images have changed since");
    return 0;
}

/* The weights are f32 whoever made them, so training may go on; only the last bits can differ, and the log says so. */
static void say_differences(const struct trainer *t, const json_t *metadata) {
    char threads[16];
    snprintf(threads, sizeof threads, "%d", t->threads);
    if (strcmp(text_of(metadata, "backend"), t->info.name) != 0 || strcmp(text_of(metadata, "threads"), threads) != 0 ||
        strcmp(text_of(metadata, "backend_version"), t->info.version) != 0)
        say("the checkpoint was made by %s %s with %s threads; going on with %s %s and %s: results can differ in the last bits",
            text_of(metadata, "backend"), text_of(metadata, "backend_version"), text_of(metadata, "threads"), t->info.name,
            t->info.version, threads);
}

/* All tensors are read before the first is set. */
static int set_tensors(struct trainer *t, const struct list *list, const struct safetensors *file, struct err *err) {
    float *at = t->tensors;
    for (size_t i = 0; i < list->n; i++) {
        if (safetensors_get(file, &list->entries[i], at, err) != 0)
            return -1;
        at += list->entries[i].count;
    }
    at = t->tensors;
    for (size_t i = 0; i < list->n; i++) {
        if (t->api->set_tensor(t->plan, list->tensors[i].kind, list->tensors[i].param, at, err) != 0)
            return -1;
        at += list->entries[i].count;
    }
    return 0;
}

static int restore_list(struct trainer *t, const struct safetensors *file, struct train_state *ret_state, struct err *err) {
    struct list list;
    int rc = check_same_work(t, file->metadata, err);
    if (rc == 0)
        rc = parse_state(t, file->metadata, ret_state, err);
    if (rc != 0)
        return -1;
    rc = list_init(&list, t->graph, err);
    if (rc == 0)
        rc = set_tensors(t, &list, file, err);
    list_done(&list);
    return rc;
}

static int restore_bytes(struct trainer *t, const char *bytes, size_t size, struct train_state *ret_state, struct err *err) {
    struct safetensors file;
    if (safetensors_parse("the file", bytes, size, &file, err) != 0)
        return -1;
    int rc = restore_list(t, &file, ret_state, err);
    if (rc == 0)
        say_differences(t, file.metadata);
    safetensors_done(&file);
    return rc;
}

static int restore_file(struct trainer *t, const char *path, struct train_state *ret_state, struct err *err) {
    size_t limit = checkpoint_floats(t->graph) * sizeof(float) + SAFETENSORS_HEADER_MAX, size;
    char *bytes;
    if (file_read(path, limit, &bytes, &size, err) != 0)
        return -1;
    int rc = restore_bytes(t, bytes, size, ret_state, err);
    free(bytes);
    return rc;
}

void checkpoint_refuse(const struct trainer *t, const char *reason) {
    char from[PATH_MAX], to[PATH_MAX];
    int a = snprintf(from, sizeof from, "%s/%s", t->job->dir, file_name);
    int b = snprintf(to, sizeof to, "%s/%s", t->job->dir, unusable_name);
    bool kept = a < PATH_MAX && b < PATH_MAX && rename(from, to) == 0;
    say("WARNING: the checkpoint cannot be used: %s. Training starts again from the first epoch%s%s", reason,
        kept ? "; the file is kept as " : "", kept ? unusable_name : "");
}

enum checkpoint_result checkpoint_restore(struct trainer *t, struct err *err) {
    char path[PATH_MAX];
    struct train_state state;
    struct err reason = {0};
    if (snprintf(path, sizeof path, "%s/%s", t->job->dir, file_name) >= (int)sizeof path) {
        err_set(err, ERR_IO, "the path of the job's directory is longer than %zu bytes", sizeof path - 1);
        return CHECKPOINT_FAILED;
    }
    if (restore_file(t, path, &state, &reason) == 0) {
        t->state = state;
        return CHECKPOINT_RESTORED;
    }
    if (reason.code == ERR_NOT_FOUND)
        return CHECKPOINT_NONE;
    if (reason.code == ERR_DATA || reason.code == ERR_TOO_LARGE) {
        checkpoint_refuse(t, reason.text);
        return CHECKPOINT_NONE;
    }
    *err = reason;
    return CHECKPOINT_FAILED;
}
