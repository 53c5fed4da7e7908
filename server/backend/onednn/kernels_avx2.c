/* The hot loops for x86 with AVX2 and fused multiply-add; elsewhere the default ones again. */
#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC target("avx2,fma")
#define ROOT(to, value) (*(to) = (vf)_mm256_sqrt_ps((__m256) * (value)))
#define MULTIPLY_ADD(ret, a, b, c) (*(ret) = (vf)_mm256_fmadd_ps((__m256) * (a), (__m256) * (b), (__m256) * (c)))
#define MULTIPLY_LOW(ret, a, b) (*(ret) = (vl)_mm256_mul_epu32((__m256i) * (a), _mm256_set1_epi64x(b)))
#else
#define ROOT each_root
#define MULTIPLY_ADD multiply_add
#define MULTIPLY_LOW multiply_low
#endif
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES 8
#define KERNELS kernels_avx2
#define LOAD_BF16 widen_bf16
#define STORE_BF16 round_bf16
#include "server/backend/onednn/kernels_body.h"
