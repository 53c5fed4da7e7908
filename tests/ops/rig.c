/* Shared machinery of the op and golden tests: see rig.h. */
#include "tests/ops/rig.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256 + 4 };

/* Tests cannot go on without memory. */
static void *must(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    return memory;
}

struct buffer buffer_new(size_t count, size_t size) {
    struct buffer buffer = {.size_bytes = count * size};
    buffer.memory = must(malloc(buffer.size_bytes + 2 * GUARD));
    memset(buffer.memory, 0xFF, buffer.size_bytes + 2 * GUARD);
    return buffer;
}

void buffer_free(struct buffer *buffer) {
    free(buffer->memory);
    *buffer = (struct buffer){0};
}

float *buffer_floats(const struct buffer *buffer) {
    return (float *)(void *)(buffer->memory + GUARD);
}

bool buffer_intact(const struct buffer *buffer) {
    for (size_t i = 0; i < GUARD; i++)
        if (buffer->memory[i] != 0xFF || buffer->memory[GUARD + buffer->size_bytes + i] != 0xFF)
            return false;
    return true;
}

void report_add(struct report *report, const char *format, ...) {
    if (report->n++ > 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(report->first, sizeof report->first, format, args);
    va_end(args);
}

const struct residuum_backend *module_open(const char *path, struct report *report) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct residuum_backend *module = library != NULL ? dlsym(library, "residuum_backend") : NULL;
    if (module == NULL) {
        report_add(report, "cannot open %s: %s", path, dlerror());
        return NULL;
    }
    if (module->abi != BACKEND_ABI) {
        report_add(report, "%s has ABI %u, not %d", path, module->abi, BACKEND_ABI);
        return NULL;
    }
    return module;
}

const char *build_folder(void) {
    const char *folder = getenv("RESIDUUM_BUILD");
    return folder != NULL && folder[0] != '\0' ? folder : "build/release";
}

/* Whether the machine lacks what a module computes on, a GPU: there is nothing to test then. */
static bool has_no_device(const struct residuum_backend *module) {
    struct backend_info info;
    struct err err = {0};
    if (module->probe(0, &info, &err) == 0 || err.code != ERR_UNAVAILABLE)
        return false;
    fprintf(stderr, "%s is not tested here: %s\n", module->name, err.text);
    return true;
}

size_t modules_open(const struct residuum_backend **ret_modules, size_t max, struct report *report) {
    char pattern[512];
    glob_t found;
    size_t n = 0;
    snprintf(pattern, sizeof pattern, "%s/backend-*.so", build_folder());
    if (glob(pattern, 0, NULL, &found) != 0) {
        report_add(report, "there is no module %s", pattern);
        return 0;
    }
    for (size_t i = 0; i < found.gl_pathc && n < max; i++) {
        ret_modules[n] = module_open(found.gl_pathv[i], report);
        n += ret_modules[n] != NULL && !has_no_device(ret_modules[n]) ? 1 : 0;
    }
    globfree(&found);
    return n;
}

bool module_offers(const struct residuum_backend *module, enum spec_precision precision, struct report *report) {
    struct backend_info info;
    struct err err = {0};
    if (module->probe(0, &info, &err) < 0) {
        report_add(report, "probe of %s: %s", module->name, err.text);
        return false;
    }
    return info.precisions >> precision & 1;
}

/* Notes a failed call or a touched guard. */
static void check(struct rig *rig, const char *call, int rc, const struct err *err, const struct buffer *buffer) {
    if (rc != 0)
        report_add(rig->report, "%s failed: %s", call, err->text);
    if (buffer != NULL && !buffer_intact(buffer))
        report_add(rig->report, "%s wrote outside the buffer it was given", call);
}

int rig_init(struct rig *rig, const struct residuum_backend *module, const struct graph *graph,
             const struct backend_plan_options *options, struct report *report) {
    *rig = (struct rig){.module = module, .graph = graph, .options = *options, .report = report};
    struct backend_info info;
    struct err err = {0};
    if (module->probe(0, &info, &err) < 0 ||
        module->open(&(struct backend_options){.threads = RIG_THREADS, .device_id = info.device_id}, &rig->backend, &err) < 0 ||
        module->compile(rig->backend, graph, options, &rig->plan, &err) < 0) {
        check(rig, "probe, open or compile", -1, &err, NULL);
        return -1;
    }
    if (module->memory(rig->plan) <= 0)
        report_add(report, "memory says %lld bytes", (long long)module->memory(rig->plan));
    return 0;
}

void rig_done(struct rig *rig) {
    if (rig->module == NULL)
        return;
    rig->module->plan_free(rig->plan);
    rig->module->close(rig->backend);
    *rig = (struct rig){0};
}

static size_t image_count(const struct graph *graph) {
    struct graph_shape in = graph->nodes[0].out;
    return (size_t)in.c * (size_t)in.h * (size_t)in.w;
}

struct batch batch_new(const struct graph *graph, int n) {
    size_t images = (size_t)n;
    return (struct batch){.images = buffer_new(images * image_count(graph), sizeof(float)),
                          .labels = buffer_new(images, sizeof(int32_t)),
                          .samples = buffer_new(images, sizeof(uint32_t)),
                          .others = buffer_new(images, sizeof(int32_t)),
                          .shares = buffer_new(images, sizeof(float)),
                          .n = n};
}

void batch_free(struct batch *batch) {
    buffer_free(&batch->images);
    buffer_free(&batch->labels);
    buffer_free(&batch->samples);
    buffer_free(&batch->others);
    buffer_free(&batch->shares);
}

struct backend_batch batch_view(const struct batch *batch, int n) {
    return (struct backend_batch){.n = n,
                                  .images = buffer_floats(&batch->images),
                                  .labels = (const int32_t *)(const void *)buffer_floats(&batch->labels),
                                  .samples = (const uint32_t *)(const void *)buffer_floats(&batch->samples),
                                  .others = batch->mixup ? (const int32_t *)(const void *)buffer_floats(&batch->others) : NULL,
                                  .shares = batch->mixup ? buffer_floats(&batch->shares) : NULL,
                                  .smoothing = batch->smoothing,
                                  .seed = 77,
                                  .epoch = 3};
}

static void check_batch(struct rig *rig, const char *call, const struct batch *batch) {
    const struct buffer *buffers[] = {&batch->images, &batch->labels, &batch->samples, &batch->others, &batch->shares};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        if (!buffer_intact(buffers[i]))
            report_add(rig->report, "%s wrote around the batch it was given", call);
}

void rig_set(struct rig *rig, enum backend_tensor kind, int param, const float *values) {
    struct err err = {0};
    check(rig, "set_tensor", rig->module->set_tensor(rig->plan, kind, param, values, &err), &err, NULL);
}

struct buffer rig_get(struct rig *rig, enum backend_tensor kind, int param) {
    struct buffer buffer = buffer_new(rig->graph->params[param].count, sizeof(float));
    struct err err = {0};
    int rc = rig->module->get_tensor(rig->plan, kind, param, buffer_floats(&buffer), &err);
    check(rig, "get_tensor", rc, &err, &buffer);
    return buffer;
}

struct buffer rig_activation(struct rig *rig, int node, int n) {
    struct graph_shape out = rig->graph->nodes[node].out;
    struct buffer buffer = buffer_new((size_t)n * (size_t)out.c * (size_t)out.h * (size_t)out.w, sizeof(float));
    struct err err = {0};
    int rc = rig->module->get_activation(rig->plan, node, n, buffer_floats(&buffer), &err);
    check(rig, "get_activation", rc, &err, &buffer);
    return buffer;
}

bool rig_has(const struct rig *rig, enum backend_tensor kind, int param) {
    bool trains = rig->options.use == USE_TRAIN, trainable = trains && rig->graph->params[param].trainable;
    switch (kind) {
    case TENSOR_VALUE:
        return true;
    case TENSOR_SQUARE:
        return trainable && rig->options.optimizer != OPTIMIZER_SGD;
    case TENSOR_AVERAGE:
        return trains && rig->options.average;
    case TENSOR_MOMENTUM:
    case TENSOR_GRADIENT:
        return trainable;
    }
    return false;
}

struct buffer rig_statistics(struct rig *rig) {
    size_t n = (size_t)rig->graph->params_n;
    struct buffer buffer = buffer_new(n * RIG_STATISTICS, sizeof(float));
    struct backend_statistics *rows = must(calloc(n + 1, sizeof *rows));
    struct err err = {0};
    check(rig, "statistics", rig->module->statistics(rig->plan, rows, &err), &err, NULL);
    for (size_t i = 0; i < n; i++) {
        float *to = buffer_floats(&buffer) + i * RIG_STATISTICS;
        to[0] = (float)rows[i].gradient;
        to[1] = (float)rows[i].weight;
        to[2] = (float)rows[i].update;
    }
    free(rows);
    return buffer;
}

struct backend_result rig_train(struct rig *rig, const struct batch *batch, int n, const struct backend_optimizer *optimizer) {
    struct backend_batch view = batch_view(batch, n);
    struct backend_result result = {0};
    struct err err = {0};
    check(rig, "train_step", rig->module->train_step(rig->plan, &view, optimizer, &result, &err), &err, NULL);
    check_batch(rig, "train_step", batch);
    return result;
}

struct backend_result rig_eval(struct rig *rig, const struct batch *batch, int n, struct buffer *ret_softmax) {
    *ret_softmax = buffer_new((size_t)n * (size_t)rig->graph->classes, sizeof(float));
    struct backend_batch view = batch_view(batch, n);
    struct backend_result result = {0};
    struct err err = {0};
    int rc = rig->module->eval_step(rig->plan, &view, buffer_floats(ret_softmax), &result, &err);
    check(rig, "eval_step", rc, &err, ret_softmax);
    check_batch(rig, "eval_step", batch);
    return result;
}
