/* What a whole job needs of a GPU's memory, and whether a device has that and computes in the job's precision. */
#include <stdio.h>

#include "server/graph/gpu_private.h"

static int arena_of(const struct graph *graph, const struct gpu_options *options, int64_t *ret_bytes, struct err *err) {
    struct gpu_plan *plan;
    if (gpu_plan_new(graph, options, &plan, err) < 0)
        return -1;
    *ret_bytes = plan->arena_bytes;
    gpu_plan_free(plan);
    return 0;
}

void gpu_options_of(const struct spec *spec, int batch, struct gpu_options *ret_train, struct gpu_options *ret_evaluate) {
    *ret_evaluate = (struct gpu_options){.batch = GRAPH_EVALUATION_BATCH, .precision = spec->precision};
    *ret_train = (struct gpu_options){.batch = batch,
                                      .precision = spec->precision,
                                      .train = true,
                                      .optimizer = spec->optimizer.kind,
                                      .average = spec->average_decay > 0.0};
}

/* What the job would need with another batch size. */
static int need_with(const struct gpu_job *job, int batch, int64_t memory_bytes, struct gpu_need *ret_need, struct err *err) {
    struct gpu_options train, evaluate;
    gpu_options_of(job->spec, batch, &train, &evaluate);
    struct gpu_need need = {.data_bytes = job->images * shape_count(job->image),
                            .workspace_bytes = gpu_workspace_bytes(memory_bytes),
                            .context_bytes = (int64_t)GPU_CONTEXT_MIB << 20};
    if (arena_of(job->graph, &train, &need.train_bytes, err) < 0 ||
        arena_of(job->graph, &evaluate, &need.evaluate_bytes, err) < 0)
        return -1;
    need.total_bytes = need.train_bytes + need.evaluate_bytes + need.data_bytes + need.workspace_bytes + need.context_bytes;
    *ret_need = need;
    return 0;
}

int gpu_need(const struct gpu_job *job, int64_t memory_bytes, struct gpu_need *ret_need, struct err *err) {
    return need_with(job, job->spec->batch_size, memory_bytes, ret_need, err);
}

/* Bisection: low fits (0 always does), high does not. */
static int largest_batch(const struct gpu_job *job, int64_t memory_bytes, int64_t room_bytes, int *ret_batch, struct err *err) {
    int low = 0, high = SPEC_BATCH_MAX + 1;
    while (high - low > 1) {
        int batch = low + (high - low) / 2;
        struct gpu_need need;
        if (need_with(job, batch, memory_bytes, &need, err) < 0)
            return -1;
        *(need.total_bytes <= room_bytes ? &low : &high) = batch;
    }
    *ret_batch = low;
    return 0;
}

int gpu_largest_batch(const struct gpu_job *job, int64_t memory_bytes, int64_t room_bytes) {
    int batch;
    return largest_batch(job, memory_bytes, room_bytes, &batch, NULL) < 0 ? -1 : batch;
}

static int check_precision(enum spec_precision precision, const struct gpu_profile *profile, struct err *err) {
    enum { TENSOR_CORES = 80 }; /* Ampere: bf16 and tf32 */
    if (precision == PRECISION_F32 || profile->compute >= TENSOR_CORES)
        return 0;
    return err_at(err, ERR_UNSUPPORTED, "/precision",
                  "Precision %s needs a GPU of compute capability 8.0 or more; %s has %d.%d. Use f32",
                  spec_precision_name(precision), profile->device, profile->compute / 10, profile->compute % 10);
}

/* What would help is the batch size; where that cannot be small enough, it is the network. */
static int refuse(const struct gpu_need *need, const struct gpu_profile *profile, int64_t room_bytes, int batch, int largest,
                  struct err *err) {
    char advice[160] = "not even one image at a time fits. Use a smaller network, smaller images or another device";
    if (largest > 0)
        snprintf(advice, sizeof advice, "the largest batch_size that fits is %d", largest);
    return err_at(err, ERR_UNSUPPORTED, largest > 0 ? "/batch_size" : "/model",
                  "Training with a batch_size of %d needs %.2f GiB (%.2f to train, %.2f to evaluate, %.2f of images, %.2f of "
                  "workspace, %.2f of CUDA itself), and %s has room for %.2f GiB; %s",
                  batch, graph_gib_up(need->total_bytes), graph_gib_up(need->train_bytes), graph_gib_up(need->evaluate_bytes),
                  graph_gib_up(need->data_bytes), graph_gib_up(need->workspace_bytes), graph_gib_up(need->context_bytes),
                  profile->device, graph_gib_down(room_bytes), advice);
}

int gpu_need_check(const struct gpu_job *job, const struct gpu_profile *profile, int64_t room_bytes, struct gpu_need *ret_need,
                   struct err *err) {
    struct gpu_need need;
    int largest;
    if (check_precision(job->spec->precision, profile, err) < 0 || gpu_need(job, profile->memory_bytes, &need, err) < 0)
        return -1;
    if (need.total_bytes > room_bytes) {
        if (largest_batch(job, profile->memory_bytes, room_bytes, &largest, err) < 0)
            return -1;
        return refuse(&need, profile, room_bytes, job->spec->batch_size, largest, err);
    }
    *ret_need = need;
    return 0;
}
