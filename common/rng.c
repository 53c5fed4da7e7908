/* Philox4x32-10, a counter-based generator: see rng.h. */
#include "common/rng.h"

#include <math.h>

/* Multipliers and key increments from table 2 and section 4.3 of the paper. */
enum { PHILOX_ROUNDS = 10 };
static const uint32_t philox_m0 = 0xD2511F53u, philox_m1 = 0xCD9E8D57u;
static const uint32_t philox_w0 = 0x9E3779B9u, philox_w1 = 0xBB67AE85u;

void rng_block(uint64_t seed, enum rng_purpose purpose, uint32_t a, uint32_t b, uint32_t c, uint32_t ret_words[4]) {
    uint32_t x0 = a, x1 = b, x2 = c, x3 = (uint32_t)purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)philox_m0 * x0, p1 = (uint64_t)philox_m1 * x2;
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += philox_w0;
        k1 += philox_w1;
    }
    ret_words[0] = x0;
    ret_words[1] = x1;
    ret_words[2] = x2;
    ret_words[3] = x3;
}

float rng_normal(uint32_t word0, uint32_t word1) {
    const double two_pi = 6.283185307179586476925286766559;
    double u = ((double)word0 + 1.0) * 0x1p-32; /* (0, 1]: the logarithm is finite */
    double v = (double)word1 * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(two_pi * v));
}

void rng_permutation(uint64_t seed, enum rng_purpose purpose, uint32_t a, uint32_t n, uint32_t *ret_order) {
    for (uint32_t i = 0; i < n; i++)
        ret_order[i] = i;
    uint32_t words[4];
    for (uint32_t i = n; i > 1; i--) {
        uint32_t at = i - 1;
        if (i == n || at % 4 == 3)
            rng_block(seed, purpose, a, at / 4, 0, words);
        uint32_t j = rng_below(words[at % 4], i), swap = ret_order[at];
        ret_order[at] = ret_order[j];
        ret_order[j] = swap;
    }
}
