/* Batch normalization forward and backward, and sums over channels for gradients. A block takes a slice of the rows and 64
 * channels: eight threads, each with eight channels, read a row, 32 rows at a time. What the 32 found is put together in double.
 */
#include "server/backend/cudnn/kernels/access.h"

enum { BLOCK_CHANNELS = 64, ROW_THREADS = BLOCK_CHANNELS / LANES, ROWS_AT_ONCE = KERNEL_THREADS / ROW_THREADS };

/* The rows of a slice. */
struct slice {
    int64_t first, end;
};

FUNCTION struct slice slice_of(int64_t rows, int32_t slices, int32_t s) {
    uint32_t size = (uint32_t)rows / (uint32_t)slices, rest = (uint32_t)rows % (uint32_t)slices, number = (uint32_t)s;
    struct slice slice;
    slice.first = (int64_t)number * size + (number < rest ? number : rest);
    slice.end = slice.first + size + (number < rest ? 1 : 0);
    return slice;
}

/* How many rows of a slice one of the 32 row threads visits. */
FUNCTION int32_t visits(struct slice slice, int32_t row_thread) {
    int32_t rows = (int32_t)(slice.end - slice.first) - row_thread;
    return rows <= 0 ? 0 : (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
}

/* Mean and sum of squared deviations of the values seen so far: Welford 1962. */
struct moving {
    struct lanes mean, squares;
};

FUNCTION struct moving visit_rows(const struct kernel_norm_partial *p, struct slice slice, int32_t row_thread, int32_t channel) {
    struct moving moving = {no_lanes(), no_lanes()};
    float seen = 0;
    for (int64_t row = slice.first + row_thread; row < slice.end; row += ROWS_AT_ONCE) {
        struct lanes x = load_lanes(p->x, row * p->cp + channel, p->bf16);
        float share = 1 / ++seen;
        for (int k = 0; k < LANES; k++) {
            float d = x.v[k] - moving.mean.v[k];
            moving.mean.v[k] += d * share;
            moving.squares.v[k] += d * (x.v[k] - moving.mean.v[k]);
        }
    }
    return moving;
}

/* Means and squares of the parts of a channel, counted, make those of the whole: Chan, Golub, LeVeque 1979. */
FUNCTION void whole_of(const float *means, const float *squares, struct slice slice, double *ret_mean, double *ret_squares) {
    double count = (double)(slice.end - slice.first), mean = 0, sum = 0;
    UNROLLED(4) /* all at once would need too many registers */
    for (int32_t r = 0; r < ROWS_AT_ONCE; r++)
        mean += (double)visits(slice, r) * (double)means[r * BLOCK_CHANNELS];
    mean = count > 0 ? mean / count : 0;
    UNROLLED(4) /* all at once would need too many registers */
    for (int32_t r = 0; r < ROWS_AT_ONCE; r++) {
        double d = (double)means[r * BLOCK_CHANNELS] - mean;
        sum += (double)squares[r * BLOCK_CHANNELS] + (double)visits(slice, r) * d * d;
    }
    *ret_mean = mean;
    *ret_squares = sum;
}

KERNEL(norm_partial) {
    SHARED(float, means, [ROWS_AT_ONCE * BLOCK_CHANNELS]);
    SHARED(float, squares, [ROWS_AT_ONCE * BLOCK_CHANNELS]);
    for (int32_t s = (int32_t)launch->block_x; s < p->slices; s += (int32_t)launch->blocks_x) {
        struct slice slice = slice_of((int64_t)p->step->n * p->pixels, p->slices, s);
        PHASE(thread) {
            int32_t at = (int32_t)thread % ROW_THREADS * LANES, channel = (int32_t)launch->block_y * BLOCK_CHANNELS + at;
            int32_t row_thread = (int32_t)thread / ROW_THREADS;
            if (channel < p->cp) {
                struct moving moving = visit_rows(p, slice, row_thread, channel);
                for (int k = 0; k < LANES; k++) {
                    means[row_thread * BLOCK_CHANNELS + at + k] = moving.mean.v[k];
                    squares[row_thread * BLOCK_CHANNELS + at + k] = moving.squares.v[k];
                }
            }
        }
        PHASE(thread) {
            int32_t channel = (int32_t)(launch->block_y * BLOCK_CHANNELS + thread);
            if (thread < BLOCK_CHANNELS && channel < p->cp) {
                int64_t to = (int64_t)s * 2 * p->cp + channel;
                whole_of(means + thread, squares + thread, slice, &p->partial[to], &p->partial[to + p->cp]);
            }
        }
    }
}

/* --- stage 2: a block takes eight channels, 32 threads each, which share the slices --- */

enum { PART_THREADS = KERNEL_THREADS / LANES };

/* The sum over the 32 threads of a channel. */
FUNCTION double sum_parts(const double *parts) {
    double sum = 0;
    for (int32_t k = 0; k < PART_THREADS; k++)
        sum += parts[k * LANES];
    return sum;
}

FUNCTION double slice_count(const struct kernel_norm_finish *p, int32_t s) {
    struct slice slice = slice_of((int64_t)p->step->n * p->pixels, p->slices, s);
    return (double)(slice.end - slice.first);
}

/* A thread's part of the sum over the slices that is the mean; and, with the mean, of the squared deviations. */
FUNCTION double part_of_mean(const struct kernel_norm_finish *p, int32_t channel, int32_t first) {
    double sum = 0;
    for (int32_t s = first; s < p->slices; s += PART_THREADS)
        sum += slice_count(p, s) * p->partial[(int64_t)s * 2 * p->cp + channel];
    return sum / ((double)p->step->n * (double)p->pixels);
}

FUNCTION double part_of_squares(const struct kernel_norm_finish *p, int32_t channel, int32_t first, double mean) {
    double sum = 0;
    for (int32_t s = first; s < p->slices; s += PART_THREADS) {
        int64_t at = (int64_t)s * 2 * p->cp + channel;
        double d = p->partial[at] - mean;
        sum += p->partial[at + p->cp] + slice_count(p, s) * d * d;
    }
    return sum;
}

FUNCTION void save_norm(const struct kernel_norm_finish *p, int32_t channel, double mean, double squares) {
    double count = (double)p->step->n * (double)p->pixels, momentum = (double)p->momentum;
    double unbiased = count > 1 ? squares / (count - 1) : 0;
    p->saved[channel] = (float)mean;
    p->saved[p->cp + channel] = (float)(1 / sqrt(squares / count + (double)p->epsilon));
    if (channel >= p->c)
        return;
    p->running_mean[channel] = (float)((1 - momentum) * (double)p->running_mean[channel] + momentum * mean);
    p->running_var[channel] = (float)((1 - momentum) * (double)p->running_var[channel] + momentum * unbiased);
}

KERNEL(norm_finish) {
    SHARED(double, parts, [KERNEL_THREADS]);
    SHARED(double, means, [LANES]);
    for (int32_t first = (int32_t)launch->block_x * LANES; first < p->cp; first += (int32_t)launch->blocks_x * LANES) {
        PHASE(thread) {
            parts[thread] = part_of_mean(p, first + (int32_t)thread % LANES, (int32_t)thread / LANES);
        }
        PHASE(thread) {
            if (thread < LANES)
                means[thread] = sum_parts(parts + thread);
        }
        PHASE(thread) {
            parts[thread] = part_of_squares(p, first + (int32_t)thread % LANES, (int32_t)thread / LANES, means[thread % LANES]);
        }
        PHASE(thread) {
            if (thread < LANES)
                save_norm(p, first + (int32_t)thread, means[thread], sum_parts(parts + thread));
        }
    }
}

/* --- y --- */

KERNEL(norm_apply) {
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, p->cp); i += stride(launch)) {
            int32_t channel = channel_of(i, p->cp);
            struct lanes x = load_lanes(p->x, value_of(i), p->bf16), add = no_lanes();
            struct lanes gamma = load_lanes(p->gamma, channel, 0), beta = load_lanes(p->beta, channel, 0);
            const float *means = p->saved ? p->saved : p->running_mean;
            const float *seconds = p->saved ? p->saved + p->cp : p->running_var;
            struct lanes mean = load_lanes(means, channel, 0), second = load_lanes(seconds, channel, 0);
            if (p->add)
                add = load_lanes(p->add, value_of(i), p->bf16);
            for (int k = 0; k < LANES; k++) {
                float inverse = p->saved ? second.v[k] : 1 / sqrtf(second.v[k] + p->epsilon);
                float y = (x.v[k] - mean.v[k]) * (gamma.v[k] * inverse) + beta.v[k];
                y = p->add ? y + add.v[k] : y;
                x.v[k] = p->relu ? relu_of(y) : y;
            }
            clear_padding(&x, channel, p->c);
            store_lanes(p->y, value_of(i), p->bf16, &x);
        }
    }
}

/* --- backward --- */

/* Mean and inverse of eight channels: of the batch, or of the groups of an image that they belong to. */
struct norm {
    struct lanes mean, inverse;
};

FUNCTION struct norm norm_of(const struct kernel_back_partial *p, int64_t row, int32_t channel) {
    struct norm norm = {no_lanes(), no_lanes()};
    if (p->groups == 0) {
        norm.mean = load_lanes(p->saved, channel, 0);
        norm.inverse = load_lanes(p->saved, p->cp + channel, 0);
        return norm;
    }
    int64_t image = (uint32_t)row / (uint32_t)p->pixels, second = (int64_t)p->batch * p->groups;
    for (int k = 0; k < LANES; k++)
        if (channel + k < p->c) {
            int64_t at = image * p->groups + (channel + k) / (p->c / p->groups);
            norm.mean.v[k] = p->saved[at];
            norm.inverse.v[k] = p->saved[second + at];
        }
    return norm;
}

struct two_sums {
    struct lanes g, gx;
};

FUNCTION struct two_sums sum_rows(const struct kernel_back_partial *p, struct slice slice, int32_t row_thread, int32_t channel) {
    struct two_sums sums = {no_lanes(), no_lanes()};
    struct norm norm = {no_lanes(), no_lanes()};
    for (int64_t row = slice.first + row_thread; row < slice.end; row += ROWS_AT_ONCE) {
        int64_t at = row * p->cp + channel;
        struct lanes g = passed(p->dy, p->bf16 && !p->dy_wide, p->y, p->bf16, at), x = no_lanes();
        if (p->x) {
            x = load_lanes(p->x, at, p->bf16);
            norm = norm_of(p, row, channel);
        }
        for (int k = 0; k < LANES; k++) {
            sums.g.v[k] += g.v[k];
            sums.gx.v[k] += g.v[k] * ((x.v[k] - norm.mean.v[k]) * norm.inverse.v[k]);
        }
    }
    return sums;
}

FUNCTION double sum_row_threads(const float *sums) {
    double sum = 0;
    for (int32_t r = 0; r < ROWS_AT_ONCE; r++)
        sum += (double)sums[r * BLOCK_CHANNELS];
    return sum;
}

KERNEL(back_partial) {
    SHARED(float, sums_g, [ROWS_AT_ONCE * BLOCK_CHANNELS]);
    SHARED(float, sums_gx, [ROWS_AT_ONCE * BLOCK_CHANNELS]);
    for (int32_t s = (int32_t)launch->block_x; s < p->slices; s += (int32_t)launch->blocks_x) {
        PHASE(thread) {
            int32_t at = (int32_t)thread % ROW_THREADS * LANES, channel = (int32_t)launch->block_y * BLOCK_CHANNELS + at;
            int32_t row_thread = (int32_t)thread / ROW_THREADS;
            if (channel < p->cp) {
                struct two_sums sums = sum_rows(p, slice_of(p->rows, p->slices, s), row_thread, channel);
                for (int k = 0; k < LANES; k++) {
                    sums_g[row_thread * BLOCK_CHANNELS + at + k] = sums.g.v[k];
                    sums_gx[row_thread * BLOCK_CHANNELS + at + k] = sums.gx.v[k];
                }
            }
        }
        PHASE(thread) {
            int32_t channel = (int32_t)(launch->block_y * BLOCK_CHANNELS + thread);
            if (thread < BLOCK_CHANNELS && channel < p->cp) {
                int64_t to = (int64_t)s * 2 * p->cp + channel;
                p->partial[to] = sum_row_threads(sums_g + thread);
                p->partial[to + p->cp] = sum_row_threads(sums_gx + thread);
            }
        }
    }
}

KERNEL(back_finish) {
    SHARED(double, parts_a, [KERNEL_THREADS]);
    SHARED(double, parts_b, [KERNEL_THREADS]);
    for (int32_t first = (int32_t)launch->block_x * LANES; first < p->cp; first += (int32_t)launch->blocks_x * LANES) {
        PHASE(thread) {
            double a = 0, b = 0;
            for (int32_t s = (int32_t)thread / LANES; s < p->slices; s += PART_THREADS) {
                int64_t at = (int64_t)s * 2 * p->cp + first + (int32_t)thread % LANES;
                a += p->partial[at];
                b += p->partial[at + p->cp];
            }
            parts_a[thread] = a;
            parts_b[thread] = b;
        }
        PHASE(thread) {
            int32_t channel = first + (int32_t)thread;
            if (thread < LANES && p->a)
                p->a[channel] = channel < p->c ? (float)sum_parts(parts_a + thread) : 0;
            if (thread < LANES && p->b)
                p->b[channel] = channel < p->c ? (float)sum_parts(parts_b + thread) : 0;
        }
    }
}

/* dx of eight channels from g, in place of x. */
FUNCTION void norm_gradient(const struct kernel_norm_back *p, int32_t channel, const struct lanes *g, struct lanes *x) {
    struct lanes mean = load_lanes(p->saved, channel, 0), inverse = load_lanes(p->saved, p->cp + channel, 0);
    struct lanes gamma = load_lanes(p->gamma, channel, 0);
    struct lanes sum_g = load_lanes(p->sum_g, channel, 0), sum_gx = load_lanes(p->sum_gx, channel, 0);
    float share = 1 / ((float)p->step->n * (float)p->pixels);
    for (int k = 0; k < LANES; k++) {
        float xhat = (x->v[k] - mean.v[k]) * inverse.v[k];
        x->v[k] = gamma.v[k] * inverse.v[k] * (g->v[k] - sum_g.v[k] * share - xhat * (sum_gx.v[k] * share));
    }
}

KERNEL(norm_back) {
    PHASE(thread) {
        uint32_t real = groups_of((int64_t)p->step->n * p->pixels, p->cp);
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, p->cp); i += stride(launch)) {
            int32_t channel = channel_of(i, p->cp);
            struct lanes g = no_lanes(), dx = no_lanes();
            if (i < real) {
                g = passed(p->dy, p->bf16, p->y, p->bf16, value_of(i));
                if (p->dx) {
                    dx = load_lanes(p->x, value_of(i), p->bf16);
                    norm_gradient(p, channel, &g, &dx);
                }
            }
            clear_padding(&dx, channel, p->c);
            clear_padding(&g, channel, p->c);
            if (p->dx)
                add_lanes(p->dx, value_of(i), p->bf16, p->accumulate_dx, &dx);
            if (p->dadd)
                add_lanes(p->dadd, value_of(i), p->bf16, p->accumulate_dadd, &g);
        }
    }
}
