/* The output of a node in the last evaluation: from the device's [n, h, w, channels] to N,C,H,W. */
#include <stdlib.h>

#include "server/backend/cudnn/build.h"
#include "server/backend/cudnn/layout.h"

/* Runs what a unit skipped: the value that a fused-away node would have given lies in region SCRATCH then. */
static int make_fused(struct backend_plan *plan, const struct gpu_unit *unit, int node, struct gpu_value *ret_value,
                      struct err *err) {
    struct program program = {0};
    struct build build = {.plan = plan,
                          .batch = plan->options.batch,
                          .bf16 = plan->options.precision == PRECISION_BF16,
                          .program = &program,
                          .err = err};
    forward_fused(&build, unit, node);
    int failed = build.failed;
    if (failed == 0)
        failed = program_run(&program, plan->backend, err);
    program_done(&program);
    *ret_value = unit->value;
    ret_value->at = plan->gpu->regions[GPU_SCRATCH].at;
    return failed;
}

static int find(struct backend_plan *plan, int node, struct gpu_value *ret_value, struct err *err) {
    const struct gpu_unit *unit = &plan->gpu->units[plan->gpu->unit_of[node]];
    if (unit->out != node)
        return make_fused(plan, unit, node, ret_value, err);
    *ret_value = unit->value;
    return 0;
}

static void unpack(const void *from, bool bf16, const struct gpu_value *value, int n, float *to) {
    size_t pixels = (size_t)value->shape.h * (size_t)value->shape.w, channels = (size_t)value->channels;
    for (size_t image = 0; image < (size_t)n; image++)
        for (size_t c = 0; c < (size_t)value->shape.c; c++)
            for (size_t pixel = 0; pixel < pixels; pixel++)
                *to++ = layout_element(from, (image * pixels + pixel) * channels + c, bf16);
}

static int copy(struct backend_plan *plan, const struct gpu_value *value, int n, float *ret_values, struct err *err) {
    size_t element = (size_t)gpu_element_bytes(plan->gpu, value);
    size_t bytes = (size_t)value->count / (size_t)plan->options.batch * (size_t)n * element;
    void *values = malloc(bytes);
    if (values == NULL)
        return err_set(err, ERR_MEMORY, "No memory for copying %zu bytes of a layer's output", bytes);
    int failed = core_download(plan->backend, values, plan_at(plan, value->at), bytes, err);
    if (core_wait(plan->backend, "copy a layer's output from the device", err) < 0)
        failed = -1;
    if (failed == 0)
        unpack(values, element == sizeof(uint16_t), value, n, ret_values);
    free(values);
    return failed;
}

static int check(const struct backend_plan *plan, int node, int n, struct err *err) {
    if (plan->options.use == USE_EVALUATE)
        return err_set(err, ERR_BACKEND, "A plan for evaluation keeps no outputs; compile one for inspection");
    if (node < 0 || node >= plan->nodes_n)
        return err_set(err, ERR_BACKEND, "There is no layer number %d; the graph has %d", node, plan->nodes_n);
    if (n < 1 || n > plan->evaluated)
        return err_set(err, ERR_BACKEND, "The output of '%s' for %d images was asked for; the last evaluation had %d",
                       plan->nodes[node].name, n, plan->evaluated);
    return 0;
}

int core_get_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    struct gpu_value value;
    if (check(plan, node, n, err) < 0)
        return -1;
    if (plan->nodes[node].op == OP_LOSS) { /* the softmax came back with the results */
        memcpy(ret_values, plan->results + plan_results(plan).softmax, (size_t)n * (size_t)plan->classes * sizeof(float));
        return 0;
    }
    if (find(plan, node, &value, err) < 0)
        return -1;
    return copy(plan, &value, n, ret_values, err);
}
