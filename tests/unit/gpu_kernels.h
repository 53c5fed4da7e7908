/* The tests of the GPU's kernels, which all belong to test_gpu_kernels.c. */
#ifndef TESTS_UNIT_GPU_KERNELS_H
#define TESTS_UNIT_GPU_KERNELS_H

#define GPU_KERNEL_TESTS(X)          \
    X(images)                        \
    X(augment_as_trainer)            \
    X(augment_bf16)                  \
    X(norm_statistics)               \
    X(norm_statistics_far_from_zero) \
    X(norm_single_value)             \
    X(norm_apply)                    \
    X(back_sums)                     \
    X(back_sums_group)               \
    X(norm_back)                     \
    X(group_forward)                 \
    X(group_back)                    \
    X(act)                           \
    X(act_extremes)                  \
    X(add)                           \
    X(mask)                          \
    X(channels)                      \
    X(bias)                          \
    X(dropout)                       \
    X(pool_max)                      \
    X(pool_max_ties)                 \
    X(pool_avg)                      \
    X(shortcut)                      \
    X(flatten)                       \
    X(conv)                          \
    X(conv_types)                    \
    X(loss)                          \
    X(loss_extremes)                 \
    X(loss_sum)                      \
    X(update)                        \
    X(update_norms)                  \
    X(narrow)

#define GPU_KERNEL_PROTOTYPE(name) void test_##name(void **state);
GPU_KERNEL_TESTS(GPU_KERNEL_PROTOTYPE)
#undef GPU_KERNEL_PROTOTYPE

#endif
