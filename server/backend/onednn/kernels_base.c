/* The hot loops for any CPU that the compiler targets by default. */
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES 8
#define KERNELS kernels_base
#define LOAD_BF16 widen_bf16
#define STORE_BF16 round_bf16
#define ROOT each_root
#define MULTIPLY_ADD multiply_add
#define MULTIPLY_LOW multiply_low
#include "server/backend/onednn/kernels_body.h"
