/* What normalizes images: mean and deviation of each channel. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include <stddef.h>
#include <stdint.h>

/* Of pixels [n,channels,plane], as fractions of 255; population deviation. By whole-number sums, which no order of adding can
 * change. The deviation of a channel of one value is 1: it is left unscaled. */
void measure_channels(const uint8_t *pixels, size_t n, int channels, size_t plane, double *ret_mean, double *ret_deviation);

#endif
