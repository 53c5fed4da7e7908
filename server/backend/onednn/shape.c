/* Ops that only move values: concat and flatten. */
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

/* Index of channel c's first pixel in a blocked image; its pixels are lanes elements apart. */
static size_t channel_at(const struct backend_plan *plan, const struct value *value, size_t c) {
    size_t lanes = (size_t)plan->lanes;
    return c / lanes * value->pixels * lanes + c % lanes;
}

/* Copies n elements that lie a stride apart on either side. */
static void copy_strided(void *dst, size_t dst_stride, const void *src, size_t src_stride, size_t n, bool bf16) {
    for (size_t i = 0; i < n && bf16; i++)
        ((uint16_t *)dst)[i * dst_stride] = ((const uint16_t *)src)[i * src_stride];
    for (size_t i = 0; i < n && !bf16; i++)
        ((float *)dst)[i * dst_stride] = ((const float *)src)[i * src_stride];
}

/* Copies part's channels to whole's channels from first on, or back; whole blocks at once where they meet. */
static void copy_channels(const struct backend_plan *plan, void *whole, const struct value *whole_value, size_t first, void *part,
                          const struct value *part_value, bool back) {
    size_t lanes = (size_t)plan->lanes, pixels = part_value->pixels, step = 1;
    for (size_t c = 0; c < (size_t)part_value->c; c += step) {
        bool block = first % lanes == 0 && c % lanes == 0 && (size_t)part_value->c - c >= lanes;
        void *a = element(whole, channel_at(plan, whole_value, first + c), whole_value->bf16);
        void *b = element(part, channel_at(plan, part_value, c), part_value->bf16);
        step = block ? lanes : 1;
        if (block)
            memcpy(back ? b : a, back ? a : b, pixels * lanes * (whole_value->bf16 ? 2 : 4));
        else
            copy_strided(back ? b : a, lanes, back ? a : b, lanes, pixels, whole_value->bf16);
    }
}

void concat_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *out = &plan->values[unit->out];
#pragma omp parallel for schedule(static)
    for (int image = 0; image < n; image++) {
        void *to = element(plan_value(plan, unit->out), (size_t)image * out->image, out->bf16);
        size_t first = 0;
        memset(to, 0, value_bytes(out, 1)); /* the lanes behind the last channel */
        for (int k = 0; k < unit->inputs_n; k++) {
            const struct value *in = &plan->values[unit->inputs[k]];
            void *from = element(plan_value(plan, unit->inputs[k]), (size_t)image * in->image, in->bf16);
            copy_channels(plan, to, out, first, from, in, false);
            first += (size_t)in->c;
        }
    }
}

void concat_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *out = &plan->values[unit->out];
#pragma omp parallel for schedule(static)
    for (int image = 0; image < n; image++) {
        void *from = element(plan_data(plan, unit->grads[0]), (size_t)image * out->image, out->bf16);
        size_t first = 0;
        for (int k = 0; k < unit->inputs_n; k++) {
            const struct value *in = &plan->values[unit->inputs[k]];
            void *to = element(plan_data(plan, unit->input_grads[k]), (size_t)image * in->image, in->bf16);
            if (to) {
                memset(to, 0, value_bytes(in, 1));
                copy_channels(plan, from, out, first, to, in, true);
            }
            first += (size_t)in->c;
        }
    }
}

/* The output's value number k is the input's number k in C,H,W order; the output's own order is 0, 1, 2, ... */
void flatten_forward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
#pragma omp parallel for schedule(static)
    for (int image = 0; image < n; image++) {
        void *to = element(plan_value(plan, unit->out), (size_t)image * out->image, out->bf16);
        const void *from = element_of(plan_value(plan, unit->inputs[0]), (size_t)image * in->image, in->bf16);
        memset(to, 0, value_bytes(out, 1));
        for (size_t c = 0; c < (size_t)in->c; c++)
            copy_strided(element(to, c * in->pixels, out->bf16), 1, element_of(from, channel_at(plan, in, c), in->bf16),
                         (size_t)plan->lanes, in->pixels, in->bf16);
    }
}

void flatten_backward(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    if (unit->input_grads[0] == NO_BUFFER)
        return;
#pragma omp parallel for schedule(static)
    for (int image = 0; image < n; image++) {
        void *to = element(plan_data(plan, unit->input_grads[0]), (size_t)image * in->image, in->bf16);
        const void *from = element_of(plan_data(plan, unit->grads[0]), (size_t)image * out->image, out->bf16);
        memset(to, 0, value_bytes(in, 1));
        for (size_t c = 0; c < (size_t)in->c; c++)
            copy_strided(element(to, channel_at(plan, in, c), in->bf16), (size_t)plan->lanes,
                         element_of(from, c * in->pixels, out->bf16), 1, in->pixels, in->bf16);
    }
}
