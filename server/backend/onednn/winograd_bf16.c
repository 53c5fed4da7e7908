/* Winograd's hot loops in bf16, for AVX512_BF16. Transformed tiles are rounded to bf16. */
#include "server/backend/onednn/winograd_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

TARGET static inline __m512 widen(const uint16_t *from) {
    __m256i bits = _mm256_load_si256((const __m256i *)(const void *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

TARGET static inline void narrow(uint16_t *to, __m512 value) {
    _mm256_store_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(value));
}

/* Two tiles' values at a point, channel by channel side by side. */
TARGET static inline void put_sides(uint16_t *to, const __m512 values[2]) {
    _Alignas(64) static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(values[1], values[0]);
    _mm512_store_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(order), both));
}

#define SIDE 2
#define element uint16_t
#define LOAD(from) widen(from)
#define STORE(to, value) narrow(to, value)
#define DOT(sum, left, right) _mm512_dpbf16_ps(sum, (__m512bh)(left), (__m512bh)(right))
#define PUT_SIDES(to, values) put_sides(to, values)
#define KERNELS winograd_bf16
#include "server/backend/onednn/winograd_body.h"

#else

const struct winograd_kernels winograd_bf16 = {.size = sizeof(uint16_t), .words = LANE / 2, .side = 2};

#endif
