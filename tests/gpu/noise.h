/* A small data set of noise and batches of it, made as the trainer makes them. */
#ifndef TESTS_GPU_NOISE_H
#define TESTS_GPU_NOISE_H

#include "server/backend/backend.h"

enum { BATCH = 6, IMAGES = 40, STEPS = 6, CHANNELS = 3, HEIGHT = 12, WIDTH = 10, SIZE = CHANNELS * HEIGHT * WIDTH, CLASSES = 5 };

struct noise;

struct noise *noise_new(void);
void noise_free(struct noise *noise);

/* The set as a backend takes it; borrowed. */
struct backend_data noise_data(const struct noise *noise);

/* All that can be done to images. */
extern const struct augment noise_everything;

struct noise_batch {
    uint32_t samples[BATCH];
    float images[BATCH * SIZE], shares[BATCH];
    int32_t labels[BATCH], others[BATCH];
    struct backend_batch view; /* of the above, with images from the host */
};

/* Makes batch number step, counted from 0; number STEPS - 1 is smaller. */
void noise_batch(const struct noise *noise, const struct augment *augment, int step, struct noise_batch *ret_batch);

#endif
