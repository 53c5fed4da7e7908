/* Dropout's loop, part of kernels_body.h: rng_block of common/rng.h (Philox4x32-10, Salmon et al. 2011) for a vector of counters
 * at a time. */

typedef uint64_t vl __attribute__((vector_size(LANES * 4), may_alias)); /* half as many lanes */

INLINE void multiply_low(vl *ret, const vl *a, uint32_t b) {
    *ret = (*a & UINT32_MAX) * b;
}

/* The halves of the 64-bit products x * factor. */
INLINE void multiply(const vu *x, uint32_t factor, vu *ret_high, vu *ret_low) {
    vl even = (vl)*x, odd = even >> 32;
    MULTIPLY_LOW(&even, &even, factor);
    MULTIPLY_LOW(&odd, &odd, factor);
    *ret_low = (vu)((even & UINT32_MAX) | odd << 32);
    *ret_high = (vu)(even >> 32 | (odd & ~(uint64_t)UINT32_MAX));
}

/* Words for the counters (place, sample, counter, RNG_DROPOUT): see rng_block. */
INLINE void drop_words(const struct drop *drop, const vu *counter, vu ret_words[4]) {
    uint32_t key0 = (uint32_t)drop->seed, key1 = (uint32_t)(drop->seed >> 32);
    vu x0 = (vu){0} + drop->place, x1 = (vu){0} + drop->sample, x2 = *counter, x3 = (vu){0} + (uint32_t)RNG_DROPOUT;
    for (int round = 0; round < 10; round++) {
        vu high0, low0, high1, low1;
        multiply(&x0, 0xD2511F53u, &high0, &low0);
        multiply(&x2, 0xCD9E8D57u, &high1, &low1);
        x0 = high1 ^ x1 ^ key0;
        x2 = high0 ^ x3 ^ key1;
        x1 = low1;
        x3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    ret_words[0] = x0;
    ret_words[1] = x1;
    ret_words[2] = x2;
    ret_words[3] = x3;
}

INLINE void drop_pixel(void *dst, const void *src, size_t i, bool bf16, const struct drop *drop, const vu *word) {
    vf v, unit = __builtin_convertvector((vi)(*word >> 8), vf) * 0x1p-24f; /* rng_unit */
    vf keep = (vf){0} + drop->keep;
    get(&v, src, i, bf16);
    v *= (vf)((vi)keep & ~(unit < drop->rate));
    put(dst, i, bf16, &v);
}

/* Channel c's value at pixel p is element c * pixels + p; its word is number element % 4 of counter element / 4. */
INLINE void drop_body(void *dst, const void *src, size_t pixels, bool bf16, const struct drop *drop) {
    vu first, counter, words[4];
    for (uint32_t k = 0; k < LANES; k++)
        first[k] = (drop->channel + k) * (uint32_t)pixels;
    for (size_t p = 0; p + 4 <= pixels && pixels % 4 == 0; p += 4) {
        counter = (first + (uint32_t)p) >> 2;
        drop_words(drop, &counter, words);
        for (size_t k = 0; k < 4; k++)
            drop_pixel(dst, src, p + k, bf16, drop, &words[k]);
    }
    for (size_t p = 0; p < pixels && pixels % 4 != 0; p++) {
        vu element = first + (uint32_t)p;
        counter = element >> 2;
        drop_words(drop, &counter, words);
        for (uint32_t k = 1; k < 4; k++) {
            vu mine = (vu)((element & 3) == k);
            words[0] = (words[0] & ~mine) | (words[k] & mine);
        }
        drop_pixel(dst, src, p, bf16, drop, &words[0]);
    }
}

static void drop(void *dst, const void *src, size_t pixels, bool bf16, const struct drop *drop) {
    if (bf16)
        drop_body(dst, src, pixels, true, drop);
    else
        drop_body(dst, src, pixels, false, drop);
}
