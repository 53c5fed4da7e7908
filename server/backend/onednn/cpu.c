/* Chooses the hot loops by what the CPU offers, and no wider than oneDNN's kernels: both share the layout of blocks. */
#include "server/backend/onednn/compat.h"
#include "server/backend/onednn/kernels.h"

#if defined(__x86_64__)

const struct kernels *kernels_choose(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && compat_cpu_has(dnnl_cpu_isa_avx512_core))
        return &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &kernels_avx2;
    return &kernels_base;
}

bool kernels_bf16(void) {
    __builtin_cpu_init();
    return kernels_choose() == &kernels_avx512 && __builtin_cpu_supports("avx512bf16") &&
           compat_cpu_has(dnnl_cpu_isa_avx512_core_bf16);
}

#else

const struct kernels *kernels_choose(void) {
    return &kernels_base;
}

bool kernels_bf16(void) {
    return false;
}

#endif
