/* Kernels that gather through windows or move pixels: pools, the shortcut without parameters, flattening. A thread has eight
 * channels of a pixel. */
#include "server/backend/cudnn/kernels/access.h"

/* Eight channels of a pixel of an image. */
struct spot {
    int64_t image;
    int32_t y, x, channel;
};

/* Number i of all of [batch, h, w, groups of eight channels]. */
FUNCTION struct spot spot_of(uint32_t i, int32_t h, int32_t w, int32_t cp) {
    uint32_t pixel = row_of(i, cp);
    struct spot spot;
    spot.channel = channel_of(i, cp);
    spot.x = (int32_t)(pixel % (uint32_t)w);
    spot.y = (int32_t)(pixel / (uint32_t)w % (uint32_t)h);
    spot.image = pixel / (uint32_t)w / (uint32_t)h;
    return spot;
}

FUNCTION uint32_t spots(int32_t batch, int32_t h, int32_t w, int32_t cp) {
    return groups_of((int64_t)batch * h * w, cp);
}

/* Where eight channels of a pixel are in [batch, h, w, cp]. */
FUNCTION int64_t at_pixel(const struct spot *spot, int32_t h, int32_t w, int32_t cp, int32_t y, int32_t x) {
    return ((spot->image * h + y) * w + x) * cp + spot->channel;
}

/* Rows or columns first <= i < end. */
struct range {
    int32_t first, end;
};

/* What of window number `at` lies in the image. */
FUNCTION struct range inside(int32_t at, int32_t kernel, int32_t step, int32_t pad, int32_t size) {
    int32_t first = at * step - pad, end = first + kernel;
    struct range range = {first < 0 ? 0 : first, end > size ? size : end};
    return range;
}

/* The windows that hold row or column number `at`, of `windows`. */
FUNCTION struct range holders(int32_t at, int32_t kernel, int32_t step, int32_t pad, int32_t windows) {
    int32_t from = at + pad - kernel, last = (at + pad) / step;
    struct range range = {from < 0 ? 0 : from / step + 1, last < windows ? last + 1 : windows};
    return range;
}

/* --- the largest --- */

KERNEL(pool_max) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < spots(w->batch, w->oh, w->ow, w->cp); i += stride(launch)) {
            struct spot spot = spot_of(i, w->oh, w->ow, w->cp);
            struct range rows = inside(spot.y, w->kernel_h, w->stride_h, w->pad_h, w->h);
            struct range columns = inside(spot.x, w->kernel_w, w->stride_w, w->pad_w, w->w);
            int32_t top = spot.y * w->stride_h - w->pad_h, left = spot.x * w->stride_w - w->pad_w;
            struct lanes best = no_lanes(), place = no_lanes();
            for (int32_t y = rows.first; y < rows.end; y++)
                for (int32_t x = columns.first; x < columns.end; x++) {
                    struct lanes v = load_lanes(p->x, at_pixel(&spot, w->h, w->w, w->cp, y, x), p->bf16);
                    int32_t first = y == rows.first && x == columns.first;
                    for (int k = 0; k < LANES; k++)
                        if (first || v.v[k] > best.v[k] || v.v[k] != v.v[k]) { /* a NaN wins */
                            best.v[k] = v.v[k];
                            place.v[k] = (float)((y - top) * w->kernel_w + x - left);
                        }
                }
            store_lanes(p->y, value_of(i), p->bf16, &best);
            for (int k = 0; k < LANES && p->saved; k++)
                p->saved[value_of(i) + k] = (uint16_t)place.v[k];
        }
    }
}

KERNEL(pool_max_back) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < spots(w->batch, w->h, w->w, w->cp); i += stride(launch)) {
            struct spot spot = spot_of(i, w->h, w->w, w->cp);
            struct range rows = holders(spot.y, w->kernel_h, w->stride_h, w->pad_h, w->oh);
            struct range columns = holders(spot.x, w->kernel_w, w->stride_w, w->pad_w, w->ow);
            struct lanes dx = no_lanes();
            for (int32_t y = rows.first; y < rows.end; y++)
                for (int32_t x = columns.first; x < columns.end; x++) {
                    int64_t at = at_pixel(&spot, w->oh, w->ow, w->cp, y, x);
                    int32_t row = spot.y - (y * w->stride_h - w->pad_h), column = spot.x - (x * w->stride_w - w->pad_w);
                    struct lanes dy = load_lanes(p->dy, at, p->bf16);
                    for (int k = 0; k < LANES; k++)
                        dx.v[k] += p->saved[at + k] == row * w->kernel_w + column ? dy.v[k] : 0;
                }
            clear_padding(&dx, spot.channel, w->c);
            add_lanes(p->dx, value_of(i), p->bf16, p->accumulate, &dx);
        }
    }
}

/* --- the mean --- */

FUNCTION float pixels_inside(const struct kernel_window *w, int32_t y, int32_t x) {
    struct range rows = inside(y, w->kernel_h, w->stride_h, w->pad_h, w->h);
    struct range columns = inside(x, w->kernel_w, w->stride_w, w->pad_w, w->w);
    return (float)((rows.end - rows.first) * (columns.end - columns.first));
}

FUNCTION struct lanes mean_of_window(const struct kernel_pool_avg *p, const struct spot *spot) {
    const struct kernel_window *w = &p->window;
    struct range rows = inside(spot->y, w->kernel_h, w->stride_h, w->pad_h, w->h);
    struct range columns = inside(spot->x, w->kernel_w, w->stride_w, w->pad_w, w->w);
    struct lanes sum = no_lanes();
    for (int32_t y = rows.first; y < rows.end; y++)
        for (int32_t x = columns.first; x < columns.end; x++) {
            struct lanes v = load_lanes(p->x, at_pixel(spot, w->h, w->w, w->cp, y, x), p->bf16);
            for (int k = 0; k < LANES; k++)
                sum.v[k] += v.v[k];
        }
    for (int k = 0; k < LANES; k++)
        sum.v[k] /= pixels_inside(w, spot->y, spot->x);
    return sum;
}

FUNCTION struct lanes gradient_of_means(const struct kernel_pool_avg *p, const struct spot *spot) {
    const struct kernel_window *w = &p->window;
    struct range rows = holders(spot->y, w->kernel_h, w->stride_h, w->pad_h, w->oh);
    struct range columns = holders(spot->x, w->kernel_w, w->stride_w, w->pad_w, w->ow);
    struct lanes sum = no_lanes();
    for (int32_t y = rows.first; y < rows.end; y++)
        for (int32_t x = columns.first; x < columns.end; x++) {
            struct lanes dy = load_lanes(p->x, at_pixel(spot, w->oh, w->ow, w->cp, y, x), p->bf16);
            for (int k = 0; k < LANES; k++)
                sum.v[k] += dy.v[k] / pixels_inside(w, y, x);
        }
    return sum;
}

KERNEL(pool_avg) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        int32_t h = p->back ? w->h : w->oh, width = p->back ? w->w : w->ow;
        for (uint32_t i = first_element(launch, thread); i < spots(w->batch, h, width, w->cp); i += stride(launch)) {
            struct spot spot = spot_of(i, h, width, w->cp);
            struct lanes lanes = p->back ? gradient_of_means(p, &spot) : mean_of_window(p, &spot);
            clear_padding(&lanes, spot.channel, w->c);
            add_lanes(p->y, value_of(i), p->bf16, p->accumulate, &lanes);
        }
    }
}

/* --- every stride-th pixel, with zero channels behind the input's --- */

FUNCTION struct lanes shortcut_value(const struct kernel_shortcut *p, const struct spot *spot) {
    const struct kernel_window *w = &p->window;
    if (spot->channel >= w->c)
        return no_lanes();
    return load_lanes(p->x, at_pixel(spot, w->h, w->w, w->cp, spot->y * w->stride_h, spot->x * w->stride_w), p->bf16);
}

FUNCTION struct lanes shortcut_gradient(const struct kernel_shortcut *p, const struct spot *spot) {
    const struct kernel_window *w = &p->window;
    int32_t y = spot->y / w->stride_h, x = spot->x / w->stride_w;
    if (spot->y % w->stride_h != 0 || spot->x % w->stride_w != 0 || y >= w->oh || x >= w->ow || spot->channel >= w->oc)
        return no_lanes();
    return load_lanes(p->x, at_pixel(spot, w->oh, w->ow, w->ocp, y, x), p->bf16);
}

KERNEL(shortcut) {
    const struct kernel_window *w = &p->window;
    PHASE(thread) {
        int32_t h = p->back ? w->h : w->oh, width = p->back ? w->w : w->ow, cp = p->back ? w->cp : w->ocp;
        for (uint32_t i = first_element(launch, thread); i < spots(w->batch, h, width, cp); i += stride(launch)) {
            struct spot spot = spot_of(i, h, width, cp);
            struct lanes lanes = p->back ? shortcut_gradient(p, &spot) : shortcut_value(p, &spot);
            clear_padding(&lanes, spot.channel, w->c);
            add_lanes(p->y, value_of(i), p->bf16, p->accumulate, &lanes);
        }
    }
}

/* --- flattening --- */

/* Eight values of an image's vector: value number e in C,H,W order is channel e / pixels of pixel e % pixels. */
FUNCTION struct lanes flatten_values(const struct kernel_flatten *p, int64_t image, uint32_t first) {
    uint32_t pixels = (uint32_t)(p->h * p->w);
    struct lanes lanes = no_lanes();
    for (uint32_t k = 0; k < LANES; k++)
        if (first + k < (uint32_t)p->c * pixels)
            lanes.v[k] = load(p->x, (image * pixels + (first + k) % pixels) * p->cp + (first + k) / pixels, p->bf16);
    return lanes;
}

/* Eight channels of a pixel. */
FUNCTION struct lanes flatten_gradient(const struct kernel_flatten *p, const struct spot *spot) {
    int64_t pixels = (int64_t)p->h * p->w, pixel = spot->y * p->w + spot->x;
    struct lanes lanes = no_lanes();
    for (int k = 0; k < LANES; k++)
        if (spot->channel + k < p->c)
            lanes.v[k] = load(p->x, spot->image * p->flat_cp + (spot->channel + k) * pixels + pixel, p->bf16);
    return lanes;
}

KERNEL(flatten) {
    PHASE(thread) {
        int32_t h = p->back ? p->h : 1, width = p->back ? p->w : 1, cp = p->back ? p->cp : p->flat_cp;
        for (uint32_t i = first_element(launch, thread); i < spots(p->batch, h, width, cp); i += stride(launch)) {
            struct spot spot = spot_of(i, h, width, cp);
            struct lanes lanes = p->back ? flatten_gradient(p, &spot) : flatten_values(p, spot.image, (uint32_t)spot.channel);
            add_lanes(p->y, value_of(i), p->bf16, p->accumulate, &lanes);
        }
    }
}
