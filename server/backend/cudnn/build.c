/* Launches and addresses of a program that is being built: see build.h. */
#include "server/backend/cudnn/build.h"

#include <stdlib.h>

enum {
    SLICE_ROWS = 32,    /* at least so many rows are summed by one block */
    SLICE_CHANNELS = 64 /* by one block of a sliced sum */
};

/* --- launches --- */

struct blocks blocks_for(int64_t elements) {
    const int64_t block = (int64_t)KERNEL_THREADS * GPU_LANES;
    return blocks_of((elements + block - 1) / block);
}

struct blocks blocks_of(int64_t n) {
    return (struct blocks){program_blocks(n), 1};
}

struct blocks blocks_sliced(int slices, int channels) {
    return (struct blocks){(uint32_t)slices, (uint32_t)((channels + SLICE_CHANNELS - 1) / SLICE_CHANNELS)};
}

int slices_of(int64_t rows) {
    int64_t slices = rows / SLICE_ROWS;
    return (int)(slices < 1 ? 1 : slices > GPU_SLICES ? GPU_SLICES : slices);
}

void build_kernel(struct build *build, enum kernel kernel, struct blocks blocks, const void *params, size_t size) {
    if (build->failed == 0)
        build->failed = program_kernel(build->program, kernel, params, size, blocks.x, blocks.y, build->err);
}

void build_conv(struct build *build, struct conv_plan *conv) {
    if (build->failed == 0)
        build->failed = program_conv(build->program, conv, build->err);
}

void build_norm(struct build *build, struct norm_plan *norm) {
    if (build->failed == 0)
        build->failed = program_norm(build->program, norm, build->err);
}

static void free_owned(struct owned_plan owned) {
    conv_plan_free(owned.conv);
    norm_plan_free(owned.norm);
}

static int make_room(struct backend_plan *plan, struct err *err) {
    if (plan->owned_n < plan->owned_room)
        return 0;
    int wider = plan->owned_room == 0 ? 64 : 2 * plan->owned_room;
    struct owned_plan *grown = realloc(plan->owned, (size_t)wider * sizeof *grown);
    if (grown == NULL)
        return err_set(err, ERR_MEMORY, "No memory for %d plans of cuDNN", wider);
    plan->owned = grown;
    plan->owned_room = wider;
    return 0;
}

void build_keep(struct build *build, struct owned_plan owned) {
    struct backend_plan *plan = build->plan;
    if (make_room(plan, build->err) == 0) {
        plan->owned[plan->owned_n++] = owned;
        return;
    }
    free_owned(owned);
    build->failed = -1;
}

void build_free_owned(struct backend_plan *plan) {
    for (int i = 0; i < plan->owned_n; i++)
        free_owned(plan->owned[i]);
    free(plan->owned);
}

/* --- addresses --- */

const struct graph_node *build_node(const struct build *build, const struct gpu_unit *unit) {
    return &build->plan->nodes[unit->node];
}

const struct gpu_value *build_input(const struct build *build, const struct gpu_unit *unit, int k) {
    return &build->plan->gpu->units[unit->inputs[k]].value;
}

CUdeviceptr build_value(const struct build *build, const struct gpu_value *value) {
    return plan_at(build->plan, value->at);
}

CUdeviceptr build_gradient(const struct build *build, const struct gpu_value *value) {
    return plan_at(build->plan, value->gradient);
}

CUdeviceptr build_saved(const struct build *build, const struct gpu_unit *unit) {
    return unit->saved < 0 ? 0 : plan_at(build->plan, unit->saved);
}

CUdeviceptr build_master(const struct build *build, int param) {
    int64_t first = build->plan->gpu->params[param].first;
    return plan_region(build->plan, GPU_MASTER) + (CUdeviceptr)first * sizeof(float);
}

CUdeviceptr build_param_gradient(const struct build *build, int param) {
    return plan_region(build->plan, GPU_GRADIENT) + (CUdeviceptr)build->plan->gpu->params[param].gradient;
}

CUdeviceptr build_step(const struct build *build) {
    return plan_region(build->plan, GPU_STAGING);
}

CUdeviceptr build_samples(const struct build *build) {
    return plan_region(build->plan, GPU_STAGING) + KERNEL_STEP_BYTES;
}

int64_t build_rows(const struct build *build, const struct gpu_value *value) {
    return (int64_t)build->batch * value->shape.h * value->shape.w;
}

struct kernel_window build_window(const struct build *build, const struct gpu_unit *unit) {
    return unit_window(build->plan->gpu, build->plan->nodes, unit);
}
