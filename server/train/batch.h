/* Puts batches together: chosen images, augmented, normalized, mixed. Every random number belongs to (seed, epoch, sample):
 * threads, pauses and resumes change nothing. */
#ifndef TRAIN_BATCH_H
#define TRAIN_BATCH_H

#include <stdint.h>

#include "common/augment.h"
#include "common/spec.h"
#include "server/backend/backend.h"
#include "server/train/data.h"

/* What a spec asks for in an epoch (counted from 0). */
struct augment batch_augment(const struct spec *spec, int epoch);

/* A batch in the caller's memory. */
struct batch {
    int n;
    const uint32_t *samples; /* [n], indexes into the set */
    float *images;           /* [n,C,H,W], normalized; NULL: not wanted, as a device makes them itself */
    int32_t *labels;         /* [n] */
    int32_t *others;         /* [n], labels of the images mixed in; may be NULL without mixup */
    float *shares;           /* [n], 0.5 to 1; may be NULL without mixup */
};

/* Fills images, if wanted, and labels with the samples of a set and, with mixup, others and shares for struct backend_batch
 * (which wants NULL for both without). */
void batch_fill(const struct data *data, const struct image_set *set, const struct augment *augment, const struct batch *batch);

/* A filled batch of the training set as a backend takes it; borrows what the batch points to, and augment. */
struct backend_batch batch_step(const struct spec *spec, const struct augment *augment, const struct batch *batch);

/* The update after it; step: its number over all epochs, from 1. */
struct backend_optimizer batch_update(const struct spec *spec, double lr, int64_t step);

/* --- mixup.c --- */

/* The share of a sample: max(s, 1 - s). */
float mixup_share(const struct augment *augment, uint32_t sample);

/* Fills others and shares. */
void mixup_targets(const struct augment *augment, const struct batch *batch);

/* Mixes the images, of size floats each, in place by these shares. */
void mixup_images(const struct batch *batch, size_t size);

#endif
