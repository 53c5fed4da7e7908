/* The update: gradients' norms and clipping, the optimizer, the average, and what they did; and the table that tells the kernels
 * where each parameter lies. */
#include <stdlib.h>

#include "server/backend/cudnn/build.h"

/* Where the parts of region TABLE lie. */
struct table {
    CUdeviceptr chunks, params, partial;
};

static struct table table_of(const struct backend_plan *plan) {
    size_t chunks = (size_t)plan->gpu->chunks_n;
    struct table table = {.chunks = plan_region(plan, GPU_TABLE)};
    table.params = table.chunks + chunks * sizeof(struct kernel_chunk);
    table.partial = table.params + (size_t)plan->params_n * sizeof(struct kernel_param);
    return table;
}

/* --- programs --- */

static void norms(struct build *build, const struct table *table, CUdeviceptr results, CUdeviceptr statistics) {
    const struct gpu_plan *gpu = build->plan->gpu;
    EMIT(build, gradient_norms, blocks_of(gpu->chunks_n), .chunks = table->chunks,
         .gradient = plan_region(build->plan, GPU_GRADIENT), .partial = table->partial, .chunks_n = gpu->chunks_n);
    EMIT(build, gradient_clip, blocks_of(1), .params = table->params, .partial = table->partial, .step = build_step(build),
         .statistics = statistics, .result = results, .params_n = gpu->params_n);
}

/* The address of a region, or 0 when the plan has none. */
static CUdeviceptr optional(const struct backend_plan *plan, enum gpu_region region) {
    return plan->gpu->regions[region].bytes > 0 ? plan_region(plan, region) : 0;
}

void build_update(struct build *build) {
    const struct backend_plan *plan = build->plan;
    const struct table table = table_of(plan);
    CUdeviceptr results = plan_region(plan, GPU_RESULTS), statistics = results + plan_results(plan).statistics;
    if (plan->gpu->chunks_n == 0)
        return;
    norms(build, &table, results, statistics);
    EMIT(build, update, blocks_of(plan->gpu->chunks_n), .chunks = table.chunks, .step = build_step(build), .result = results,
         .gradient = plan_region(plan, GPU_GRADIENT), .master = plan_region(plan, GPU_MASTER),
         .momentum = optional(plan, GPU_MOMENTUM), .square = optional(plan, GPU_SQUARE), .average = optional(plan, GPU_AVERAGE),
         .working = optional(plan, GPU_WORKING), .partial = table.partial, .chunks_n = plan->gpu->chunks_n);
    EMIT(build, update_norms, blocks_for(plan->params_n), .params = table.params, .partial = table.partial,
         .statistics = statistics, .params_n = plan->params_n);
}

void build_narrow(struct build *build) {
    const struct backend_plan *plan = build->plan;
    if (plan->gpu->regions[GPU_WORKING].bytes > 0)
        EMIT(build, narrow, blocks_of(plan->gpu->chunks_n), .chunks = table_of(plan).chunks,
             .master = plan_region(plan, GPU_MASTER), .working = plan_region(plan, GPU_WORKING), .chunks_n = plan->gpu->chunks_n);
}

/* --- the table --- */

/* Number k of the chunks of a parameter. */
static struct kernel_chunk chunk_of(const struct backend_plan *plan, int param, int k) {
    enum { NARROW = 2 }; /* bytes */
    const struct gpu_param *place = &plan->gpu->params[param];
    int64_t start = (int64_t)k * GPU_CHUNK, left = place->count - start;
    int64_t size = place->narrow ? NARROW : (int64_t)sizeof(float);
    return (struct kernel_chunk){.first = place->first + start,
                                 .count = (int32_t)(left < GPU_CHUNK ? left : GPU_CHUNK),
                                 .param = param,
                                 .gradient = place->gradient < 0 ? -1 : place->gradient + start * size,
                                 .working = place->working < 0 ? -1 : place->working + start * NARROW,
                                 .narrow = place->narrow,
                                 .decays = plan->params[param].role == ROLE_WEIGHT};
}

static void fill(const struct backend_plan *plan, struct kernel_chunk *chunks, struct kernel_param *params) {
    int at = 0;
    for (int i = 0; i < plan->params_n; i++) {
        int n = (int)((plan->gpu->params[i].count + GPU_CHUNK - 1) / GPU_CHUNK);
        params[i] = (struct kernel_param){at, n};
        for (int k = 0; k < n; k++)
            chunks[at++] = chunk_of(plan, i, k);
    }
}

static int upload(struct backend_plan *plan, const struct kernel_chunk *chunks, const struct kernel_param *params,
                  struct err *err) {
    struct backend *backend = plan->backend;
    struct table table = table_of(plan);
    int failed = core_upload(backend, table.chunks, chunks, (size_t)plan->gpu->chunks_n * sizeof *chunks, err);
    if (failed == 0)
        failed = core_upload(backend, table.params, params, (size_t)plan->params_n * sizeof *params, err);
    return core_wait(backend, "copy the table of parameters", err) < 0 ? -1 : failed;
}

int update_upload(struct backend_plan *plan, struct err *err) {
    struct kernel_chunk *chunks = calloc((size_t)plan->gpu->chunks_n + 1, sizeof *chunks);
    struct kernel_param *params = calloc((size_t)plan->params_n + 1, sizeof *params);
    int failed = -1;
    if (chunks == NULL || params == NULL) {
        err_set(err, ERR_MEMORY, "No memory for %d chunks of parameters", plan->gpu->chunks_n);
    } else {
        fill(plan, chunks, params);
        failed = upload(plan, chunks, params, err);
    }
    free(chunks);
    free(params);
    return failed;
}
