/* Every other function of the table, for both libraries: a probe has no business to call it, and whoever does is told so. */
#include <stdio.h>
#include <stdlib.h>

#include "server/backend/cudnn/driver.h"

void forbidden(void);
void forbidden(void) {
    fputs("a fake library: a function was called that a probe has no business to call\n", stderr);
    abort();
}

/* Weak: cuda.c and cudnn.c have the real ones. */
#pragma GCC diagnostic ignored "-Wattribute-alias"
#define FORBIDDEN(function) extern __typeof__(function) function __attribute__((weak, alias("forbidden")));
CUDA_FUNCTIONS(FORBIDDEN)
CUDNN_FUNCTIONS(FORBIDDEN)
