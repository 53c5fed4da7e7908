/* Group normalization (Wu and He 2018) forward and backward: a block takes a group of channels of one image for its sums. */
#include "server/backend/cudnn/kernels/access.h"

/* The values of one image's group: pixel after pixel, `channels` of each. */
struct group {
    int64_t at;     /* of the first one in the tensor */
    uint32_t count; /* how many */
    int32_t channels, first, cp;
};

FUNCTION struct group group_of(uint32_t number, int32_t pixels, int32_t c, int32_t cp, int32_t groups) {
    struct group group;
    int64_t image = number / (uint32_t)groups;
    group.channels = c / groups;
    group.first = (int32_t)(number % (uint32_t)groups) * group.channels;
    group.cp = cp;
    group.at = image * pixels * cp + group.first;
    group.count = (uint32_t)pixels * (uint32_t)group.channels;
    return group;
}

/* Where value number k of the group is. */
FUNCTION int64_t value_at(const struct group *group, uint32_t k) {
    uint32_t channels = (uint32_t)group->channels;
    return group->at + (int64_t)(k / channels) * group->cp + k % channels;
}

FUNCTION int32_t channel_at(const struct group *group, uint32_t k) {
    return group->first + (int32_t)(k % (uint32_t)group->channels);
}

/* The sum over the threads of a block, in their order. */
FUNCTION double sum_threads(const double *parts) {
    double sum = 0;
    for (int32_t k = 0; k < KERNEL_THREADS; k++)
        sum += parts[k];
    return sum;
}

/* A thread's part of the sum of (x - mean)^power. */
FUNCTION double part_of_power(const struct kernel_group_statistics *p, const struct group *group, uint32_t thread, double mean,
                              int power) {
    double sum = 0;
    for (uint32_t k = thread; k < group->count; k += KERNEL_THREADS) {
        double d = (double)load(p->x, value_at(group, k), p->bf16) - mean;
        sum += power == 1 ? d : d * d;
    }
    return sum;
}

KERNEL(group_statistics) {
    SHARED(double, parts, [KERNEL_THREADS]);
    SHARED(double, means, [1]);
    uint32_t all = (uint32_t)(p->batch * p->groups);
    for (uint32_t number = launch->block_x; number < all; number += launch->blocks_x) {
        struct group group = group_of(number, p->pixels, p->c, p->cp, p->groups);
        PHASE(thread) {
            parts[thread] = part_of_power(p, &group, thread, 0, 1);
        }
        PHASE(thread) {
            if (thread == 0)
                means[0] = sum_threads(parts) / (double)group.count;
        }
        PHASE(thread) {
            parts[thread] = part_of_power(p, &group, thread, means[0], 2);
        }
        PHASE(thread) {
            if (thread == 0) {
                p->saved[number] = (float)means[0];
                p->saved[all + number] = (float)(1 / sqrt(sum_threads(parts) / (double)group.count + (double)p->epsilon));
            }
        }
    }
}

/* Number of the image's group that a channel of a row belongs to. */
FUNCTION uint32_t group_number(uint32_t row, int32_t pixels, int32_t channel, int32_t c, int32_t groups) {
    return row / (uint32_t)pixels * (uint32_t)groups + (uint32_t)(channel / (c / groups));
}

KERNEL(group_apply) {
    PHASE(thread) {
        uint32_t count = groups_of((int64_t)p->batch * p->pixels, p->cp), all = (uint32_t)(p->batch * p->groups);
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int32_t channel = channel_of(i, p->cp);
            struct lanes x = load_lanes(p->x, value_of(i), p->bf16);
            struct lanes gamma = load_lanes(p->gamma, channel, 0), beta = load_lanes(p->beta, channel, 0);
            for (int k = 0; k < LANES; k++)
                if (channel + k < p->c) {
                    uint32_t number = group_number(row_of(i, p->cp), p->pixels, channel + k, p->c, p->groups);
                    x.v[k] = (x.v[k] - p->saved[number]) * p->saved[all + number] * gamma.v[k] + beta.v[k];
                }
            clear_padding(&x, channel, p->c);
            store_lanes(p->y, value_of(i), p->bf16, &x);
        }
    }
}

/* --- backward: with x' = (x - mean) / deviation and h = gamma dy, dx = (h - mean(h) - x' mean(h x')) / deviation --- */

KERNEL(group_sums) {
    SHARED(double, parts_h, [KERNEL_THREADS]);
    SHARED(double, parts_hx, [KERNEL_THREADS]);
    uint32_t all = (uint32_t)(p->batch * p->groups);
    for (uint32_t number = launch->block_x; number < all; number += launch->blocks_x) {
        struct group group = group_of(number, p->pixels, p->c, p->cp, p->groups);
        PHASE(thread) {
            float mean = p->saved[number], inverse = p->saved[all + number];
            double sum_h = 0, sum_hx = 0;
            for (uint32_t k = thread; k < group.count; k += KERNEL_THREADS) {
                int64_t at = value_at(&group, k);
                float h = load(p->dy, at, p->bf16) * p->gamma[channel_at(&group, k)];
                sum_h += (double)h;
                sum_hx += (double)(h * ((load(p->x, at, p->bf16) - mean) * inverse));
            }
            parts_h[thread] = sum_h;
            parts_hx[thread] = sum_hx;
        }
        PHASE(thread) {
            if (thread == 0) {
                p->sums[2 * number] = (float)sum_threads(parts_h);
                p->sums[2 * number + 1] = (float)sum_threads(parts_hx);
            }
        }
    }
}

KERNEL(group_back) {
    PHASE(thread) {
        uint32_t count = groups_of((int64_t)p->batch * p->pixels, p->cp), all = (uint32_t)(p->batch * p->groups);
        float share = 1 / ((float)p->pixels * (float)(p->c / p->groups));
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int32_t channel = channel_of(i, p->cp);
            struct lanes dx = load_lanes(p->dy, value_of(i), p->bf16), x = load_lanes(p->x, value_of(i), p->bf16);
            struct lanes gamma = load_lanes(p->gamma, channel, 0);
            for (int k = 0; k < LANES; k++)
                if (channel + k < p->c) {
                    uint32_t number = group_number(row_of(i, p->cp), p->pixels, channel + k, p->c, p->groups);
                    float inverse = p->saved[all + number], xhat = (x.v[k] - p->saved[number]) * inverse;
                    float mean_h = p->sums[2 * number] * share, mean_hx = p->sums[2 * number + 1] * share;
                    dx.v[k] = inverse * (dx.v[k] * gamma.v[k] - mean_h - xhat * mean_hx);
                }
            clear_padding(&dx, channel, p->c);
            add_lanes(p->dx, value_of(i), p->bf16, p->accumulate, &dx);
        }
    }
}
