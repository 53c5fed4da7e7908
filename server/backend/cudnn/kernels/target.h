/* What lets the kernels' source be compiled twice: by nvcc or NVRTC for the device, by gcc as C for tests.
 *
 *   KERNEL(add) {                          the kernel residuum_add; p is its struct kernel_add, launch says which block this is
 *       SHARED(float, sums[KERNEL_THREADS]);
 *       PHASE(thread) { ... }              all threads of the block do this; then they wait for each other
 *       PHASE(thread) { ... }
 *   }
 *
 * As C, a phase is a loop over the threads in an order that the test chooses, and what lies in SHARED starts as NaN. So a
 * variable of a thread lives in one phase only, a phase is not left by return, break or goto, and statements between phases are
 * done by all threads alike. */
#ifndef BACKEND_CUDNN_KERNELS_TARGET_H
#define BACKEND_CUDNN_KERNELS_TARGET_H

#define RESIDUUM_KERNELS
#include "server/backend/cudnn/kernels/kernels.h"

/* What a thread loads or stores at once: 16 bytes, aligned to 16. */
struct words {
    uint32_t v[4];
};

#ifdef __CUDACC__

struct launch {
    uint32_t block_x, block_y, blocks_x, blocks_y;
};

/* So many fit at least, or ptxas would rather spill registers than use more. */
enum { BLOCKS_PER_PROCESSOR = 2 };

#define FUNCTION static __device__ __forceinline__
#define KERNEL(name)                                                                        \
    FUNCTION void name##_block(const struct kernel_##name *p, const struct launch *launch); \
    extern "C" __global__ void __launch_bounds__(KERNEL_THREADS, BLOCKS_PER_PROCESSOR)      \
        residuum_##name(const __grid_constant__ struct kernel_##name params) {              \
        const struct launch launch = {blockIdx.x, blockIdx.y, gridDim.x, gridDim.y};        \
        name##_block(&params, &launch);                                                     \
    }                                                                                       \
    FUNCTION void name##_block(const struct kernel_##name *p, const struct launch *launch)
#define SHARED(type, name, size) __shared__ type name size
/* Before a loop: so many rounds at a time; all of them, where an array indexed by the loop shall be registers. */
#define UNROLLED(n) PRAGMA(unroll n)
#define PRAGMA(text) _Pragma(#text)
#define PHASE(thread) for (uint32_t thread = threadIdx.x, turns = 0; turns < 1; turns++, __syncthreads())
/* An address that stands in memory of the device. */
#define STORED(launch, address) (address)

FUNCTION float float_of_bits(uint32_t bits) {
    return __uint_as_float(bits);
}

FUNCTION uint32_t bits_of_float(float value) {
    return __float_as_uint(value);
}

FUNCTION struct words load_words(const void *from) {
    uint4 vector = *(const uint4 *)from;
    struct words words = {{vector.x, vector.y, vector.z, vector.w}};
    return words;
}

FUNCTION void store_words(void *to, const struct words *words) {
    *(uint4 *)to = make_uint4(words->v[0], words->v[1], words->v[2], words->v[3]);
}

#else

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

struct launch {
    uint32_t block_x, block_y, blocks_x, blocks_y;
    const uint32_t *threads; /* [KERNEL_THREADS + 1]: who comes when; the last one stays unused */
    ptrdiff_t shift;         /* struct kernel_grid of host.h */
};

#define FUNCTION static inline
#define UNROLLED(n)
#define KERNEL(name) void residuum_##name(const struct kernel_##name *p, const struct launch *launch)
#define SHARED(type, name, size) \
    type name size;              \
    memset(name, 0xff, sizeof name)
#define PHASE(thread) \
    for (uint32_t turns = 0, thread = launch->threads[0]; turns < KERNEL_THREADS; thread = launch->threads[++turns])
#define STORED(launch, address) \
    ((address) == NULL ? (address) : (__typeof__(address))(const void *)((const char *)(address) + (launch)->shift))

FUNCTION float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FUNCTION uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

FUNCTION struct words load_words(const void *from) {
    struct words words;
    assert((uintptr_t)from % sizeof words == 0);
    memcpy(&words, from, sizeof words);
    return words;
}

FUNCTION void store_words(void *to, const struct words *words) {
    assert((uintptr_t)to % sizeof *words == 0);
    memcpy(to, words, sizeof *words);
}

#define KERNEL_PROTOTYPE(name, addresses) KERNEL(name);
KERNELS(KERNEL_PROTOTYPE)
#undef KERNEL_PROTOTYPE

#endif

#endif
