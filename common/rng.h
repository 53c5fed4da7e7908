/* Counter-based random numbers: a value depends on its key and counter only, never on what was drawn before, so threads, pauses
 * and resumes change nothing. Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdint.h>

/* What a number is for. The values are part of every result: never renumber. */
enum rng_purpose {
    RNG_INIT = 1,
    RNG_SHUFFLE = 2,
    RNG_CROP = 3,
    RNG_FLIP = 4,
    RNG_DROPOUT = 5,
    RNG_SHAPES = 6,
    RNG_LIMIT = 7,
    RNG_SPLIT = 8,
    RNG_ROTATION = 9,
    RNG_COLOR = 10,
    RNG_CUTOUT = 11,
    RNG_MIXUP = 12
};

/* Four 32-bit words for (seed, purpose, a, b, c). Typical use: a = epoch or parameter index, b = sample, c = position. */
void rng_block(uint64_t seed, enum rng_purpose purpose, uint32_t a, uint32_t b, uint32_t c, uint32_t ret_words[4]);

/* A float in [0, 1) from the top 24 bits of a word. */
static inline float rng_unit(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}

/* A whole number in [0, n), n > 0, from a word (Lemire's multiplication; its bias is below n / 2^32). */
static inline uint32_t rng_below(uint32_t word, uint32_t n) {
    return (uint32_t)(((uint64_t)word * n) >> 32);
}

/* Standard normal number from two words (Box and Muller 1958), computed in double. */
float rng_normal(uint32_t word0, uint32_t word1);

/* Fills ret_order with a permutation of 0..n-1 (Fisher and Yates), keyed by (seed, purpose, a). */
void rng_permutation(uint64_t seed, enum rng_purpose purpose, uint32_t a, uint32_t n, uint32_t *ret_order);

#endif
