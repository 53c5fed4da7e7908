/* Batch assembly: see batch.h. */
#include "server/train/batch.h"

#include <string.h>

#include "common/rng.h"

/* Where an output pixel comes from: row y + shift_y, column x + shift_x, mirrored when flip. */
struct placement {
    int shift_y, shift_x;
    bool flip;
};

static struct placement place(const struct batch_augment *augment, uint32_t sample) {
    struct placement placement = {0};
    uint32_t words[4];
    if (augment->crop > 0) {
        uint32_t places = 2 * (uint32_t)augment->crop + 1;
        rng_block(augment->seed, RNG_CROP, augment->epoch, sample, 0, words);
        placement.shift_y = (int)rng_below(words[0], places) - augment->crop;
        placement.shift_x = (int)rng_below(words[1], places) - augment->crop;
    }
    if (augment->flip) {
        rng_block(augment->seed, RNG_FLIP, augment->epoch, sample, 0, words);
        placement.flip = words[0] >> 31;
    }
    return placement;
}

static void fill(float *row, int n, float value) {
    for (int x = 0; x < n; x++)
        row[x] = value;
}

/* One row of width pixels, [begin, end) of which come from the image. */
static void fill_row(const uint8_t *from, int width, const struct placement *placement, const float *normal, float *to) {
    int begin = placement->shift_x < 0 ? -placement->shift_x : 0;
    int end = placement->shift_x > 0 ? width - placement->shift_x : width;
    if (begin >= end) { /* shifted out of sight */
        fill(to, width, normal[0]);
        return;
    }
    if (placement->flip) {
        fill(to, width - end, normal[0]);
        for (int x = begin; x < end; x++)
            to[width - 1 - x] = normal[from[x + placement->shift_x]];
        fill(to + width - begin, begin, normal[0]);
        return;
    }
    fill(to, begin, normal[0]);
    for (int x = begin; x < end; x++)
        to[x] = normal[from[x + placement->shift_x]];
    fill(to + end, width - end, normal[0]);
}

static void fill_image(const struct data *data, const uint8_t *pixels, const struct placement *placement, float *image) {
    size_t width = (size_t)data->width;
    for (int c = 0; c < data->channels; c++)
        for (int y = 0; y < data->height; y++) {
            int from = y + placement->shift_y;
            size_t plane = (size_t)c * (size_t)data->height;
            float *row = image + (plane + (size_t)y) * width;
            if (from < 0 || from >= data->height)
                fill(row, data->width, data->normal[c][0]);
            else
                fill_row(pixels + (plane + (size_t)from) * width, data->width, placement, data->normal[c], row);
        }
}

struct batch_augment batch_augment(const struct spec *spec, int epoch) {
    return (struct batch_augment){.crop = spec->augment.crop,
                                  .flip = spec->augment.flip,
                                  .rotation = spec->augment.rotation,
                                  .brightness = spec->augment.brightness,
                                  .contrast = spec->augment.contrast,
                                  .cutout = spec->augment.cutout,
                                  .mixup = spec->augment.mixup,
                                  .seed = spec->seed,
                                  .epoch = (uint32_t)epoch};
}

void batch_fill(const struct data *data, const struct image_set *set, const struct batch_augment *augment,
                const struct batch *batch) {
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    for (int i = 0; i < batch->n; i++) {
        uint32_t sample = batch->samples[i];
        struct placement placement = place(augment, sample);
        fill_image(data, set->pixels + sample * size, &placement, batch->images + (size_t)i * size);
        batch->labels[i] = set->labels[sample];
    }
}
