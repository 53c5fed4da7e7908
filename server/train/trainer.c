/* Trains one job: see trainer.h. */
#include "server/train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/rng.h"
#include "server/train/batch.h"
#include "server/train/module.h"
#include "server/train/private.h"
#include "server/train/say.h"
#include "server/train/stop.h"

double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool must_stop(const struct trainer *t) {
    return t->emit->closed || stop_asked(0);
}

/* --- preparing --- */

/* RESIDUUM_CHECKPOINT_MS is for tests. The default keeps the promise "at least once a minute" with steps of up to 20 s. */
static double checkpoint_interval(void) {
    const char *text = getenv("RESIDUUM_CHECKPOINT_MS");
    long ms = text != NULL ? strtol(text, NULL, 10) : 0;
    return ms > 0 ? (double)ms / 1000 : 40;
}

static int64_t steps_for(int images, int batch) {
    return ((int64_t)images + batch - 1) / batch;
}

static int load_data(struct trainer *t, struct err *err) {
    if (data_load(t->spec, &t->data, err) != 0)
        return -1;
    t->batch = t->spec->batch_size < t->data.train.n ? t->spec->batch_size : t->data.train.n;
    t->train_steps = steps_for(t->data.train.n, t->batch);
    t->test_steps = steps_for(t->data.test.n, t->batch);
    say("data: %d training and %d test images of %d x %d x %d", t->data.train.n, t->data.test.n, t->data.channels, t->data.height,
        t->data.width);
    return 0;
}

static int build_graph(struct trainer *t, struct err *err) {
    struct graph_shape input = {t->data.channels, t->data.height, t->data.width};
    return graph_build(&t->spec->model, input, t->data.card->classes, &t->graph, err);
}

static int open_backend(struct trainer *t, struct err *err) {
    if (module_choose(t->spec, &t->api, &t->info, err) != 0)
        return -1;
    t->threads = t->info.threads_max > 0 && t->spec->threads > t->info.threads_max ? t->info.threads_max : t->spec->threads;
    struct backend_options options = {.threads = t->threads, .device_id = t->info.device_id};
    if (t->api->open(&options, &t->backend, err) != 0)
        return -1;
    struct backend_plan_options plan = {.batch = t->batch, .precision = t->spec->precision};
    if (t->api->compile(t->backend, t->graph, &plan, &t->plan, err) != 0)
        return -1;
    say("backend: %s %s on %s, %d threads, %jd parameters, %.1f MB", t->info.name, t->info.version, t->info.device, t->threads,
        (intmax_t)t->graph->parameters, (double)t->api->memory(t->plan) / 1e6);
    return 0;
}

static int allocate(struct trainer *t, struct err *err) {
    size_t batch = (size_t)t->batch, order = (size_t)t->data.train.n;
    size_t image = (size_t)t->data.channels * (size_t)t->data.height * (size_t)t->data.width;
    t->images = calloc(batch * image, sizeof *t->images);
    t->labels = calloc(batch, sizeof *t->labels);
    t->order = calloc(order, sizeof *t->order);
    t->tensors = calloc(checkpoint_floats(t->graph) + 1, sizeof *t->tensors);
    t->softmax = calloc(batch * (size_t)t->graph->classes, sizeof *t->softmax);
    if (t->images == NULL || t->labels == NULL || t->order == NULL || t->tensors == NULL || t->softmax == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for batches of %d images", t->batch);
    return 0;
}

static void trainer_done(struct trainer *t) {
    if (t->api != NULL) {
        t->api->plan_free(t->plan);
        t->api->close(t->backend);
    }
    graph_free(t->graph);
    data_done(&t->data);
    free(t->images);
    free(t->labels);
    free(t->order);
    free(t->tensors);
    free(t->softmax);
}

/* --- start or resume --- */

static int start_fresh(struct trainer *t, struct err *err) {
    t->state = (struct train_state){0};
    for (int i = 0; i < t->graph->params_n; i++) {
        size_t count = t->graph->params[i].count;
        graph_init(t->graph, i, t->spec->seed, t->tensors);
        if (t->api->set_tensor(t->plan, TENSOR_VALUE, i, t->tensors, err) != 0)
            return -1;
        if (!t->graph->params[i].trainable)
            continue;
        memset(t->tensors, 0, count * sizeof *t->tensors);
        if (t->api->set_tensor(t->plan, TENSOR_MOMENTUM, i, t->tensors, err) != 0)
            return -1;
    }
    return history_cut(t->job->dir, 0, err);
}

/* A checkpoint counts only with the events of the epochs that it holds: without them the daemon could never have them all. */
static int start_or_resume(struct trainer *t, bool *ret_resumed, struct err *err) {
    switch (checkpoint_restore(t, err)) {
    case CHECKPOINT_FAILED:
        return -1;
    case CHECKPOINT_NONE:
        *ret_resumed = false;
        return start_fresh(t, err);
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
    return start_fresh(t, err);
}

static int hello(struct trainer *t, bool resumed, struct err *err) {
    json_t *point = resumed ? json_pack("{s:i, s:I}", "epoch", t->state.epoch, "step", (json_int_t)t->state.step) : json_null();
    return emit_event(t->emit, EVENT_HELLO,
                      json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:o}", "protocol", EVENT_PROTOCOL, "backend",
                                t->info.name, "backend_version", t->info.version, "device", t->info.device, "precision",
                                spec_precision_name(t->spec->precision), "threads", t->threads, "parameters",
                                (json_int_t)t->graph->parameters, "memory_bytes", (json_int_t)t->api->memory(t->plan), "resumed",
                                point),
                      err);
}

static int prepare(struct trainer *t, struct err *err) {
    bool resumed = false;
    if (open_backend(t, err) != 0 || allocate(t, err) != 0 || start_or_resume(t, &resumed, err) != 0 ||
        hello(t, resumed, err) != 0)
        return -1;
    t->checkpoint_at = clock_seconds();
    t->progress_at = -INFINITY;
    return history_send(t->job->dir, t->job->epochs_known, t->emit, err);
}

/* --- an epoch --- */

static double learning_rate(const struct trainer *t, int64_t step) {
    return spec_lr(t->spec, (uint64_t)(t->state.epoch * t->train_steps + step), (uint64_t)t->train_steps);
}

static int run_step(struct trainer *t, int n, const uint32_t *samples, struct backend_result *ret_result, struct err *err) {
    struct train_state *s = &t->state;
    struct batch_augment augment = batch_augment(t->spec, s->epoch);
    struct batch images = {.n = n, .samples = samples, .images = t->images, .labels = t->labels};
    batch_fill(&t->data, &t->data.train, &augment, &images);
    struct backend_batch batch = {
        .n = n, .images = t->images, .labels = t->labels, .seed = t->spec->seed, .epoch = (uint32_t)s->epoch, .samples = samples};
    double lr = learning_rate(t, s->step);
    struct backend_optimizer optimizer = {.lr = (float)lr,
                                          .momentum = (float)t->spec->optimizer.momentum,
                                          .weight_decay = (float)t->spec->optimizer.weight_decay,
                                          .nesterov = t->spec->optimizer.nesterov};
    if (t->api->train_step(t->plan, &batch, &optimizer, ret_result, err) != 0)
        return -1;
    if (!isfinite(ret_result->loss_sum))
        return err_set(
            err, ERR_NOT_FINITE,
            "the training loss is not finite in epoch %d at step %jd of %jd (learning rate %g); a lower learning rate or a "
            "warm-up may help",
            s->epoch + 1, (intmax_t)s->step + 1, (intmax_t)t->train_steps, lr);
    return 0;
}

static int train_step(struct trainer *t, struct err *err) {
    struct train_state *s = &t->state;
    int64_t left = t->data.train.n - s->seen;
    int n = left < t->batch ? (int)left : t->batch;
    struct backend_result result;
    double start = clock_seconds();
    if (run_step(t, n, t->order + s->seen, &result, err) != 0)
        return -1;
    double spent = clock_seconds() - start;
    s->step++;
    s->seen += n;
    s->loss_sum += result.loss_sum;
    s->correct += result.correct;
    s->seconds += spent;
    t->train_meter.seconds += spent;
    t->train_meter.images += n;
    return progress_train(t, err);
}

static int train_epoch(struct trainer *t, bool *ret_stopped, struct err *err) {
    rng_permutation(t->spec->seed, RNG_SHUFFLE, (uint32_t)t->state.epoch, (uint32_t)t->data.train.n, t->order);
    if (progress_train(t, err) != 0)
        return -1;
    while (t->state.step < t->train_steps) {
        *ret_stopped = must_stop(t);
        if (*ret_stopped)
            return 0;
        if (train_step(t, err) != 0)
            return -1;
        if (clock_seconds() - t->checkpoint_at >= t->checkpoint_every && checkpoint_save(t, err) != 0)
            return -1;
    }
    return 0;
}

static void say_epoch(const struct trainer *t, const struct evaluation *test) {
    const struct train_state *s = &t->state;
    say("epoch %d/%d: train loss %.4f, accuracy %.2f %%; test loss %.4f, accuracy %.2f %%; %.1f s", s->epoch + 1, t->spec->epochs,
        s->loss_sum / (double)s->seen, 100 * (double)s->correct / (double)s->seen, test->loss,
        100 * (double)test->correct / (double)test->n, s->seconds + test->seconds);
}

/* The epoch's event is on disk before the checkpoint that counts it, and sent after it: whatever happens, the next attempt knows
 * the events of all epochs that its checkpoint holds. */
static int finish_epoch(struct trainer *t, const struct evaluation *test, struct err *err) {
    json_t *event = epoch_json(t, test, learning_rate(t, t->train_steps - 1));
    if (event == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the results of epoch %d", t->state.epoch + 1);
    say_epoch(t, test);
    int rc = history_append(t->job->dir, event, err);
    if (rc == 0) {
        t->state = (struct train_state){.epoch = t->state.epoch + 1};
        rc = checkpoint_save(t, err);
    }
    if (rc == 0)
        return emit_event(t->emit, EVENT_EPOCH, event, err);
    json_decref(event);
    return -1;
}

static int run_epoch(struct trainer *t, bool *ret_stopped, struct err *err) {
    struct evaluation test = {0};
    if (train_epoch(t, ret_stopped, err) != 0)
        return -1;
    if (*ret_stopped)
        return 0;
    if (evaluate(t, &test, ret_stopped, err) != 0)
        return -1;
    int rc = *ret_stopped ? 0 : finish_epoch(t, &test, err);
    evaluation_done(&test);
    return rc;
}

static int run_epochs(struct trainer *t, bool *ret_stopped, struct err *err) {
    while (t->state.epoch < t->spec->epochs) {
        if (run_epoch(t, ret_stopped, err) != 0)
            return -1;
        if (*ret_stopped) {
            say("asked to stop in epoch %d after step %jd", t->state.epoch + 1, (intmax_t)t->state.step);
            return checkpoint_save(t, err);
        }
    }
    say("done");
    return emit_event(t->emit, EVENT_DONE, json_pack("{s:i}", "epochs", t->spec->epochs), err);
}

/* Loading takes a second or two; a stop in between needs no checkpoint, the one on disk is as good. */
static int run(struct trainer *t, bool *ret_stopped, struct err *err) {
    if (load_data(t, err) != 0 || build_graph(t, err) != 0)
        return -1;
    *ret_stopped = must_stop(t);
    if (*ret_stopped)
        return 0;
    if (prepare(t, err) != 0)
        return -1;
    return run_epochs(t, ret_stopped, err);
}

enum trainer_result trainer_run(const struct job *job, struct emit *emit, struct err *err) {
    struct trainer t = {.job = job, .spec = &job->spec, .emit = emit, .checkpoint_every = checkpoint_interval()};
    bool stopped = false;
    int rc = run(&t, &stopped, err);
    trainer_done(&t);
    return rc != 0 ? TRAINER_FAILED : stopped ? TRAINER_STOPPED : TRAINER_DONE;
}
