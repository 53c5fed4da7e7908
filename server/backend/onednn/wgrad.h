/* The weight gradient of a bf16 convolution, written for AVX512_BF16: oneDNN's own takes one and a half times the forward pass,
 * this one about as long. */
#ifndef ONEDNN_WGRAD_H
#define ONEDNN_WGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wgrad {
    int in_blocks, out_blocks; /* of 16 channels */
    int in_h, in_w, out_h, out_w;
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};

/* Whether wgrad_run can do it: kernels of width 1 or 3. */
bool wgrad_fits(const struct wgrad *shape);

/* Bytes of scratch that each thread needs, and all threads together for their partial sums. */
size_t wgrad_scratch(const struct wgrad *shape);
size_t wgrad_partials(const struct wgrad *shape, int threads);

/* gradient [O/16][I/16][KH][KW][16 of I][16 of O] = sum over n images of x (*) g. x and g are blocked bf16. scratch has threads
 * times wgrad_scratch bytes, partials wgrad_partials bytes, both aligned to 64. Sums have one order for a number of threads. */
void wgrad_run(const struct wgrad *shape, float *gradient, const uint16_t *x, const uint16_t *g, int n, int threads,
               void *scratch, float *partials);

#endif
