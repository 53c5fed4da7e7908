/* Measures a compute module through its door: training or evaluation steps on synthetic images.
 *
 *     bench_train MODULE PRESET train|eval f32|bf16|tf32 BATCH THREADS CHANNELSxHEIGHTxWIDTH SECONDS
 *
 * Warms up, then runs steps for SECONDS on the module's first device and prints {"images_per_second", "steps", "step_ms",
 * "memory_mb", "rss_mb", "device", "device_ms"}: the median step counts, since other programs disturb single ones. rss_mb is the
 * largest resident set of the whole process. A GPU takes its images from a data set that it holds, as in a job; a processor from
 * the batch. device_ms is the last step by a GPU's own clock, -1 where there is none. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/rng.h"
#include "server/backend/backend.h"

enum { CLASSES = 10, STEPS_MAX = 100000, WARM_STEPS = 3, CHANNELS_MAX = 3 };

struct bench {
    const struct residuum_backend *module;
    struct backend_info info;
    struct backend *backend;
    struct backend_plan *plan;
    struct graph *graph;
    struct backend_batch batch;
    bool training;
};

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int load_module(struct bench *bench, const char *path, struct err *err) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(err, ERR_BACKEND, "could not open the module %s: %s", path, dlerror());
    bench->module = dlsym(library, "residuum_backend");
    if (!bench->module || bench->module->abi != BACKEND_ABI)
        return err_set(err, ERR_BACKEND, "%s is not a module of this version; build it again", path);
    return bench->module->probe(0, &bench->info, err);
}

static int fill_parameters(struct bench *bench, struct err *err) {
    for (int i = 0; i < bench->graph->params_n; i++) {
        float *values = malloc(bench->graph->params[i].count * sizeof *values);
        if (!values)
            return err_set(err, ERR_MEMORY, "out of memory while filling parameters");
        graph_init(bench->graph, i, 1, values);
        int rc = bench->module->set_tensor(bench->plan, TENSOR_VALUE, i, values, err);
        free(values);
        if (rc != 0)
            return -1;
    }
    return 0;
}

static int make_batch(struct bench *bench, int n, struct graph_shape shape, struct err *err) {
    size_t count = (size_t)n * (size_t)shape.c * (size_t)shape.h * (size_t)shape.w;
    float *images = malloc(count * sizeof *images);
    int32_t *labels = malloc((size_t)n * sizeof *labels);
    uint32_t *samples = malloc((size_t)n * sizeof *samples);
    bench->batch = (struct backend_batch){.n = n, .images = images, .labels = labels, .samples = samples, .seed = 1};
    if (!images || !labels || !samples)
        return err_set(err, ERR_MEMORY, "out of memory for a batch of %d images", n);
    for (size_t i = 0; i < count; i++) {
        uint32_t words[4];
        rng_block(1, RNG_SHAPES, 0, 0, (uint32_t)i, words);
        images[i] = rng_normal(words[0], words[1]);
    }
    for (int i = 0; i < n; i++) {
        labels[i] = i % CLASSES;
        samples[i] = (uint32_t)i;
    }
    return 0;
}

/* The same images as bytes, on the device; the batch then names their rows. */
static int load_set(struct bench *bench, struct graph_shape shape, struct err *err) {
    static const double mean[CHANNELS_MAX] = {0.5, 0.5, 0.5}, deviation[CHANNELS_MAX] = {0.25, 0.25, 0.25};
    static float normal[CHANNELS_MAX][256];
    struct backend_batch *batch = &bench->batch;
    size_t count = (size_t)batch->n * (size_t)shape.c * (size_t)shape.h * (size_t)shape.w;
    uint8_t *pixels = malloc(count);
    if (!pixels || shape.c > CHANNELS_MAX) {
        free(pixels);
        return err_set(err, ERR_MEMORY, "no room for a data set of %d images of %d channels", batch->n, shape.c);
    }
    for (int value = 0; value < 256 * CHANNELS_MAX; value++)
        normal[value / 256][value % 256] = (float)((value % 256 / 255.0 - mean[0]) / deviation[0]);
    for (size_t i = 0; i < count; i++)
        pixels[i] = (uint8_t)(128 + 40 * batch->images[i]);
    struct backend_data data = {.n = batch->n,
                                .channels = shape.c,
                                .height = shape.h,
                                .width = shape.w,
                                .pixels = pixels,
                                .mean = mean,
                                .deviation = deviation,
                                .normal = normal};
    int rc = bench->module->load_data(bench->backend, SET_TRAIN, &data, err);
    free(pixels);
    free((void *)batch->images);
    batch->images = NULL;
    batch->set = SET_TRAIN;
    return rc;
}

static int step(struct bench *bench, struct err *err) {
    const struct backend_optimizer sgd = {.lr = 0.01f, .momentum = 0.9f, .weight_decay = 1e-4f};
    struct backend_result result;
    if (bench->training)
        return bench->module->train_step(bench->plan, &bench->batch, &sgd, &result, err);
    return bench->module->eval_step(bench->plan, &bench->batch, NULL, &result, err);
}

static int measure(struct bench *bench, double seconds, struct err *err) {
    static double times[STEPS_MAX];
    size_t n = 0;
    for (int i = 0; i < WARM_STEPS; i++)
        if (step(bench, err) != 0)
            return -1;
    double end = now_ms() + seconds * 1e3, before = now_ms();
    while ((n < 3 || before < end) && n < STEPS_MAX) {
        if (step(bench, err) != 0)
            return -1;
        double after = now_ms();
        times[n++] = after - before;
        before = after;
    }
    qsort(times, n, sizeof *times, by_value);
    double median = times[n / 2];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    struct backend_telemetry telemetry = {.step_s = -1};
    if (bench->module->telemetry && bench->module->telemetry(bench->backend, &telemetry, err) != 0)
        return -1;
    printf("{\"images_per_second\": %.1f, \"steps\": %zu, \"step_ms\": %.3f, \"memory_mb\": %.1f, \"rss_mb\": %.1f, \"device\": "
           "\"%s\", \"device_ms\": %.3f}\n",
           (double)bench->batch.n * 1e3 / median, n, median, (double)bench->module->memory(bench->plan) / 1e6,
           (double)usage.ru_maxrss / 1024, bench->info.device, telemetry.step_s < 0 ? -1 : telemetry.step_s * 1e3);
    return 0;
}

static enum spec_precision precision_of(const char *name) {
    enum spec_precision precision = PRECISION_TF32;
    while (precision > PRECISION_F32 && strcmp(spec_precision_name(precision), name) != 0)
        precision--;
    return precision;
}

static int run(struct bench *bench, char **argv, struct err *err) {
    struct spec_model model = {0};
    struct backend_plan_options plan_options = {.batch = atoi(argv[5]), .precision = precision_of(argv[4])};
    struct graph_shape shape;
    snprintf(model.preset, sizeof model.preset, "%s", argv[2]);
    bench->training = strcmp(argv[3], "train") == 0;
    plan_options.use = bench->training ? USE_TRAIN : USE_EVALUATE;
    if (sscanf(argv[7], "%dx%dx%d", &shape.c, &shape.h, &shape.w) != 3 || plan_options.batch < 1)
        return err_set(err, ERR_FIELD, "'%s' is not a shape such as 3x32x32, or '%s' not a batch size", argv[7], argv[5]);
    if (load_module(bench, argv[1], err) != 0 || graph_build(&model, shape, CLASSES, &bench->graph, err) != 0)
        return -1;
    struct backend_options options = {.threads = atoi(argv[6]), .device_id = bench->info.device_id};
    if (bench->module->open(&options, &bench->backend, err) != 0 ||
        bench->module->compile(bench->backend, bench->graph, &plan_options, &bench->plan, err) != 0)
        return -1;
    if (fill_parameters(bench, err) != 0 || make_batch(bench, plan_options.batch, shape, err) != 0)
        return -1;
    if (bench->module->load_data && load_set(bench, shape, err) != 0)
        return -1;
    return measure(bench, atof(argv[8]), err);
}

int main(int argc, char **argv) {
    struct bench bench = {0};
    struct err err = {0};
    if (argc != 9) {
        fprintf(stderr,
                "usage: bench_train MODULE PRESET train|eval f32|bf16|tf32 BATCH THREADS CHANNELSxHEIGHTxWIDTH SECONDS\n");
        return 2;
    }
    int rc = run(&bench, argv, &err);
    if (rc != 0)
        fprintf(stderr, "bench_train: %s\n", err.text);
    if (bench.module) {
        bench.module->plan_free(bench.plan);
        bench.module->close(bench.backend);
    }
    graph_free(bench.graph);
    free((void *)bench.batch.images);
    free((void *)bench.batch.labels);
    free((void *)bench.batch.samples);
    return rc != 0;
}
