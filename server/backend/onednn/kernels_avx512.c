/* The hot loops for x86 with AVX-512. The bf16 ones also need AVX512_BF16: plans in bf16 are refused without it. */
#if defined(__x86_64__)
#include <immintrin.h>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")
#define LOAD_BF16(to, from) (*(to) = (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i) * (from)), 16))
#define STORE_BF16(to, value) (*(to) = (vh)_mm512_cvtneps_pbh((__m512) * (value)))
#define ROOT(to, value) (*(to) = (vf)_mm512_sqrt_ps((__m512) * (value)))
#define MULTIPLY_ADD(ret, a, b, c) (*(ret) = (vf)_mm512_fmadd_ps((__m512) * (a), (__m512) * (b), (__m512) * (c)))
#define MULTIPLY_LOW(ret, a, b) (*(ret) = (vl)_mm512_mul_epu32((__m512i) * (a), _mm512_set1_epi64(b)))
#else
#define ROOT each_root
#define MULTIPLY_ADD multiply_add
#define MULTIPLY_LOW multiply_low
#define LOAD_BF16 widen_bf16
#define STORE_BF16 round_bf16
#endif
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES 16
#define KERNELS kernels_avx512
#include "server/backend/onednn/kernels_body.h"
