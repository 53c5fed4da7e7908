/* What is done to a training image, and the random numbers of it: made in one place, on the host, so that every backend moves the
 * same pixels by the same amounts, bit for bit. */
#ifndef COMMON_AUGMENT_H
#define COMMON_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

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
struct augment {
    int crop;
    bool flip;
    double rotation, brightness, contrast;
    int cutout;
    double mixup;
    uint64_t seed;
    uint32_t epoch;
};

/* What becomes of one image: the numbers that were drawn for it. Zeroed and with brightness and contrast 1, cosine 1: nothing.
 * The layout is shared with the GPU's kernels: 4-byte members only. */
struct augment_moves {
    int32_t shift_y, shift_x;            /* row y comes from row y + shift_y of the stored image, column x from x + shift_x */
    int32_t flip;                        /* 1: mirrored, after the shift: column x comes from (width - 1 - x) + shift_x */
    float sine, cosine;                  /* of the rotation's angle */
    float brightness, contrast;          /* factors */
    int32_t cut_top, cut_left, cut_side; /* the black square, which may stick out; side 0: none */
};

/* Draws the numbers of one sample for images of height x width pixels. */
struct augment_moves augment_moves(const struct augment *augment, uint32_t sample, int height, int width);

/* Whether pixels are more than moved, so that they have to be computed as fractions: rotation, brightness or contrast. */
bool augment_is_slow(const struct augment *augment);

#endif
