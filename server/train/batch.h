/* Puts batches together: chosen images, augmented, normalized. */
#ifndef TRAIN_BATCH_H
#define TRAIN_BATCH_H

#include <stdint.h>

#include "server/train/data.h"

/* What is done to training images; zeroed: nothing. */
struct batch_augment {
    int crop; /* black pixels added on every side before a random crop of the image's size */
    bool flip;
    uint64_t seed;
    uint32_t epoch;
};

/* Fills images, [n,C,H,W], and labels, [n], with the given samples of a set. Augmentation comes before normalization, so that
 * what is cropped in is black, as torchvision's RandomCrop(padding=4), RandomHorizontalFlip, Normalize do. The random numbers are
 * RNG_CROP and RNG_FLIP of (seed, epoch, sample): words 0 and 1 give the rows and columns of the shift, the top bit of word 0 the
 * flip. */
void batch_fill(const struct data *data, const struct image_set *set, const struct batch_augment *augment,
                const uint32_t *samples, int n, float *images, int32_t *labels);

#endif
