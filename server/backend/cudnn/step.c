/* Steps: copies to the device (images only where they come from the host), the programs, one copy back, one wait. */
#include <string.h>

#include "server/backend/cudnn/core.h"

/* --- what a step puts into the stream --- */

static size_t region_bytes(const struct backend_plan *plan, enum gpu_region region) {
    return (size_t)plan->gpu->regions[region].bytes;
}

static int enqueue_images(const struct backend_plan *plan, enum source source, struct err *err) {
    struct backend *backend = plan->backend;
    if (core_upload(backend, plan_region(plan, GPU_STAGING), plan->staging, region_bytes(plan, GPU_STAGING), err) < 0)
        return -1;
    if (source == SOURCE_HOST &&
        core_upload(backend, plan_region(plan, GPU_IMAGES), plan->host_images, region_bytes(plan, GPU_IMAGES), err) < 0)
        return -1;
    return program_run(&plan->input[source], backend, err);
}

/* The softmax of a training step stays on the device: nobody asks for it. */
static int enqueue_results(const struct backend_plan *plan, enum pass pass, struct err *err) {
    size_t bytes = pass == PASS_TRAIN ? plan_results(plan).softmax : region_bytes(plan, GPU_RESULTS);
    return core_download(plan->backend, plan->results, plan_region(plan, GPU_RESULTS), bytes, err);
}

int step_enqueue(const struct backend_plan *plan, struct step_kind kind, struct err *err) {
    const struct program *train[] = {&plan->forward_train[kind.size], &plan->loss_train, &plan->backward[kind.size],
                                     &plan->update};
    const struct program *eval[] = {&plan->forward_eval, &plan->loss_eval};
    const struct program *const *programs = kind.pass == PASS_TRAIN ? train : eval;
    size_t n = kind.pass == PASS_TRAIN ? sizeof train / sizeof train[0] : sizeof eval / sizeof eval[0];
    if (enqueue_images(plan, kind.source, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (program_run(programs[i], plan->backend, err) < 0)
            return -1;
    return enqueue_results(plan, kind.pass, err);
}

/* --- before and after it --- */

static size_t image_count(const struct backend_plan *plan) {
    return (size_t)plan->image.c * (size_t)plan->image.h * (size_t)plan->image.w;
}

/* Images from the host go through pinned memory, taken by the first step that brings some. */
static int take_images(struct backend_plan *plan, const struct backend_batch *batch, struct err *err) {
    struct backend *backend = plan->backend;
    if (plan->host_images == NULL) {
        void *memory;
        size_t bytes = region_bytes(plan, GPU_IMAGES);
        if (core_check(backend, backend->driver.cuMemAllocHost(&memory, bytes), "reserve pinned memory for images", err) != 0)
            return -1;
        memset(memory, 0, bytes);
        plan->host_images = memory;
    }
    memcpy(plan->host_images, batch->images, (size_t)batch->n * image_count(plan) * sizeof(float));
    return 0;
}

/* The bf16 copies of masters that were set. */
static int narrow(struct backend_plan *plan, struct err *err) {
    if (plan->dirty && program_run(&plan->narrow, plan->backend, err) < 0)
        return -1;
    plan->dirty = false;
    return 0;
}

/* The device's own clock tells how long it was at it. */
static int run_timed(struct backend_plan *plan, struct step_kind kind, struct err *err) {
    struct backend *backend = plan->backend;
    struct gpu_driver *driver = &backend->driver;
    float elapsed_ms;
    if (core_check(backend, driver->cuEventRecord(backend->began, backend->stream), "time a step", err) < 0 ||
        capture_run(plan, kind, err) < 0 ||
        core_check(backend, driver->cuEventRecord(backend->ended, backend->stream), "time a step", err) < 0 ||
        core_wait(backend, "run a step", err) < 0 ||
        core_check(backend, driver->cuEventElapsedTime(&elapsed_ms, backend->began, backend->ended), "time a step", err) < 0)
        return -1;
    backend->step_s = (double)elapsed_ms / 1e3;
    return 0;
}

static int run(struct backend_plan *plan, enum pass pass, const struct backend_batch *batch,
               const struct backend_optimizer *optimizer, struct backend_result *ret_result, struct err *err) {
    bool full = plan->fused && pass == PASS_TRAIN && batch->n == plan->options.batch;
    struct step_kind kind = {pass, batch->images == NULL ? SOURCE_SET : SOURCE_HOST, full ? SIZE_FULL : SIZE_ANY};
    if (kind.source == SOURCE_HOST && take_images(plan, batch, err) < 0)
        return -1;
    batch_stage(plan, batch, optimizer);
    plan->evaluated = 0; /* also of a step that fails halfway */
    if (narrow(plan, err) < 0 || run_timed(plan, kind, err) < 0)
        return -1;
    struct kernel_result result;
    memcpy(&result, plan->results, sizeof result);
    *ret_result = (struct backend_result){result.loss_sum, result.correct};
    return 0;
}

/* --- the door --- */

int core_train_step(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer,
                    struct backend_result *ret_result, struct err *err) {
    if (plan->options.use != USE_TRAIN)
        return err_set(err, ERR_BACKEND, "A training step on a plan that was not compiled for training");
    if (optimizer->kind != OPTIMIZER_SGD && plan->options.optimizer == OPTIMIZER_SGD)
        return err_set(
            err, ERR_BACKEND,
            "A step of an optimizer with mean squares on a plan that was compiled for sgd; compile it for the optimizer");
    if (batch_check(plan, batch, err) < 0 || run(plan, PASS_TRAIN, batch, optimizer, ret_result, err) < 0)
        return -1;
    plan->trained = true;
    return 0;
}

int core_eval_step(struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                   struct backend_result *ret_result, struct err *err) {
    if (batch_check(plan, batch, err) < 0 || run(plan, PASS_EVAL, batch, NULL, ret_result, err) < 0)
        return -1;
    plan->evaluated = batch->n;
    if (ret_softmax != NULL)
        memcpy(ret_softmax, plan->results + plan_results(plan).softmax, (size_t)batch->n * (size_t)plan->classes * sizeof(float));
    return 0;
}

/* The rows come back with the results of every step. */
int core_statistics(struct backend_plan *plan, struct backend_statistics *ret_rows, struct err *err) {
    if (!plan->trained)
        return err_set(err, ERR_BACKEND, "There are no statistics: nothing was trained yet");
    for (int i = 0; i < plan->params_n; i++) {
        struct kernel_statistics row;
        memcpy(&row, plan->results + plan_results(plan).statistics + (size_t)i * sizeof row, sizeof row);
        ret_rows[i] = (struct backend_statistics){row.gradient, row.weight, row.update};
    }
    return 0;
}
