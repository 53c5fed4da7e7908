/* Puts batches together: chosen images, augmented, normalized, mixed. Every random number belongs to (seed, epoch, sample):
 * threads, pauses and resumes change nothing. */
#ifndef TRAIN_BATCH_H
#define TRAIN_BATCH_H

#include <stdint.h>

#include "common/spec.h"
#include "server/train/data.h"

/* What is done to training images, in this order; zeroed: nothing. All but mixup comes before normalization, on pixels as
 * fractions of 255, so that what is cropped in, turned in or cut out is black.
 * - crop, flip: torchvision's RandomCrop(padding=crop), RandomHorizontalFlip. RNG_CROP: words 0 and 1 give the rows and columns
 * of the shift; RNG_FLIP: the top bit of word 0.
 * - rotation: around the centre by an angle of -rotation to rotation degrees, counter-clockwise, bilinear, black outside, as
 *   torchvision's rotate of a tensor. RNG_ROTATION: word 0.
 * - brightness, contrast: torchvision's ColorJitter; a factor f of 1 - b to 1 + b, then x = x f, and x = x f + (1 - f) mean grey
 * of the image (0.2989 R + 0.587 G + 0.114 B), each clamped to 0..1. RNG_COLOR: words 0 and 1.
 * - cutout: a square of so many pixels, cut off at the border: rows from y - cutout / 2, columns from x - cutout / 2, with (y,x)
 * any place of the image (DeVries and Taylor 2017). RNG_CUTOUT: words 0 and 1 give y and x.
 * - mixup: after normalization, the image at position i of n becomes share x_i + (1 - share) x_(n-1-i), with the share of its
 *   sample: max(s, 1 - s), s from Beta(mixup, mixup) (Zhang et al. 2018). */
struct batch_augment {
    int crop;
    bool flip;
    double rotation, brightness, contrast;
    int cutout;
    double mixup;
    uint64_t seed;
    uint32_t epoch;
};

/* What a spec asks for in an epoch (counted from 0). */
struct batch_augment batch_augment(const struct spec *spec, int epoch);

/* A batch in the caller's memory. */
struct batch {
    int n;
    const uint32_t *samples; /* [n], indexes into the set */
    float *images;           /* [n,C,H,W], normalized */
    int32_t *labels;         /* [n] */
    int32_t *others;         /* [n], labels of the images mixed in; may be NULL without mixup */
    float *shares;           /* [n], 0.5 to 1; may be NULL without mixup */
};

/* Fills images and labels with the samples of a set and, with mixup, others and shares for struct backend_batch (which wants NULL
 * for both without). */
void batch_fill(const struct data *data, const struct image_set *set, const struct batch_augment *augment,
                const struct batch *batch);

/* --- mixup.c --- */

/* The share of a sample: max(s, 1 - s). */
float mixup_share(const struct batch_augment *augment, uint32_t sample);

/* Mixes a batch of images of size floats in place; fills others and shares. */
void mixup(const struct batch_augment *augment, const struct batch *batch, size_t size);

#endif
