/* Chooses the validation images among the training images. */
#ifndef TRAIN_SPLIT_H
#define TRAIN_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* Marks round(fraction * n) of n images, stratified: a class of n_c images gives floor(fraction * n_c), and what is missing comes
 * from the classes with the largest rests, the lowest class on a tie. Within a class it is the images that come first in the
 * permutation of (seed, RNG_SPLIT). labels: [n], 0..classes-1. ERR_FIELD at /validation_fraction when it would be none or all of
 * them. */
int split_stratified(const uint8_t *labels, int n, int classes, double fraction, uint64_t seed, bool *ret_marks, int *ret_n,
                     struct err *err);

#endif
