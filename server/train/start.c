/* How an attempt starts: from its checkpoint, from another job, or afresh. See private.h. */
#include <math.h>
#include <string.h>

#include "common/version.h"
#include "server/train/parallel.h"
#include "server/train/private.h"
#include "server/train/say.h"

/* Their values depend on seed and parameter alone, so that several threads may make them: eleven million take 0.4 s. */
static void init_some(void *arg, int begin, int end) {
    struct trainer *t = arg;
    for (int i = begin; i < end; i++)
        graph_init(t->graph, i, t->spec->seed, t->tensors.floats + t->tensors.rows[i].at);
}

/* The values that every parameter has before training; no momentum; the average is where the values are. */
static int set_fresh(struct trainer *t, json_t **ret_initial, struct err *err) {
    struct tensors *tensors = &t->tensors;
    memset(tensors->floats, 0, tensors->floats_n * sizeof *tensors->floats);
    parallel_run(t->graph->params_n, 1, init_some, t);
    if (t->spec->from.job[0] != '\0' && initial_weights(t, ret_initial, err) != 0)
        return -1;
    tensors_start_average(tensors);
    return device_set_all(t, err);
}

static int start_new(struct trainer *t, json_t **ret_initial, struct err *err) {
    t->state = (struct train_state){0};
    layers_reset(&t->layers);
    if (t->spec->from.resume)
        return initial_resume(t, ret_initial, err);
    if (set_fresh(t, ret_initial, err) != 0)
        return -1;
    return history_cut(t->job->dir, 0, err);
}

/* A checkpoint counts only with the events of the epochs that it holds: without them the daemon could never have them all. */
static int start_or_resume(struct trainer *t, bool *ret_resumed, json_t **ret_initial, struct err *err) {
    *ret_resumed = false;
    switch (checkpoint_restore(t, err)) {
    case CHECKPOINT_FAILED:
        return -1;
    case CHECKPOINT_NONE:
        return start_new(t, ret_initial, err);
    case CHECKPOINT_RESTORED:
        break;
    }
    int rc = history_cut(t->job->dir, t->state.epoch, err);
    *ret_resumed = rc == 0;
    if (rc == 0)
        say("resuming after epoch %d, step %jd", t->state.epoch, (intmax_t)t->state.step);
    if (rc <= 0)
        return rc;
    checkpoint_refuse(t, "the results of its epochs in epochs.ndjson are missing or damaged");
    return start_new(t, ret_initial, err);
}

/* Takes the references. */
static json_t *hello_json(const struct trainer *t, json_t *initial, json_t *resumed) {
    const struct backend_info *info = &t->info;
    const struct data *data = &t->data;
    json_int_t memory = t->api->memory(t->plan) + t->api->memory(t->evaluator);
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:o, s:I, s:I, s:o}", "protocol",
                     EVENT_PROTOCOL, "program", RESIDUUM_VERSION, "backend", info->name, "backend_version", info->version,
                     "algorithms", info->algorithms, "device", info->device, "device_id", info->device_id, "precision",
                     spec_precision_name(t->spec->precision), "threads", t->threads, "data_sha256", data->sha256, "train_images",
                     (json_int_t)data->train.n, "validation_images", (json_int_t)data->validation.n, "test_images",
                     (json_int_t)data->test.n, "initial", initial, "parameters", (json_int_t)t->graph->parameters, "memory_bytes",
                     memory, "resumed", resumed);
}

int start(struct trainer *t, struct err *err) {
    bool resumed;
    json_t *initial = NULL;
    if (start_or_resume(t, &resumed, &initial, err) != 0 || weights_prune(t, err) != 0) {
        json_decref(initial);
        return -1;
    }
    json_t *point = resumed ? json_pack("{s:i, s:I}", "epoch", t->state.epoch, "step", (json_int_t)t->state.step) : json_null();
    json_t *hello = hello_json(t, initial != NULL ? initial : json_null(), point);
    if (emit_event(t->emit, EVENT_HELLO, hello, err) != 0)
        return -1;
    t->checkpoint_at = clock_seconds();
    t->progress_at = -INFINITY;
    return history_send(t->job->dir, t->job->epochs_known, t->emit, err);
}
