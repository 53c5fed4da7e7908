/* Convolutions and linear layers where cuDNN computes none, the one before the loss above all: plain sums, eight channels at a
 * time. With groups, an output channel sees channels that may neither start at a multiple of eight nor fill it. */
#include "server/backend/cudnn/kernels/access.h"

/* Input channels that an output channel sees: the last dimension of the weights. */
FUNCTION int32_t inputs_of(const struct kernel_window *w) {
    return w->groups > 1 ? w->c / w->groups : w->cp;
}

/* Runs of up to eight of them. */
FUNCTION uint32_t runs_of(const struct kernel_window *w) {
    return (uint32_t)(inputs_of(w) + LANES - 1) / LANES;
}

FUNCTION int32_t run_count(const struct kernel_window *w, int32_t run) {
    int32_t left = inputs_of(w) - run * LANES;
    return left < LANES ? left : LANES;
}

/* Index of weight [o][kh][kw][i]. */
FUNCTION int64_t weight_at(const struct kernel_window *w, int32_t o, int32_t kh, int32_t kw, int32_t i) {
    return (((int64_t)o * w->kernel_h + kh) * w->kernel_w + kw) * inputs_of(w) + i;
}

/* The first input channel that output channel o sees. */
FUNCTION int32_t first_input(const struct kernel_window *w, int32_t o) {
    return w->groups > 1 ? o / (w->oc / w->groups) * inputs_of(w) : 0;
}

/* A pixel of an image. */
struct pixel {
    int32_t image, y, x;
};

FUNCTION struct pixel pixel_of(uint32_t number, int32_t h, int32_t w) {
    struct pixel pixel;
    pixel.x = (int32_t)(number % (uint32_t)w);
    pixel.y = (int32_t)(number / (uint32_t)w % (uint32_t)h);
    pixel.image = (int32_t)(number / (uint32_t)w / (uint32_t)h);
    return pixel;
}

/* The input pixel under tap (kh, kw) of an output pixel's window, as its number among those of all images; -1: outside. */
FUNCTION int64_t input_of(const struct kernel_window *w, struct pixel out, int32_t kh, int32_t kw) {
    int32_t y = out.y * w->stride_h + kh * w->dilation_h - w->pad_h;
    int32_t x = out.x * w->stride_w + kw * w->dilation_w - w->pad_w;
    return y < 0 || y >= w->h || x < 0 || x >= w->w ? -1 : ((int64_t)out.image * w->h + y) * w->w + x;
}

/* The output pixel whose window has tap (kh, kw) on an input pixel; -1: none. */
FUNCTION int64_t output_of(const struct kernel_window *w, struct pixel in, int32_t kh, int32_t kw) {
    int32_t y = in.y + w->pad_h - kh * w->dilation_h, x = in.x + w->pad_w - kw * w->dilation_w;
    if (y < 0 || x < 0 || y % w->stride_h != 0 || x % w->stride_w != 0)
        return -1;
    y /= w->stride_h;
    x /= w->stride_w;
    return y >= w->oh || x >= w->ow ? -1 : ((int64_t)in.image * w->oh + y) * w->ow + x;
}

/* --- y: 32 threads have eight output channels of a pixel and share the taps and input channels; a block has eight such --- */

enum { OUTPUTS_AT_ONCE = KERNEL_CONV_OUTPUTS / LANES, TAP_THREADS = KERNEL_THREADS / OUTPUTS_AT_ONCE };

/* What one tap's run of input channels gives to eight output channels. */
FUNCTION void add_products(const struct kernel_conv *p, int64_t from, int32_t o, int32_t kh, int32_t kw, int32_t run,
                           struct lanes *sums) {
    const struct kernel_window *w = &p->window;
    int32_t count = run_count(w, run), same = w->groups == 1;
    struct lanes x = no_lanes();
    if (same)
        x = load_lanes(p->x, from * w->cp + run * LANES, p->bf16);
    UNROLLED(8) /* so that sums stay in registers */
    for (int k = 0; k < LANES; k++)
        if (o + k < w->oc) {
            struct lanes weights = load_some(p->w, weight_at(w, o + k, kh, kw, run * LANES), count, p->w_narrow);
            if (!same)
                x = load_some(p->x, from * w->cp + first_input(w, o + k) + run * LANES, count, p->bf16);
            for (int i = 0; i < LANES; i++)
                sums->v[k] += x.v[i] * weights.v[i];
        }
}

FUNCTION struct lanes part_of_outputs(const struct kernel_conv *p, struct pixel pixel, int32_t o, uint32_t first) {
    const struct kernel_window *w = &p->window;
    uint32_t runs = runs_of(w), columns = (uint32_t)w->kernel_w, terms = (uint32_t)w->kernel_h * columns * runs;
    struct lanes sums = no_lanes();
    for (uint32_t term = first; term < terms; term += TAP_THREADS) {
        int32_t kh = (int32_t)(term / runs / columns), kw = (int32_t)(term / runs % columns);
        int64_t from = input_of(w, pixel, kh, kw);
        if (from >= 0)
            add_products(p, from, o, kh, kw, (int32_t)(term % runs), &sums);
    }
    return sums;
}

KERNEL(conv) {
    SHARED(struct lanes, parts, [KERNEL_THREADS]);
    const struct kernel_window *w = &p->window;
    uint32_t count = groups_of((int64_t)w->batch * w->oh * w->ow, w->ocp);
    for (uint32_t first = launch->block_x * OUTPUTS_AT_ONCE; first < count; first += launch->blocks_x * OUTPUTS_AT_ONCE) {
        PHASE(thread) {
            uint32_t i = first + thread / TAP_THREADS;
            if (i < count)
                parts[thread] =
                    part_of_outputs(p, pixel_of(row_of(i, w->ocp), w->oh, w->ow), channel_of(i, w->ocp), thread % TAP_THREADS);
        }
        PHASE(thread) {
            uint32_t i = first + thread / LANES, at = thread / LANES * TAP_THREADS;
            float sum = 0;
            if (thread < OUTPUTS_AT_ONCE * LANES && i < count) {
                for (uint32_t part = at; part < at + TAP_THREADS; part++)
                    sum += parts[part].v[thread % LANES];
                store(p->y, value_of(i) + thread % LANES, p->bf16 && !p->y_wide, sum);
            }
        }
    }
}

/* --- dx: a thread has eight input channels of a pixel --- */

/* What output pixel `to`, under tap (kh, kw), gives to eight channels that all output channels see. */
FUNCTION void add_outputs(const struct kernel_conv_back_x *p, int64_t to, int32_t channel, int32_t kh, int32_t kw,
                          struct lanes *sums) {
    const struct kernel_window *w = &p->window;
    for (int32_t o = 0; o < w->oc; o++) {
        float dy = load(p->dy, to * w->ocp + o, p->bf16 && !p->dy_wide);
        struct lanes weights = load_lanes(p->w, weight_at(w, o, kh, kw, channel), p->w_narrow);
        for (int k = 0; k < LANES; k++)
            sums->v[k] += dy * weights.v[k];
    }
}

/* The same for one channel, which the output channels of its group see. */
FUNCTION float group_outputs(const struct kernel_conv_back_x *p, int64_t to, int32_t channel, int32_t kh, int32_t kw) {
    const struct kernel_window *w = &p->window;
    int32_t inputs = inputs_of(w), outputs = w->oc / w->groups, first = channel / inputs * outputs;
    float sum = 0;
    for (int32_t o = first; o < first + outputs; o++)
        sum += load(p->dy, to * w->ocp + o, p->bf16 && !p->dy_wide) *
               load(p->w, weight_at(w, o, kh, kw, channel % inputs), p->w_narrow);
    return sum;
}

FUNCTION struct lanes conv_gradient(const struct kernel_conv_back_x *p, struct pixel pixel, int32_t channel) {
    const struct kernel_window *w = &p->window;
    struct lanes sums = no_lanes();
    for (int32_t kh = 0; kh < w->kernel_h; kh++)
        for (int32_t kw = 0; kw < w->kernel_w; kw++) {
            int64_t to = output_of(w, pixel, kh, kw);
            if (to >= 0 && w->groups == 1)
                add_outputs(p, to, channel, kh, kw, &sums);
            UNROLLED(8) /* so that sums stay in registers */
            for (int k = 0; k < LANES; k++)
                if (to >= 0 && w->groups > 1 && channel + k < w->c)
                    sums.v[k] += group_outputs(p, to, channel + k, kh, kw);
        }
    return sums;
}

KERNEL(conv_back_x) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        uint32_t count = groups_of((int64_t)w->batch * w->h * w->w, w->cp);
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int32_t channel = channel_of(i, w->cp);
            struct lanes dx = conv_gradient(p, pixel_of(row_of(i, w->cp), w->h, w->w), channel);
            clear_padding(&dx, channel, w->c);
            add_lanes(p->dx, value_of(i), p->bf16, p->accumulate, &dx);
        }
    }
}

/* --- dw: a block has a run of weights, its threads share the output pixels --- */

struct weights {
    int32_t o, kh, kw, run;
};

FUNCTION struct weights weights_of(const struct kernel_window *w, uint32_t number) {
    uint32_t runs = runs_of(w), rows = (uint32_t)w->kernel_h, columns = (uint32_t)w->kernel_w;
    struct weights weights;
    weights.run = (int32_t)(number % runs);
    weights.kw = (int32_t)(number / runs % columns);
    weights.kh = (int32_t)(number / runs / columns % rows);
    weights.o = (int32_t)(number / runs / columns / rows);
    return weights;
}

FUNCTION struct lanes part_of_weights(const struct kernel_conv_back_w *p, struct weights weights, uint32_t thread) {
    const struct kernel_window *w = &p->window;
    uint32_t pixels = (uint32_t)((int64_t)w->batch * w->oh * w->ow);
    int32_t channel = first_input(w, weights.o) + weights.run * LANES, count = run_count(w, weights.run);
    struct lanes sums = no_lanes();
    for (uint32_t number = thread; number < pixels && weights.o < w->oc; number += KERNEL_THREADS) {
        int64_t from = input_of(w, pixel_of(number, w->oh, w->ow), weights.kh, weights.kw);
        if (from < 0)
            continue;
        struct lanes inputs = load_some(p->x, from * w->cp + channel, count, p->bf16);
        float dy = load(p->dy, (int64_t)number * w->ocp + weights.o, p->bf16 && !p->dy_wide);
        for (int k = 0; k < LANES; k++)
            sums.v[k] += dy * inputs.v[k];
    }
    return sums;
}

KERNEL(conv_back_w) {
    SHARED(struct lanes, parts, [KERNEL_THREADS]);
    const struct kernel_window *w = &p->window;
    uint32_t count = (uint32_t)(w->ocp * w->kernel_h * w->kernel_w) * runs_of(w);
    for (uint32_t number = launch->block_x; number < count; number += launch->blocks_x) {
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
            int64_t at = weight_at(w, weights.o, weights.kh, weights.kw, weights.run * LANES);
            if (thread == 0)
                add_some(p->dw, at, run_count(w, weights.run), p->dw_narrow, 0, &parts[0]);
        }
    }
}
