/* Noise to train on: see noise.h. */
#include "tests/gpu/noise.h"

#include <stdlib.h>

#include "common/rng.h"
#include "server/train/batch.h"

struct noise {
    uint8_t pixels[IMAGES * SIZE], labels[IMAGES];
    struct data data;
};

const struct augment noise_everything = {.crop = 2,
                                         .flip = true,
                                         .rotation = 20,
                                         .brightness = 0.3,
                                         .contrast = 0.4,
                                         .cutout = 3,
                                         .mixup = 0.5,
                                         .seed = 9,
                                         .epoch = 2};

static void fill(struct noise *noise) {
    for (uint32_t i = 0; i < sizeof noise->pixels; i++) {
        uint32_t words[4];
        rng_block(3, RNG_SHAPES, 0, 0, i, words);
        noise->pixels[i] = (uint8_t)words[0];
    }
    for (int i = 0; i < IMAGES; i++)
        noise->labels[i] = (uint8_t)(i * 7 % CLASSES);
    for (int c = 0; c < CHANNELS; c++)
        for (int value = 0; value < 256; value++)
            noise->data.normal[c][value] =
                (float)(((double)((float)value / 255) - noise->data.mean[c]) / noise->data.deviation[c]);
}

struct noise *noise_new(void) {
    struct noise *noise = calloc(1, sizeof *noise);
    if (noise == NULL)
        abort();
    noise->data = (struct data){.channels = CHANNELS,
                                .height = HEIGHT,
                                .width = WIDTH,
                                .mean = {0.4, 0.5, 0.45},
                                .deviation = {0.25, 0.2, 0.3},
                                .train = {IMAGES, noise->pixels, noise->labels}};
    fill(noise);
    return noise;
}

void noise_free(struct noise *noise) {
    free(noise);
}

struct backend_data noise_data(const struct noise *noise) {
    return (struct backend_data){.n = IMAGES,
                                 .channels = CHANNELS,
                                 .height = HEIGHT,
                                 .width = WIDTH,
                                 .pixels = noise->pixels,
                                 .mean = noise->data.mean,
                                 .deviation = noise->data.deviation,
                                 .normal = noise->data.normal};
}

void noise_batch(const struct noise *noise, const struct augment *augment, int step, struct noise_batch *ret_batch) {
    int n = step == STEPS - 1 ? BATCH - 1 : BATCH;
    bool mixed = augment->mixup > 0;
    for (int i = 0; i < n; i++)
        ret_batch->samples[i] = (uint32_t)(step * 17 + i * 11) % IMAGES;
    struct batch batch = {.n = n,
                          .samples = ret_batch->samples,
                          .images = ret_batch->images,
                          .labels = ret_batch->labels,
                          .others = ret_batch->others,
                          .shares = ret_batch->shares};
    batch_fill(&noise->data, &noise->data.train, augment, &batch);
    ret_batch->view = (struct backend_batch){.n = n,
                                             .images = ret_batch->images,
                                             .augment = augment,
                                             .labels = ret_batch->labels,
                                             .others = mixed ? ret_batch->others : NULL,
                                             .shares = mixed ? ret_batch->shares : NULL,
                                             .smoothing = 0.1f,
                                             .seed = 5,
                                             .epoch = 2,
                                             .samples = ret_batch->samples};
}
