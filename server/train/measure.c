/* Means and deviations: see measure.h. */
#include "server/train/measure.h"

#include <math.h>

static void measure_channel(const uint8_t *pixels, size_t n, size_t stride, size_t plane, double *ret_mean,
                            double *ret_deviation) {
    uint64_t sum = 0, squares = 0, count = (uint64_t)plane * n;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < plane; k++) {
            uint8_t value = pixels[i * stride + k];
            sum += value;
            squares += (uint64_t)value * value;
        }
    /* count^2 * variance; count is below 2^48 and a square below 2^16, so that the products stay below 2^112 */
    unsigned __int128 spread = (unsigned __int128)count * squares - (unsigned __int128)sum * sum;
    *ret_mean = (double)sum / (double)count / 255;
    *ret_deviation = spread > 0 ? sqrt((double)spread) / (double)count / 255 : 1;
}

void measure_channels(const uint8_t *pixels, size_t n, int channels, size_t plane, double *ret_mean, double *ret_deviation) {
    for (int c = 0; c < channels; c++)
        measure_channel(pixels + (size_t)c * plane, n, plane * (size_t)channels, plane, &ret_mean[c], &ret_deviation[c]);
}
