/* What each kernel reads and writes, by the words of kernels.h: one function a kernel, one row a part of memory. */
#include <string.h>

#include "server/backend/cudnn/kernels/kernels.h"
#include "tests/gpu/double/double.h"

enum { VECTOR_ALIGN = 16 };

/* --- parts --- */

static size_t element(int32_t bf16) {
    return bf16 ? 2 : 4;
}

static void reads(struct op *op, uint64_t at, int64_t bytes, const char *what) {
    op_access(op, at, (size_t)bytes, true, false, what);
}

/* All of it, in elements of a size. */
static void writes(struct op *op, uint64_t at, int64_t count, size_t size, const char *what) {
    op_access(op, at, (size_t)count * size, false, true, what);
    if (at != 0 && count > 0)
        op->accesses[op->accesses_n - 1].element = size;
}

/* Some of it, or all of it on top of what is there. */
static void updates(struct op *op, uint64_t at, int64_t bytes, bool also_reads, const char *what) {
    op_access(op, at, (size_t)bytes, also_reads, true, what);
}

static void aligned(const struct op *op, uint64_t at, const char *what) {
    if (at % VECTOR_ALIGN != 0)
        violation("%s, %s: address %#llx is not aligned to %d bytes", op->name, what, (unsigned long long)at, VECTOR_ALIGN);
}

static void value_in(struct op *op, uint64_t at, int64_t count, int32_t bf16, const char *what) {
    aligned(op, at, what);
    reads(op, at, count * (int64_t)element(bf16), what);
}

static void value_out(struct op *op, uint64_t at, int64_t count, int32_t bf16, int32_t accumulate, const char *what) {
    aligned(op, at, what);
    if (accumulate)
        updates(op, at, count * (int64_t)element(bf16), true, what);
    else
        writes(op, at, count, element(bf16), what);
}

/* --- what stands in device memory --- */

/* A struct of the device, once it can be looked at. */
static const void *look(uint64_t at, bool now) {
    return now && at != 0 ? memory_shadow(at) : NULL;
}

static void step_in(struct op *op, uint64_t step) {
    reads(op, step, sizeof(struct kernel_step), "step");
}

static void samples_in(struct op *op, uint64_t samples, int32_t batch) {
    reads(op, samples, batch * (int64_t)sizeof(struct kernel_sample), "samples");
}

/* Bytes of so many for each of the step's images; unknown yet: the rest of the memory. */
static int64_t for_images(uint64_t step, int64_t bytes, uint64_t at, bool now) {
    const struct kernel_step *s = look(step, now);
    return s != NULL ? s->n * bytes : (int64_t)memory_left(at);
}

/* The rows of the data set that the samples name. */
static void set_in(struct op *op, uint64_t step, uint64_t samples, int32_t c, int64_t image, bool now) {
    const struct kernel_step *s = look(step, now);
    const struct kernel_sample *rows = look(samples, now);
    if (s == NULL || rows == NULL)
        return;
    int64_t last = 0;
    for (int32_t i = 0; i < s->n; i++)
        last = rows[i].sample > last ? rows[i].sample : last;
    reads(op, s->pixels, (last + 1) * image, "pixels");
    reads(op, s->normal, c * (int64_t)(256 * sizeof(float)), "normal");
    reads(op, s->moments, c * (int64_t)(2 * sizeof(double)), "moments");
}

/* How far the chunks reach into a region, in bytes. */
struct reach {
    int64_t flat, gradient, working;
};

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static struct reach chunks_reach(uint64_t chunks, int32_t n, bool now) {
    struct reach reach = {-1, -1, -1};
    const struct kernel_chunk *chunk = look(chunks, now);
    for (int32_t i = 0; chunk != NULL && i < n; i++) {
        reach.flat = larger(reach.flat, (chunk[i].first + chunk[i].count) * (int64_t)sizeof(float));
        if (chunk[i].gradient >= 0)
            reach.gradient = larger(reach.gradient, chunk[i].gradient + chunk[i].count * (int64_t)element(chunk[i].narrow));
        if (chunk[i].working >= 0)
            reach.working = larger(reach.working, chunk[i].working + chunk[i].count * 2);
    }
    return reach;
}

static void chunks_in(struct op *op, uint64_t chunks, int32_t n) {
    reads(op, chunks, n * (int64_t)sizeof(struct kernel_chunk), "chunks");
}

static int64_t reach_or_rest(int64_t reach, uint64_t at, bool now) {
    return now ? larger(reach, 0) : (int64_t)memory_left(at);
}

static int64_t window_in(const struct kernel_window *w) {
    return (int64_t)w->batch * w->h * w->w * w->cp;
}

static int64_t window_out(const struct kernel_window *w) {
    return (int64_t)w->batch * w->oh * w->ow * w->ocp;
}

static int64_t window_weights(const struct kernel_window *w) {
    return (int64_t)w->ocp * w->kernel_h * w->kernel_w * (w->groups > 1 ? w->c / w->groups : w->cp);
}

/* --- kernels --- */

#define SPANS(name) static void name##_spans(struct op *op, const struct kernel_##name *p, bool now __attribute__((unused)))

SPANS(images) {
    int64_t image = (int64_t)p->c * p->h * p->w;
    reads(op, p->images, for_images(p->step, image * (int64_t)sizeof(float), p->images, now), "images");
    step_in(op, p->step);
    value_out(op, p->y, (int64_t)p->batch * p->h * p->w * p->cp, p->bf16, 0, "y");
}

SPANS(grey) {
    set_in(op, p->step, p->samples, p->c, (int64_t)p->c * p->h * p->w, now);
    step_in(op, p->step);
    samples_in(op, p->samples, p->batch);
    updates(op, p->grey, p->batch * (int64_t)sizeof(double), false, "grey");
}

SPANS(augment) {
    set_in(op, p->step, p->samples, p->c, (int64_t)p->c * p->h * p->w, now);
    step_in(op, p->step);
    samples_in(op, p->samples, p->batch);
    reads(op, p->grey, p->batch * (int64_t)sizeof(double), "grey");
    value_out(op, p->y, (int64_t)p->batch * p->h * p->w * p->cp, p->bf16, 0, "y");
}

SPANS(norm_partial) {
    int64_t image = (int64_t)p->pixels * p->cp * (int64_t)element(p->bf16);
    aligned(op, p->x, "x");
    reads(op, p->x, for_images(p->step, image, p->x, now), "x");
    step_in(op, p->step);
    writes(op, p->partial, (int64_t)p->slices * 2 * p->cp, sizeof(double), "partial");
}

SPANS(norm_finish) {
    reads(op, p->partial, (int64_t)p->slices * 2 * p->cp * (int64_t)sizeof(double), "partial");
    step_in(op, p->step);
    writes(op, p->saved, 2 * (int64_t)p->cp, sizeof(float), "saved");
    updates(op, p->running_mean, p->cp * (int64_t)sizeof(float), true, "running mean");
    updates(op, p->running_var, p->cp * (int64_t)sizeof(float), true, "running variance");
}

SPANS(norm_apply) {
    const int64_t vector = p->cp * (int64_t)sizeof(float);
    value_in(op, p->x, p->rows * p->cp, p->bf16, "x");
    value_in(op, p->add, p->rows * p->cp, p->bf16, "add");
    value_out(op, p->y, p->rows * p->cp, p->bf16, 0, "y");
    reads(op, p->saved, 2 * vector, "saved");
    if (p->saved == 0) {
        reads(op, p->running_mean, vector, "running mean");
        reads(op, p->running_var, vector, "running variance");
    }
    reads(op, p->gamma, vector, "gamma");
    reads(op, p->beta, vector, "beta");
}

SPANS(back_partial) {
    int64_t saved = 2 * (p->groups > 0 ? (int64_t)p->batch * p->groups : p->cp);
    value_in(op, p->dy, p->rows * p->cp, p->bf16 && !p->dy_wide, "dy");
    value_in(op, p->y, p->rows * p->cp, p->bf16, "y");
    value_in(op, p->x, p->rows * p->cp, p->bf16, "x");
    reads(op, p->saved, saved * (int64_t)sizeof(float), "saved");
    writes(op, p->partial, (int64_t)p->slices * 2 * p->cp, sizeof(double), "partial");
}

SPANS(back_finish) {
    reads(op, p->partial, (int64_t)p->slices * 2 * p->cp * (int64_t)sizeof(double), "partial");
    writes(op, p->a, p->cp, sizeof(float), "a");
    writes(op, p->b, p->cp, sizeof(float), "b");
}

SPANS(norm_back) {
    const int64_t vector = p->cp * (int64_t)sizeof(float);
    value_in(op, p->dy, p->rows * p->cp, p->bf16, "dy");
    value_in(op, p->y, p->rows * p->cp, p->bf16, "y");
    value_in(op, p->x, p->rows * p->cp, p->bf16, "x");
    reads(op, p->saved, 2 * vector, "saved");
    reads(op, p->gamma, vector, "gamma");
    reads(op, p->sum_g, vector, "sum_g");
    reads(op, p->sum_gx, vector, "sum_gx");
    step_in(op, p->step);
    value_out(op, p->dx, p->rows * p->cp, p->bf16, p->accumulate_dx, "dx");
    value_out(op, p->dadd, p->rows * p->cp, p->bf16, p->accumulate_dadd, "dadd");
}

SPANS(group_statistics) {
    value_in(op, p->x, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "x");
    writes(op, p->saved, 2 * (int64_t)p->batch * p->groups, sizeof(float), "saved");
}

SPANS(group_apply) {
    value_in(op, p->x, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "x");
    value_out(op, p->y, (int64_t)p->batch * p->pixels * p->cp, p->bf16, 0, "y");
    reads(op, p->saved, 2 * (int64_t)p->batch * p->groups * (int64_t)sizeof(float), "saved");
    reads(op, p->gamma, p->cp * (int64_t)sizeof(float), "gamma");
    reads(op, p->beta, p->cp * (int64_t)sizeof(float), "beta");
}

SPANS(group_sums) {
    value_in(op, p->dy, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "dy");
    value_in(op, p->x, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "x");
    reads(op, p->saved, 2 * (int64_t)p->batch * p->groups * (int64_t)sizeof(float), "saved");
    reads(op, p->gamma, p->cp * (int64_t)sizeof(float), "gamma");
    writes(op, p->sums, 2 * (int64_t)p->batch * p->groups, sizeof(float), "sums");
}

SPANS(group_back) {
    value_in(op, p->dy, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "dy");
    value_in(op, p->x, (int64_t)p->batch * p->pixels * p->cp, p->bf16, "x");
    reads(op, p->saved, 2 * (int64_t)p->batch * p->groups * (int64_t)sizeof(float), "saved");
    reads(op, p->gamma, p->cp * (int64_t)sizeof(float), "gamma");
    reads(op, p->sums, 2 * (int64_t)p->batch * p->groups * (int64_t)sizeof(float), "sums");
    value_out(op, p->dx, (int64_t)p->batch * p->pixels * p->cp, p->bf16, p->accumulate, "dx");
}

SPANS(act) {
    value_in(op, p->x, p->rows * p->cp, p->bf16, "x");
    value_out(op, p->y, p->rows * p->cp, p->bf16, 0, "y");
}

SPANS(act_back) {
    value_in(op, p->dy, p->rows * p->cp, p->bf16, "dy");
    value_in(op, p->x, p->rows * p->cp, p->bf16, "x");
    value_out(op, p->dx, p->rows * p->cp, p->bf16, p->accumulate, "dx");
}

SPANS(add) {
    value_in(op, p->a, p->count, p->bf16, "a");
    value_in(op, p->b, p->count, p->bf16, "b");
    value_out(op, p->y, p->count, p->bf16, 0, "y");
}

SPANS(mask) {
    value_in(op, p->dy, p->count, p->bf16, "dy");
    value_in(op, p->y, p->count, p->bf16, "y");
    value_out(op, p->dx, p->count, p->bf16, p->accumulate, "dx");
}

/* Only some channels of the target. */
SPANS(channels) {
    value_in(op, p->from, p->rows * p->from_cp, p->bf16, "from");
    value_out(op, p->to, p->rows * p->to_cp, p->bf16, 1, "to");
}

SPANS(bias) {
    value_out(op, p->y, p->rows * p->cp, p->bf16 && !p->y_wide, 1, "y");
    reads(op, p->bias, p->cp * (int64_t)sizeof(float), "bias");
}

SPANS(dropout) {
    int64_t count = (int64_t)p->batch * p->h * p->w * p->cp;
    value_in(op, p->x, count, p->bf16, "x");
    value_out(op, p->y, count, p->bf16, p->accumulate, "y");
    step_in(op, p->step);
    samples_in(op, p->samples, p->batch);
}

SPANS(pool_max) {
    value_in(op, p->x, window_in(&p->window), p->bf16, "x");
    value_out(op, p->y, window_out(&p->window), p->bf16, 0, "y");
    writes(op, p->saved, window_out(&p->window), sizeof(uint16_t), "saved");
}

SPANS(pool_max_back) {
    value_in(op, p->dy, window_out(&p->window), p->bf16, "dy");
    reads(op, p->saved, window_out(&p->window) * (int64_t)sizeof(uint16_t), "saved");
    value_out(op, p->dx, window_in(&p->window), p->bf16, p->accumulate, "dx");
}

SPANS(pool_avg) {
    value_in(op, p->x, p->back ? window_out(&p->window) : window_in(&p->window), p->bf16, "x");
    value_out(op, p->y, p->back ? window_in(&p->window) : window_out(&p->window), p->bf16, p->accumulate, "y");
}

SPANS(shortcut) {
    value_in(op, p->x, p->back ? window_out(&p->window) : window_in(&p->window), p->bf16, "x");
    value_out(op, p->y, p->back ? window_in(&p->window) : window_out(&p->window), p->bf16, p->accumulate, "y");
}

SPANS(flatten) {
    int64_t image = (int64_t)p->batch * p->h * p->w * p->cp, flat = (int64_t)p->batch * p->flat_cp;
    value_in(op, p->x, p->back ? flat : image, p->bf16, "x");
    value_out(op, p->y, p->back ? image : flat, p->bf16, p->accumulate, "y");
}

SPANS(conv) {
    value_in(op, p->x, window_in(&p->window), p->bf16, "x");
    value_in(op, p->w, window_weights(&p->window), p->w_narrow, "w");
    value_out(op, p->y, window_out(&p->window), p->bf16 && !p->y_wide, 0, "y");
}

SPANS(conv_back_x) {
    value_in(op, p->dy, window_out(&p->window), p->bf16 && !p->dy_wide, "dy");
    value_in(op, p->w, window_weights(&p->window), p->w_narrow, "w");
    value_out(op, p->dx, window_in(&p->window), p->bf16, p->accumulate, "dx");
}

SPANS(conv_back_w) {
    value_in(op, p->x, window_in(&p->window), p->bf16, "x");
    value_in(op, p->dy, window_out(&p->window), p->bf16 && !p->dy_wide, "dy");
    value_out(op, p->dw, window_weights(&p->window), p->dw_narrow, 0, "dw");
}

/* Losses and softmax are of the first n images. */
SPANS(loss) {
    value_in(op, p->logits, (int64_t)p->batch * p->cp, p->bf16, "logits");
    step_in(op, p->step);
    samples_in(op, p->samples, p->batch);
    updates(op, p->softmax, (int64_t)p->batch * p->classes * (int64_t)sizeof(float), false, "softmax");
    updates(op, p->losses, p->batch * (int64_t)sizeof(float), false, "losses");
    updates(op, p->rights, p->batch * (int64_t)sizeof(int32_t), false, "rights");
    value_out(op, p->dlogits, (int64_t)p->batch * p->cp, p->bf16, 0, "dlogits");
}

SPANS(loss_sum) {
    reads(op, p->losses, for_images(p->step, sizeof(float), p->losses, now), "losses");
    reads(op, p->rights, for_images(p->step, sizeof(int32_t), p->rights, now), "rights");
    step_in(op, p->step);
    updates(op, p->result, sizeof(struct kernel_result), true, "result");
}

SPANS(gradient_norms) {
    struct reach reach = chunks_reach(p->chunks, p->chunks_n, now);
    chunks_in(op, p->chunks, p->chunks_n);
    reads(op, p->gradient, reach_or_rest(reach.gradient, p->gradient, now), "gradient");
    updates(op, p->partial, p->chunks_n * (int64_t)(3 * sizeof(double)), false, "partial");
}

SPANS(gradient_clip) {
    reads(op, p->params, p->params_n * (int64_t)sizeof(struct kernel_param), "params");
    reads(op, p->partial, (int64_t)memory_left(p->partial), "partial");
    step_in(op, p->step);
    updates(op, p->statistics, p->params_n * (int64_t)sizeof(struct kernel_statistics), false, "statistics");
    updates(op, p->result, sizeof(struct kernel_result), true, "result");
}

SPANS(update) {
    struct reach reach = chunks_reach(p->chunks, p->chunks_n, now);
    chunks_in(op, p->chunks, p->chunks_n);
    step_in(op, p->step);
    reads(op, p->result, sizeof(struct kernel_result), "result");
    reads(op, p->gradient, reach_or_rest(reach.gradient, p->gradient, now), "gradient");
    updates(op, p->master, reach_or_rest(reach.flat, p->master, now), true, "master");
    updates(op, p->momentum, reach_or_rest(reach.flat, p->momentum, now), true, "momentum");
    updates(op, p->square, reach_or_rest(reach.flat, p->square, now), true, "square");
    updates(op, p->average, reach_or_rest(reach.flat, p->average, now), true, "average");
    updates(op, p->working, reach_or_rest(reach.working, p->working, now), false, "working");
    updates(op, p->partial, p->chunks_n * (int64_t)(3 * sizeof(double)), true, "partial");
}

SPANS(update_norms) {
    reads(op, p->params, p->params_n * (int64_t)sizeof(struct kernel_param), "params");
    reads(op, p->partial, (int64_t)memory_left(p->partial), "partial");
    updates(op, p->statistics, p->params_n * (int64_t)sizeof(struct kernel_statistics), true, "statistics");
}

SPANS(narrow) {
    struct reach reach = chunks_reach(p->chunks, p->chunks_n, now);
    chunks_in(op, p->chunks, p->chunks_n);
    reads(op, p->master, reach_or_rest(reach.flat, p->master, now), "master");
    updates(op, p->working, reach_or_rest(reach.working, p->working, now), false, "working");
}

/* --- the table --- */

#define CALLED(name, addresses)                                              \
    static void name##_called(struct op *op, const void *params, bool now) { \
        name##_spans(op, params, now);                                       \
    }
KERNELS(CALLED)
#undef CALLED

void spans_of(struct op *op, int kernel, const void *params, bool now) {
    static void (*const spans[])(struct op *op, const void *params, bool now) = {
#define ROW(name, addresses) name##_called,
        KERNELS(ROW)
#undef ROW
    };
    spans[kernel](op, params, now);
}
