/* Ops that work on one element at a time: add, activations, dropout, and the summing of gradients. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* This thread's stretch of count elements, in whole cache lines. */
static void stretch(size_t count, size_t *ret_first, size_t *ret_n) {
    size_t lines = round_up(count, ALIGNMENT) / ALIGNMENT, end;
    share(lines, omp_get_thread_num(), omp_get_num_threads(), ret_first, &end);
    *ret_first *= ALIGNMENT;
    end *= ALIGNMENT;
    *ret_n = *ret_first >= count ? 0 : (end > count ? count : end) - *ret_first;
}

void add_forward(struct backend_plan *plan, const struct unit *unit, int n, bool relu, void *dst) {
    const struct value *value = &plan->values[unit->out];
    const struct kernels *kernels = plan->backend->kernels;
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        void *to = element(dst, at, value->bf16);
        const void *sum = element_of(plan_value(plan, unit->inputs[0]), at, value->bf16);
        for (int k = 1; k < unit->inputs_n; k++) {
            bool last = k == unit->inputs_n - 1;
            kernels->add(to, sum, element_of(plan_value(plan, unit->inputs[k]), at, value->bf16), count, value->bf16,
                         last && relu);
            sum = to;
        }
        if (unit->inputs_n == 1)
            kernels->add(to, sum, NULL, count, value->bf16, relu);
    }
}

void add_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    const void *a = plan_data(plan, unit->grads[0]), *b = plan_data(plan, unit->grads[1]);
    const void *y = unit->relu ? plan_value(plan, unit->out) : NULL;
    if (!b && !y)
        return; /* the inputs' gradients are this one's buffer */
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        plan->backend->kernels->mask_sum(element(plan_data(plan, unit->masked), at, value->bf16), element_of(a, at, value->bf16),
                                         element_of(b, at, value->bf16), element_of(y, at, value->bf16), count, value->bf16);
    }
}

void sum_step(struct backend_plan *plan, const struct step *step, int n) {
    const struct value *value = &plan->values[step->value];
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        plan->backend->kernels->mask_sum(element(plan_data(plan, step->dst), at, value->bf16),
                                         element_of(plan_data(plan, step->a), at, value->bf16),
                                         element_of(plan_data(plan, step->b), at, value->bf16), NULL, count, value->bf16);
    }
}

/* The channels of a row's block. */
static int channels_of(const struct backend_plan *plan, const struct value *value, size_t row) {
    int left = value->c - (int)(row % (size_t)value->blocks) * plan->lanes;
    return left < plan->lanes ? left : plan->lanes;
}

void act_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    enum spec_activation kind = plan->nodes[unit->node].activation;
    const void *x = plan_value(plan, unit->inputs[0]);
    void *y = plan_value(plan, unit->out);
    size_t rows = (size_t)n * (size_t)value->blocks, size = value->pixels * (size_t)plan->lanes;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++)
        plan->backend->kernels->act(element(y, r * size, value->bf16), element_of(x, r * size, value->bf16), size,
                                    channels_of(plan, value, r), value->bf16, kind);
}

void act_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *value = &plan->values[unit->out];
    enum spec_activation kind = plan->nodes[unit->node].activation;
    const void *x = plan_value(plan, unit->inputs[0]);
    const void *a = plan_data(plan, unit->grads[0]), *b = plan_data(plan, unit->grads[1]);
    void *dst = plan_data(plan, unit->input_grads[0]);
    if (!dst)
        return;
#pragma omp parallel
    {
        size_t at, count;
        stretch((size_t)n * value->image, &at, &count);
        plan->backend->kernels->act_back(element(dst, at, value->bf16), element_of(a, at, value->bf16),
                                         element_of(b, at, value->bf16), element_of(x, at, value->bf16), count, value->bf16,
                                         kind);
    }
}

/* The row's key of random numbers. */
static struct drop drop_of(const struct backend_plan *plan, const struct value *value, const struct backend_batch *batch,
                           int node, size_t row) {
    size_t blocks = (size_t)value->blocks;
    return (struct drop){.seed = batch->seed,
                         .place = batch->epoch | (uint32_t)node << 16,
                         .sample = batch->samples[row / blocks],
                         .channel = (uint32_t)(row % blocks) * (uint32_t)plan->lanes,
                         .rate = (float)plan->nodes[node].rate,
                         .keep = (float)(1.0 / (1.0 - plan->nodes[node].rate))};
}

void dropout_run(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch, void *dst,
                 const void *src, bool training) {
    const struct value *value = &plan->values[unit->out];
    size_t rows = (size_t)batch->n * (size_t)value->blocks, size = value->pixels * (size_t)plan->lanes;
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < rows; r++) {
        void *to = element(dst, r * size, value->bf16);
        const void *from = element_of(src, r * size, value->bf16);
        struct drop drop = drop_of(plan, value, batch, unit->node, r);
        if (training)
            plan->backend->kernels->drop(to, from, value->pixels, value->bf16, &drop);
        else
            memcpy(to, from, size * (value->bf16 ? 2 : 4));
    }
}
