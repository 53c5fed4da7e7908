/* Means and deviations: see measure.h. */
#include "server/train/measure.h"

#include <math.h>

/* As many squares as 32 bits hold: narrow sums are added faster. */
enum { RUN = 1 << 16 };

static void add_run(const uint8_t *pixels, size_t n, uint64_t *sum, uint64_t *squares) {
    uint32_t part = 0, part_squares = 0;
    for (size_t k = 0; k < n; k++) {
        part += pixels[k];
        part_squares += (uint32_t)pixels[k] * pixels[k];
    }
    *sum += part;
    *squares += part_squares;
}

static void measure_channel(const uint8_t *pixels, size_t n, size_t stride, size_t plane, double *ret_mean,
                            double *ret_deviation) {
    uint64_t sum = 0, squares = 0, count = (uint64_t)plane * n;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < plane; k += RUN)
            add_run(pixels + i * stride + k, plane - k < RUN ? plane - k : RUN, &sum, &squares);
    /* count^2 * variance; count is below 2^48 and a square below 2^16, so that the products stay below 2^112 */
    unsigned __int128 spread = (unsigned __int128)count * squares - (unsigned __int128)sum * sum;
    *ret_mean = (double)sum / (double)count / 255;
    *ret_deviation = spread > 0 ? sqrt((double)spread) / (double)count / 255 : 1;
}

void measure_channels(const uint8_t *pixels, size_t n, int channels, size_t plane, double *ret_mean, double *ret_deviation) {
    for (int c = 0; c < channels; c++)
        measure_channel(pixels + (size_t)c * plane, n, plane * (size_t)channels, plane, &ret_mean[c], &ret_deviation[c]);
}
