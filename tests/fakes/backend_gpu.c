/* A module that calls itself cudnn and has two GPUs, GPU-a and GPU-b (one, if CUDA_VISIBLE_DEVICES names it), for tests of the
 * worker; where the file "third" is, GPU-c as well. It computes by the module at REF_MODULE (-D), from images that it puts
 * together itself out of the sets that it was given, as a GPU's module does.
 *
 * Files in the directory FAKE_GPU tell it to misbehave: unusable (GPU-a cannot be used), crash (when GPU-b is probed), garbage
 * (its texts have no end and are no UTF-8), stuck, stuck-evaluate (a step never ends), stuck-compile, stuck-load,
 * stuck-get, stuck-activation, stuck-telemetry (neither does the call), hold (a training step waits until the file
 * is gone), lost, lost-evaluate, lost-telemetry (the call says ERR_DEVICE; whoever calls again then aborts the process), mute
 * (telemetry fails otherwise), power (it counts no energy). A number in hold or lost... is that of the calls that go well before.
 * The energy is 1 J for each training step and 0.5 J for each other one. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/backend/backend.h"
#include "server/train/batch.h"

static const char *const ids[] = {"GPU-a", "GPU-b", "GPU-c"};

struct backend {
    const struct residuum_backend *ref;
    struct backend *inner;
    struct data data;
    int trainings, evaluations, tellings; /* calls */
    bool lost;
};

struct backend_plan {
    struct backend *backend;
    struct backend_plan *inner;
    float *images;
    int32_t *labels, *others;
    float *shares;
};

/* Whether there is a file, and so many calls are no fewer than the number in it; an empty one holds from the first on. */
static bool told_after(const char *name, int calls) {
    char path[4096];
    const char *directory = getenv("FAKE_GPU");
    snprintf(path, sizeof path, "%s/%s", directory != NULL ? directory : "", name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    int least = 0;
    bool number = fscanf(file, "%d", &least) == 1;
    fclose(file);
    return !number || calls >= least;
}

static bool told(const char *name) {
    return told_after(name, 0);
}

static void hang_if(const char *name) {
    while (told(name))
        pause();
}

/* A device that has failed may hang whoever speaks to it. */
static void must_live(const struct backend *backend) {
    if (backend->lost)
        abort();
}

static int lose(struct backend *backend, const char *when, struct err *err) {
    backend->lost = true;
    return err_set(err, ERR_DEVICE, "the fake GPU fell off the bus in %s", when);
}

static struct image_set *set_of(struct data *data, enum backend_set set) {
    return set == SET_TRAIN ? &data->train : set == SET_VALIDATION ? &data->validation : &data->test;
}

/* --- device --- */

static void describe(const char *id, struct backend_info *info) {
    snprintf(info->device_id, sizeof info->device_id, "%s", id);
    snprintf(info->device, sizeof info->device, "fake %s", id);
}

static int probe(int index, struct backend_info *ret_info, struct err *err) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    fprintf(stderr, "the fake's process %d tells of device %d\n", (int)getpid(), index);
    if (told("crash") && index == 1)
        abort();
    ret_info->devices = visible != NULL ? 1 : told("third") ? 3 : 2;
    describe(visible != NULL ? visible : ids[index], ret_info);
    if (told("unusable") && strcmp(ret_info->device_id, "GPU-a") == 0)
        return err_set(err, ERR_UNAVAILABLE, "GPU-a is too old");
    snprintf(ret_info->name, sizeof ret_info->name, "cudnn");
    snprintf(ret_info->version, sizeof ret_info->version, "9.0");
    ret_info->precisions = 1U << PRECISION_F32 | 1U << PRECISION_TF32;
    ret_info->memory_bytes = 1LL << 34;
    ret_info->compute = 90;
    snprintf(ret_info->driver, sizeof ret_info->driver, "580.65.06");
    snprintf(ret_info->profile, sizeof ret_info->profile, "{\"deviceName\":\"fake\"}");
    if (told("garbage")) {
        memset(ret_info->device, 0xff, sizeof ret_info->device);
        memset(ret_info->note, 'n', sizeof ret_info->note);
        memset(ret_info->profile, '[', sizeof ret_info->profile);
    }
    return 0;
}

static int open_device(const struct backend_options *options, struct backend **ret_backend, struct err *err) {
    struct backend_options inner = {.threads = 1, .device_id = "cpu"};
    struct backend *backend = calloc(1, sizeof *backend);
    void *module = dlopen(REF_MODULE, RTLD_NOW | RTLD_LOCAL);
    if (backend == NULL || module == NULL)
        abort();
    backend->ref = dlsym(module, "residuum_backend");
    fprintf(stderr, "the fake opens %s\n", options->device_id);
    *ret_backend = backend;
    return backend->ref->open(&inner, &backend->inner, err);
}

static void close_device(struct backend *backend) {
    if (backend == NULL)
        return;
    must_live(backend);
    for (int set = 0; set < BACKEND_SETS; set++) {
        free(set_of(&backend->data, (enum backend_set)set)->pixels);
        free(set_of(&backend->data, (enum backend_set)set)->labels);
    }
    backend->ref->close(backend->inner);
    free(backend);
}

static int load_data(struct backend *backend, enum backend_set set, const struct backend_data *data, struct err *err) {
    (void)err;
    hang_if("stuck-load");
    struct image_set *to = set_of(&backend->data, set);
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width, channels = (size_t)data->channels;
    backend->data.channels = data->channels;
    backend->data.height = data->height;
    backend->data.width = data->width;
    memcpy(backend->data.mean, data->mean, channels * sizeof *data->mean);
    memcpy(backend->data.deviation, data->deviation, channels * sizeof *data->deviation);
    memcpy(backend->data.normal, data->normal, channels * sizeof *data->normal);
    *to = (struct image_set){data->n, malloc((size_t)data->n * size), calloc((size_t)data->n, 1)};
    if (to->pixels == NULL || to->labels == NULL)
        abort();
    memcpy(to->pixels, data->pixels, (size_t)data->n * size);
    fprintf(stderr, "the fake has %d images in set %d\n", data->n, (int)set);
    return 0;
}

static int telemetry(struct backend *backend, struct backend_telemetry *ret_telemetry, struct err *err) {
    must_live(backend);
    hang_if("stuck-telemetry");
    if (told_after("lost-telemetry", backend->tellings++))
        return lose(backend, "telemetry", err);
    if (told("mute"))
        return err_set(err, ERR_BACKEND, "the fake is mute");
    *ret_telemetry = (struct backend_telemetry){.temperature_c = 61,
                                                .utilization = 0.5,
                                                .power_w = 200,
                                                .energy_j = 1000 + backend->trainings + backend->evaluations / 2.0,
                                                .memory_used_bytes = 1 << 30};
    if (told("power"))
        ret_telemetry->energy_j = ret_telemetry->temperature_c = -1;
    return 0;
}

/* --- plan --- */

static const struct residuum_backend *ref_of(const struct backend_plan *plan) {
    must_live(plan->backend);
    return plan->backend->ref;
}

static int compile(struct backend *backend, const struct graph *graph, const struct backend_plan_options *options,
                   struct backend_plan **ret_plan, struct err *err) {
    hang_if("stuck-compile");
    struct backend_plan *plan = calloc(1, sizeof *plan);
    const struct graph_shape *shape = &graph->nodes[0].out;
    size_t batch = (size_t)options->batch;
    if (plan == NULL)
        abort();
    plan->backend = backend;
    plan->images = malloc(batch * (size_t)shape->c * (size_t)shape->h * (size_t)shape->w * sizeof(float));
    plan->labels = malloc(batch * sizeof *plan->labels);
    plan->others = malloc(batch * sizeof *plan->others);
    plan->shares = malloc(batch * sizeof *plan->shares);
    if (options->nondeterministic)
        fprintf(stderr, "the fake compiles for %d images in any order\n", options->batch);
    *ret_plan = plan;
    return backend->ref->compile(backend->inner, graph, options, &plan->inner, err);
}

static void plan_free(struct backend_plan *plan) {
    if (plan == NULL)
        return;
    ref_of(plan)->plan_free(plan->inner);
    free(plan->images);
    free(plan->labels);
    free(plan->others);
    free(plan->shares);
    free(plan);
}

/* The batch with its images, put together from the set that it names. */
static struct backend_batch with_images(const struct backend_plan *plan, const struct backend_batch *batch) {
    const struct augment none = {0};
    struct data *data = &plan->backend->data;
    struct backend_batch whole = *batch;
    struct batch images = {batch->n, batch->samples, plan->images, plan->labels, plan->others, plan->shares};
    must_live(plan->backend);
    if (batch->images != NULL || batch->samples == NULL)
        abort();
    batch_fill(data, set_of(data, batch->set), batch->augment != NULL ? batch->augment : &none, &images);
    if (batch->shares != NULL && memcmp(batch->shares, plan->shares, (size_t)batch->n * sizeof *plan->shares) != 0)
        abort();
    whole.images = plan->images;
    return whole;
}

static void wait_while(const char *name, int calls) {
    if (told_after(name, calls))
        fprintf(stderr, "the fake waits\n");
    while (told_after(name, calls))
        usleep(5000);
}

static int train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                      struct backend_result *ret_result, struct err *err) {
    struct backend_batch whole = with_images(plan, batch);
    hang_if("stuck");
    wait_while("hold", plan->backend->trainings);
    if (told_after("lost", plan->backend->trainings++))
        return lose(plan->backend, "a training step", err);
    return ref_of(plan)->train_step(plan->inner, &whole, optimizer, ret_result, err);
}

static int eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                     struct backend_result *ret_result, struct err *err) {
    struct backend_batch whole = with_images(plan, batch);
    hang_if("stuck-evaluate");
    if (told_after("lost-evaluate", plan->backend->evaluations++))
        return lose(plan->backend, "an evaluation", err);
    return ref_of(plan)->eval_step(plan->inner, &whole, ret_softmax, ret_result, err);
}

static int get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, float *ret_values, struct err *err) {
    hang_if("stuck-get");
    return ref_of(plan)->get_tensor(plan->inner, kind, param, ret_values, err);
}

static int set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, const float *values, struct err *err) {
    return ref_of(plan)->set_tensor(plan->inner, kind, param, values, err);
}

static int get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    hang_if("stuck-activation");
    return ref_of(plan)->get_activation(plan->inner, node, n, ret_values, err);
}

static int statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err) {
    return ref_of(plan)->statistics(plan->inner, ret_rows, err);
}

static int64_t memory(const struct backend_plan *plan) {
    return ref_of(plan)->memory(plan->inner);
}

__attribute__((visibility("default"))) const struct residuum_backend residuum_backend = {
    .abi = BACKEND_ABI,
    .name = "cudnn",
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .load_data = load_data,
    .telemetry = telemetry,
    .compile = compile,
    .plan_free = plan_free,
    .train_step = train_step,
    .eval_step = eval_step,
    .get_tensor = get_tensor,
    .set_tensor = set_tensor,
    .get_activation = get_activation,
    .statistics = statistics,
    .memory = memory,
};
