/* Winograd's hot loops in f32, for AVX-512. */
#include "server/backend/onednn/winograd_kernels.h"

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define SIDE 1
#define element float
#define LOAD(from) _mm512_load_ps(from)
#define STORE(to, value) _mm512_store_ps(to, value)
#define DOT(sum, left, right) _mm512_fmadd_ps(left, right, sum)
#define PUT_SIDES(to, values) _mm512_store_ps(to, (values)[0])
#define KERNELS winograd_f32
#include "server/backend/onednn/winograd_body.h"

#else

const struct winograd_kernels winograd_f32 = {.size = sizeof(float), .words = LANE, .side = 1};

#endif
