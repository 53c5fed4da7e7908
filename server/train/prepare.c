/* What a job needs before its first step: data, graph, plans and memory. See private.h. */
#include <stdlib.h>

#include "server/train/loader.h"
#include "server/train/module.h"
#include "server/train/private.h"
#include "server/train/say.h"

static int at_most(int n, int limit) {
    return n < limit ? n : limit;
}

static int build_graph(struct trainer *t, struct err *err) {
    struct graph_shape input = {t->data.channels, t->data.height, t->data.width};
    return graph_build(&t->spec->model, input, t->data.card->classes, &t->graph, err);
}

/* Images of a step at most, as far as they are known before the data is. */
static void bound_batches(struct trainer *t) {
    int images = t->data.card->train_images, limit = t->spec->train_limit;
    t->batch = at_most(t->spec->batch_size, limit > 0 ? at_most(limit, images) : images);
    t->evaluator_batch = GRAPH_EVALUATION_BATCH;
}

static void take_counts(struct trainer *t) {
    const struct data *data = &t->data;
    int evaluated = data->validation.n > data->test.n ? data->validation.n : data->test.n;
    t->batch = at_most(t->batch, data->train.n);
    t->evaluator_batch = at_most(t->evaluator_batch, evaluated);
    t->train_steps = ((int64_t)data->train.n + t->batch - 1) / t->batch;
    say("data: %d training, %d validation and %d test images of %d x %d x %d", data->train.n, data->validation.n, data->test.n,
        data->channels, data->height, data->width);
}

static int compile(struct trainer *t, struct err *err) {
    const struct spec *spec = t->spec;
    struct backend_plan_options train = {.batch = t->batch,
                                         .precision = spec->precision,
                                         .use = USE_TRAIN,
                                         .optimizer = spec->optimizer.kind,
                                         .average = spec->average_decay > 0,
                                         .nondeterministic = !spec->deterministic};
    struct backend_plan_options evaluate = {
        .batch = t->evaluator_batch, .precision = spec->precision, .use = USE_EVALUATE, .nondeterministic = !spec->deterministic};
    if (t->api->compile(t->backend, t->graph, &train, &t->plan, err) != 0)
        return -1;
    return t->api->compile(t->backend, t->graph, &evaluate, &t->evaluator, err);
}

static int open_backend(struct trainer *t, struct err *err) {
    t->threads = t->info.threads_max > 0 ? at_most(t->spec->threads, t->info.threads_max) : t->spec->threads;
    struct backend_options options = {.threads = t->threads, .device_id = t->info.device_id};
    if (t->api->open(&options, &t->backend, err) != 0 || compile(t, err) != 0)
        return -1;
    say("backend: %s %s on %s, %d threads, %jd parameters, %.1f MB to train and %.1f MB to test", t->info.name, t->info.version,
        t->info.device, t->threads, (intmax_t)t->graph->parameters, (double)t->api->memory(t->plan) / 1e6,
        (double)t->api->memory(t->evaluator) / 1e6);
    return 0;
}

static int allocate(struct trainer *t, struct err *err) {
    const struct data *data = &t->data;
    size_t batch = (size_t)(t->batch > t->evaluator_batch ? t->batch : t->evaluator_batch);
    size_t image = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    if (!device_has_data(t))
        t->images = calloc(batch * image, sizeof *t->images);
    t->samples = calloc(batch, sizeof *t->samples);
    t->labels = calloc(batch, sizeof *t->labels);
    t->others = calloc(batch, sizeof *t->others);
    t->shares = calloc(batch, sizeof *t->shares);
    t->softmax = calloc(batch * (size_t)t->graph->classes, sizeof *t->softmax);
    t->order = calloc((size_t)data->train.n, sizeof *t->order);
    t->statistics = calloc((size_t)t->graph->params_n + 1, sizeof *t->statistics);
    if ((t->images == NULL && !device_has_data(t)) || t->samples == NULL || t->labels == NULL || t->others == NULL ||
        t->shares == NULL || t->softmax == NULL || t->order == NULL || t->statistics == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for batches of %zu images", batch);
    if (tensors_init(&t->tensors, t->graph, t->spec, err) != 0)
        return -1;
    return layers_init(&t->layers, t->graph, err);
}

/* The images are loaded while the backend compiles: each takes some tenths of a second. What is wrong with the data is told
 * first. */
static int load_and_compile(struct trainer *t, struct err *err) {
    struct loader *loader;
    struct err reason = {0};
    if (loader_start(t->spec, t->job->imported, &loader, err) != 0)
        return -1;
    watchdog_begin(t->watchdog, WATCHDOG_PREPARE);
    int rc = open_backend(t, &reason);
    watchdog_end(t->watchdog);
    if (loader_finish(loader, &t->data, err) != 0)
        return -1;
    if (rc != 0) {
        *err = reason;
        return -1;
    }
    return device_load(t, err);
}

int prepare(struct trainer *t, struct err *err) {
    if (data_begin(t->spec, t->job->imported, &t->data, err) != 0 || build_graph(t, err) != 0)
        return -1;
    bound_batches(t);
    /* Before any thread: it may start processes to look at modules. */
    if (module_choose(t->spec, t->job->device, &t->api, &t->info, err) != 0 || device_watch(t, err) != 0 ||
        load_and_compile(t, err) != 0)
        return -1;
    take_counts(t);
    return allocate(t, err);
}

void trainer_done(struct trainer *t) {
    watchdog_stop(t->watchdog);
    if (t->api != NULL) {
        t->api->plan_free(t->evaluator);
        t->api->plan_free(t->plan);
        t->api->close(t->backend);
    }
    graph_free(t->graph);
    data_done(&t->data);
    tensors_done(&t->tensors);
    layers_done(&t->layers);
    free(t->images);
    free(t->samples);
    free(t->labels);
    free(t->others);
    free(t->shares);
    free(t->softmax);
    free(t->order);
    free(t->statistics);
}
