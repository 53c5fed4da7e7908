/* Convolutions and linear layers where cuDNN computes none: plain sums, eight input channels at a time. The channels of a group
 * that do not fill eight lanes, or do not start at a multiple of eight, are read one by one. */
#include "server/backend/cudnn/kernels/access.h"

/* Input channels that a weight row holds. */
FUNCTION int32_t row_inputs(const struct kernel_window *w) {
    return w->groups > 1 ? w->c / w->groups : w->cp;
}

/* Runs of up to eight channels in a weight row. */
FUNCTION int32_t runs_of(const struct kernel_window *w) {
    return (row_inputs(w) + LANES - 1) / LANES;
}

FUNCTION int32_t run_count(const struct kernel_window *w, int32_t run) {
    int32_t left = row_inputs(w) - run * LANES;
    return left < LANES ? left : LANES;
}

/* Index of weight [o][kh][kw][first of the run]. */
FUNCTION int64_t weight_at(const struct kernel_window *w, int64_t o, int32_t kh, int32_t kw, int32_t run) {
    return ((o * w->kernel_h + kh) * w->kernel_w + kw) * row_inputs(w) + run * LANES;
}

/* The first input channel that output channel o sees. */
FUNCTION int32_t first_input(const struct kernel_window *w, int32_t o) {
    return w->groups > 1 ? o / (w->oc / w->groups) * row_inputs(w) : 0;
}

/* Row or column of the input that a tap of an output's window is at; -1: outside. */
FUNCTION int32_t tap(int32_t at, int32_t step, int32_t k, int32_t dilation, int32_t pad, int32_t size) {
    int32_t place = at * step + k * dilation - pad;
    return place < size ? place : -1;
}

/* Row or column of the output whose window has a tap at a place of the input; -1: none. */
FUNCTION int32_t untap(int32_t at, int32_t step, int32_t k, int32_t dilation, int32_t pad, int32_t size) {
    int32_t place = at + pad - k * dilation;
    return place >= 0 && place % step == 0 && place / step < size ? place / step : -1;
}

FUNCTION int64_t pixel_index(int64_t image, int32_t h, int32_t w, int32_t y, int32_t x) {
    return (image * h + y) * w + x;
}

FUNCTION float sum_lanes(const struct lanes *lanes) {
    float sum = 0;
    for (int k = 0; k < LANES; k++)
        sum += lanes->v[k];
    return sum;
}

/* --- y --- */

/* Adds what the window's taps of an input pixel give to output channel o. */
FUNCTION void add_products(const struct kernel_conv *p, int64_t pixel, int32_t o, int32_t kh, int32_t kw, struct lanes *sums) {
    const struct kernel_window *w = &p->window;
    for (int32_t run = 0; run < runs_of(w); run++) {
        int32_t count = run_count(w, run);
        struct lanes x = load_some(p->x, pixel * w->cp + first_input(w, o) + run * LANES, count, p->bf16);
        struct lanes weights = load_some(p->w, weight_at(w, o, kh, kw, run), count, p->w_narrow);
        for (int k = 0; k < LANES; k++)
            sums->v[k] += x.v[k] * weights.v[k];
    }
}

FUNCTION float conv_value(const struct kernel_conv *p, int64_t pixel, int32_t o) {
    const struct kernel_window *w = &p->window;
    int32_t ox = (int32_t)(pixel % w->ow), oy = (int32_t)(pixel / w->ow % w->oh);
    struct lanes sums = no_lanes();
    for (int32_t kh = 0; kh < w->kernel_h; kh++)
        for (int32_t kw = 0; kw < w->kernel_w; kw++) {
            int32_t y = tap(oy, w->stride_h, kh, w->dilation_h, w->pad_h, w->h);
            int32_t x = tap(ox, w->stride_w, kw, w->dilation_w, w->pad_w, w->w);
            if (y >= 0 && x >= 0)
                add_products(p, pixel_index(pixel / w->ow / w->oh, w->h, w->w, y, x), o, kh, kw, &sums);
        }
    return sum_lanes(&sums);
}

KERNEL(conv) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        int64_t count = (int64_t)w->batch * w->oh * w->ow * w->ocp;
        for (int64_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int32_t o = (int32_t)(i % w->ocp);
            store(p->y, i, p->bf16 && !p->y_wide, o < w->oc ? conv_value(p, i / w->ocp, o) : 0);
        }
    }
}

/* --- dx: a thread has a run of channels of a group; what is behind the last group is padding --- */

/* Adds what one output pixel, seen through tap (kh, kw), gives to a run of the channels of a group. */
FUNCTION void add_outputs(const struct kernel_conv_back_x *p, int64_t pixel, int32_t group, int32_t run, int32_t kh, int32_t kw,
                          struct lanes *sums) {
    const struct kernel_window *w = &p->window;
    int32_t outputs = w->oc / w->groups;
    for (int32_t o = group * outputs; o < (group + 1) * outputs; o++) {
        float dy = load(p->dy, pixel * w->ocp + o, p->bf16 && !p->dy_wide);
        struct lanes weights = load_some(p->w, weight_at(w, o, kh, kw, run), run_count(w, run), p->w_narrow);
        for (int k = 0; k < LANES; k++)
            sums->v[k] += dy * weights.v[k];
    }
}

FUNCTION struct lanes conv_gradient(const struct kernel_conv_back_x *p, int64_t pixel, int32_t group, int32_t run) {
    const struct kernel_window *w = &p->window;
    int32_t x = (int32_t)(pixel % w->w), y = (int32_t)(pixel / w->w % w->h);
    struct lanes sums = no_lanes();
    for (int32_t kh = 0; kh < w->kernel_h; kh++)
        for (int32_t kw = 0; kw < w->kernel_w; kw++) {
            int32_t oy = untap(y, w->stride_h, kh, w->dilation_h, w->pad_h, w->oh);
            int32_t ox = untap(x, w->stride_w, kw, w->dilation_w, w->pad_w, w->ow);
            if (oy >= 0 && ox >= 0)
                add_outputs(p, pixel_index(pixel / w->w / w->h, w->oh, w->ow, oy, ox), group, run, kh, kw, &sums);
        }
    return sums;
}

KERNEL(conv_back_x) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        int32_t held = w->groups * row_inputs(w), runs = w->groups * runs_of(w), all = held < w->cp ? runs + 1 : runs;
        int64_t count = (int64_t)w->batch * w->h * w->w * all;
        for (int64_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int32_t number = (int32_t)(i % all), group = number / runs_of(w), run = number % runs_of(w);
            int32_t channel = number < runs ? group * row_inputs(w) + run * LANES : held;
            int32_t width = number < runs ? run_count(w, run) : w->cp - held;
            struct lanes dx = number < runs ? conv_gradient(p, i / all, group, run) : no_lanes();
            clear_padding(&dx, channel, w->c);
            add_some(p->dx, i / all * w->cp + channel, width, p->bf16, p->accumulate, &dx);
        }
    }
}

/* --- dw: a block has a run of weights, its threads share the output pixels --- */

struct weights {
    int32_t o, kh, kw, run;
};

FUNCTION struct weights weights_of(const struct kernel_window *w, int64_t number) {
    struct weights weights;
    int64_t row = number / runs_of(w), taps = (int64_t)w->kernel_h * w->kernel_w;
    weights.run = (int32_t)(number % runs_of(w));
    weights.kw = (int32_t)(row % w->kernel_w);
    weights.kh = (int32_t)(row % taps / w->kernel_w);
    weights.o = (int32_t)(row / taps);
    return weights;
}

FUNCTION struct lanes part_of_weights(const struct kernel_conv_back_w *p, struct weights weights, uint32_t thread) {
    const struct kernel_window *w = &p->window;
    int64_t pixels = (int64_t)w->batch * w->oh * w->ow;
    int32_t channel = first_input(w, weights.o) + weights.run * LANES, count = run_count(w, weights.run);
    struct lanes sums = no_lanes();
    for (int64_t pixel = thread; pixel < pixels && weights.o < w->oc; pixel += KERNEL_THREADS) {
        int32_t ox = (int32_t)(pixel % w->ow), oy = (int32_t)(pixel / w->ow % w->oh);
        int32_t y = tap(oy, w->stride_h, weights.kh, w->dilation_h, w->pad_h, w->h);
        int32_t x = tap(ox, w->stride_w, weights.kw, w->dilation_w, w->pad_w, w->w);
        if (y < 0 || x < 0)
            continue;
        int64_t from = pixel_index(pixel / w->ow / w->oh, w->h, w->w, y, x) * w->cp + channel;
        struct lanes inputs = load_some(p->x, from, count, p->bf16);
        float dy = load(p->dy, pixel * w->ocp + weights.o, p->bf16 && !p->dy_wide);
        for (int k = 0; k < LANES; k++)
            sums.v[k] += dy * inputs.v[k];
    }
    return sums;
}

KERNEL(conv_back_w) {
    SHARED(struct lanes, parts, [KERNEL_THREADS]);
    const struct kernel_window *w = &p->window;
    int64_t count = (int64_t)w->ocp * w->kernel_h * w->kernel_w * runs_of(w);
    for (int64_t number = launch->block_x; number < count; number += launch->blocks_x) {
        struct weights weights = weights_of(w, number);
        PHASE(thread) {
            parts[thread] = part_of_weights(p, weights, thread);
        }
        for (uint32_t half = KERNEL_THREADS / 2; half > 0; half /= 2)
            PHASE(thread) {
                for (int k = 0; k < LANES && thread < half; k++)
                    parts[thread].v[k] += parts[thread + half].v[k];
            }
        PHASE(thread) {
            int64_t at = weight_at(w, weights.o, weights.kh, weights.kw, weights.run);
            if (thread == 0)
                add_some(p->dw, at, run_count(w, weights.run), p->dw_narrow, 0, &parts[0]);
        }
    }
}
