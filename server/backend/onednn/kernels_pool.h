/* The pools' loops, part of kernels_body.h, over one row. Padding never counts: the maximum is over, and the mean divides by, the
 * pixels of the window inside the image. */

/* The part of a window inside the image: rows y0 <= y < y1, columns x0 <= x < x1; never empty. */
struct window {
    int y0, y1, x0, x1;
};

INLINE struct window window_at(const struct pool *pool, int y, int x) {
    int top = y * pool->stride_h - pool->pad_h, left = x * pool->stride_w - pool->pad_w;
    int bottom = top + pool->kernel_h, right = left + pool->kernel_w;
    return (struct window){top < 0 ? 0 : top, bottom > pool->in_h ? pool->in_h : bottom, left < 0 ? 0 : left,
                           right > pool->in_w ? pool->in_w : right};
}

/* The pixels of WINDOW one by one: index is that of the pixel in the input's row. */
#define FOR_WINDOW(WINDOW, POOL)                       \
    for (int wy = (WINDOW).y0; wy < (WINDOW).y1; wy++) \
        for (int index = wy * (POOL)->in_w + (WINDOW).x0; index < wy * (POOL)->in_w + (WINDOW).x1; index++)

/* The largest value of a window and where it stands first; a NaN wins, as in PyTorch. */
INLINE void largest(const void *x, const struct pool *pool, struct window window, bool bf16, vf *ret_best, vi *ret_index) {
    vi at = (vi){0} + (window.y0 * pool->in_w + window.x0);
    vf best;
    get(&best, x, (size_t)at[0], bf16);
    FOR_WINDOW(window, pool) {
        vf v;
        get(&v, x, (size_t)index, bf16);
        vi larger = (v > best) | (v != v);
        choose(&best, &larger, &v, &best);
        at = (at & ~larger) | (index & larger);
    }
    *ret_best = best;
    *ret_index = at;
}

INLINE void max_pool_body(void *y, const void *x, bool bf16, const struct pool *pool) {
    size_t pixel = 0;
    for (int oy = 0; oy < pool->out_h; oy++)
        for (int ox = 0; ox < pool->out_w; ox++, pixel++) {
            vf best;
            vi at;
            largest(x, pool, window_at(pool, oy, ox), bf16, &best, &at);
            put(y, pixel, bf16, &best);
        }
}

INLINE void max_pool_back_body(float *dx, const void *x, const void *g, bool bf16, const struct pool *pool) {
    vf *to = (vf *)dx;
    size_t pixel = 0;
    for (int oy = 0; oy < pool->out_h; oy++)
        for (int ox = 0; ox < pool->out_w; ox++, pixel++) {
            struct window window = window_at(pool, oy, ox);
            vf best, gradient;
            vi at;
            largest(x, pool, window, bf16, &best, &at);
            get(&gradient, g, pixel, bf16);
            FOR_WINDOW(window, pool) {
                to[index] += (vf)((vi)gradient & (at == index));
            }
        }
}

INLINE float window_size(struct window window) {
    return (float)(window.y1 - window.y0) * (float)(window.x1 - window.x0);
}

INLINE void avg_pool_body(void *y, const void *x, bool bf16, const struct pool *pool) {
    size_t pixel = 0;
    for (int oy = 0; oy < pool->out_h; oy++)
        for (int ox = 0; ox < pool->out_w; ox++, pixel++) {
            struct window window = window_at(pool, oy, ox);
            vf sum = {0}, v;
            FOR_WINDOW(window, pool) {
                get(&v, x, (size_t)index, bf16);
                sum += v;
            }
            sum /= window_size(window);
            put(y, pixel, bf16, &sum);
        }
}

INLINE void avg_pool_back_body(float *dx, const void *g, bool bf16, const struct pool *pool) {
    vf *to = (vf *)dx;
    size_t pixel = 0;
    for (int oy = 0; oy < pool->out_h; oy++)
        for (int ox = 0; ox < pool->out_w; ox++, pixel++) {
            struct window window = window_at(pool, oy, ox);
            vf gradient;
            get(&gradient, g, pixel, bf16);
            gradient /= window_size(window);
            FOR_WINDOW(window, pool) {
                to[index] += gradient;
            }
        }
}

static void max_pool(void *y, const void *x, bool bf16, const struct pool *pool) {
    if (bf16)
        max_pool_body(y, x, true, pool);
    else
        max_pool_body(y, x, false, pool);
}

static void max_pool_back(float *dx, const void *x, const void *g, bool bf16, const struct pool *pool) {
    if (bf16)
        max_pool_back_body(dx, x, g, true, pool);
    else
        max_pool_back_body(dx, x, g, false, pool);
}

static void avg_pool(void *y, const void *x, bool bf16, const struct pool *pool) {
    if (bf16)
        avg_pool_body(y, x, true, pool);
    else
        avg_pool_body(y, x, false, pool);
}

/* x is of no use here, but the two pools have one type. */
static void avg_pool_back(float *dx, const void *x, const void *g, bool bf16, const struct pool *pool) {
    (void)x;
    if (bf16)
        avg_pool_back_body(dx, g, true, pool);
    else
        avg_pool_back_body(dx, g, false, pool);
}
