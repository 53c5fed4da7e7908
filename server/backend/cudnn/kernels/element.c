/* Kernels that work element by element: activations, sums, copies of channels, biases, dropout. */
#include "server/backend/cudnn/kernels/access.h"

/* --- activations: formulas and constants as the ref backend --- */

FUNCTION float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

/* The distribution function of the standard normal distribution, with all digits also where it is small. */
FUNCTION float normal_cdf(float x) {
    return 0.5f * erfcf(-0.707106781f * x);
}

FUNCTION float normal_density(float x) {
    return 0.398942280f * expf(-0.5f * x * x);
}

FUNCTION float act_value(int32_t activation, float x) {
    switch (activation) {
    case KERNEL_RELU:
        return relu_of(x);
    case KERNEL_LEAKY_RELU:
        return x > 0 ? x : 0.01f * x;
    case KERNEL_ELU: /* Clevert et al. 2015 */
        return x > 0 ? x : expm1f(x);
    case KERNEL_GELU: /* Hendrycks and Gimpel 2016, exact form */
        return x * normal_cdf(x);
    case KERNEL_SILU: /* Elfwing et al. 2017 */
        return x * sigmoid(x);
    case KERNEL_SIGMOID:
        return sigmoid(x);
    case KERNEL_TANH:
        return tanhf(x);
    }
    return x; /* identity */
}

FUNCTION float act_derivative(int32_t activation, float x) {
    float s;
    switch (activation) {
    case KERNEL_RELU:
        return x > 0 ? 1 : 0;
    case KERNEL_LEAKY_RELU:
        return x > 0 ? 1 : 0.01f;
    case KERNEL_ELU:
        return x > 0 ? 1 : expf(x);
    case KERNEL_GELU:
        return normal_cdf(x) + x * normal_density(x);
    case KERNEL_SILU:
        s = sigmoid(x);
        return s * (1 + x * (1 - s));
    case KERNEL_SIGMOID:
        s = sigmoid(x);
        return s * (1 - s);
    case KERNEL_TANH:
        s = tanhf(x);
        return (1 - s) * (1 + s);
    }
    return 1; /* identity */
}

KERNEL(act) {
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, p->cp); i += stride(launch)) {
            struct lanes x = load_lanes(p->x, value_of(i), p->bf16);
            for (int k = 0; k < LANES; k++)
                x.v[k] = act_value(p->activation, x.v[k]);
            clear_padding(&x, channel_of(i, p->cp), p->c);
            store_lanes(p->y, value_of(i), p->bf16, &x);
        }
    }
}

KERNEL(act_back) {
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, p->cp); i += stride(launch)) {
            struct lanes x = load_lanes(p->x, value_of(i), p->bf16), dx = load_lanes(p->dy, value_of(i), p->bf16);
            for (int k = 0; k < LANES; k++)
                dx.v[k] *= act_derivative(p->activation, x.v[k]);
            clear_padding(&dx, channel_of(i, p->cp), p->c);
            add_lanes(p->dx, value_of(i), p->bf16, p->accumulate, &dx);
        }
    }
}

/* --- sums and masks --- */

KERNEL(add) {
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->count / LANES, LANES); i += stride(launch)) {
            struct lanes sum = load_lanes(p->a, value_of(i), p->bf16), b = no_lanes();
            if (p->b)
                b = load_lanes(p->b, value_of(i), p->bf16);
            for (int k = 0; k < LANES; k++) {
                float y = p->b ? sum.v[k] + b.v[k] : sum.v[k];
                sum.v[k] = p->relu ? relu_of(y) : y;
            }
            store_lanes(p->y, value_of(i), p->bf16, &sum);
        }
    }
}

KERNEL(mask) {
    PHASE(thread) {
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->count / LANES, LANES); i += stride(launch)) {
            struct lanes g = passed(p->dy, p->bf16, p->y, p->bf16, value_of(i));
            add_lanes(p->dx, value_of(i), p->bf16, p->accumulate, &g);
        }
    }
}

KERNEL(bias) {
    PHASE(thread) {
        int32_t bf16 = p->bf16 && !p->y_wide;
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, p->cp); i += stride(launch)) {
            int32_t channel = channel_of(i, p->cp);
            struct lanes y = load_lanes(p->y, value_of(i), bf16), bias = load_lanes(p->bias, channel, 0);
            for (int k = 0; k < LANES; k++)
                y.v[k] += bias.v[k];
            clear_padding(&y, channel, p->c);
            store_lanes(p->y, value_of(i), bf16, &y);
        }
    }
}

/* --- copies of channels --- */

/* Copies eight channels of a row at a time; fewer where the copy ends. */
KERNEL(channels) {
    PHASE(thread) {
        int32_t ends = !p->accumulate && p->to_at + p->count == p->to_c;
        int32_t width = ends ? p->to_cp - p->to_at : p->count, padded = (width + LANES - 1) / LANES * LANES;
        for (uint32_t i = first_element(launch, thread); i < groups_of(p->rows, padded); i += stride(launch)) {
            int64_t row = row_of(i, padded);
            int32_t at = channel_of(i, padded);
            int32_t copied = p->count - at < LANES ? p->count - at : LANES, written = width - at < LANES ? width - at : LANES;
            struct lanes lanes = load_some(p->from, row * p->from_cp + p->from_at + at, copied, p->bf16);
            add_some(p->to, row * p->to_cp + p->to_at + at, written, p->bf16, p->accumulate, &lanes);
        }
    }
}

/* --- dropout --- */

/* Philox4x32-10, as common/rng.c. */
FUNCTION struct words random_block(uint64_t seed, uint32_t purpose, uint32_t a, uint32_t b, uint32_t c) {
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    struct words x = {{a, b, c, purpose}};
    for (int round = 0; round < 10; round++) {
        uint64_t left = (uint64_t)0xD2511F53u * x.v[0], right = (uint64_t)0xCD9E8D57u * x.v[2];
        x.v[0] = (uint32_t)(right >> 32) ^ x.v[1] ^ key0;
        x.v[1] = (uint32_t)right;
        x.v[2] = (uint32_t)(left >> 32) ^ x.v[3] ^ key1;
        x.v[3] = (uint32_t)left;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return x;
}

/* Whether element number e of an image in C,H,W order is dropped. */
FUNCTION int32_t is_dropped(const struct kernel_dropout *p, uint32_t image, uint32_t e) {
    uint32_t place = p->step->epoch + ((uint32_t)p->node << 16);
    struct words words = random_block(p->step->seed, KERNEL_RANDOM_DROPOUT, place, p->samples[image].sample, e / 4);
    uint32_t word = e % 4 == 0 ? words.v[0] : e % 4 == 1 ? words.v[1] : e % 4 == 2 ? words.v[2] : words.v[3];
    return (float)(word >> 8) * 0x1p-24f < p->rate;
}

KERNEL(dropout) {
    PHASE(thread) {
        uint32_t pixels = (uint32_t)(p->h * p->w), count = groups_of((int64_t)p->batch * pixels, p->cp);
        float factor = 1 / (1 - p->rate);
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            uint32_t image = row_of(i, p->cp) / pixels, pixel = row_of(i, p->cp) % pixels;
            int32_t channel = channel_of(i, p->cp);
            struct lanes x = load_lanes(p->x, value_of(i), p->bf16);
            for (int k = 0; k < LANES; k++)
                if (channel + k < p->c)
                    x.v[k] = is_dropped(p, image, (uint32_t)(channel + k) * pixels + pixel) ? 0 : x.v[k] * factor;
            clear_padding(&x, channel, p->c);
            add_lanes(p->y, value_of(i), p->bf16, p->accumulate, &x);
        }
    }
}
