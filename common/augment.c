/* The random numbers of an image's augmentation: see augment.h. */
#include "common/augment.h"

#include <math.h>

#include "common/rng.h"

/* A number from -limit to limit. */
static float between(uint32_t word, double limit) {
    return (2 * rng_unit(word) - 1) * (float)limit;
}

static void draw_place(const struct augment *augment, uint32_t sample, struct augment_moves *moves) {
    uint32_t words[4];
    if (augment->crop > 0) {
        uint32_t places = 2 * (uint32_t)augment->crop + 1;
        rng_block(augment->seed, RNG_CROP, augment->epoch, sample, 0, words);
        moves->shift_y = (int32_t)rng_below(words[0], places) - augment->crop;
        moves->shift_x = (int32_t)rng_below(words[1], places) - augment->crop;
    }
    if (augment->flip) {
        rng_block(augment->seed, RNG_FLIP, augment->epoch, sample, 0, words);
        moves->flip = (int32_t)(words[0] >> 31);
    }
}

static void draw_rotation(const struct augment *augment, uint32_t sample, struct augment_moves *moves) {
    const double degree = 3.14159265358979323846 / 180;
    uint32_t words[4];
    rng_block(augment->seed, RNG_ROTATION, augment->epoch, sample, 0, words);
    double angle = (double)between(words[0], augment->rotation) * degree;
    moves->sine = (float)sin(angle);
    moves->cosine = (float)cos(angle);
}

static void draw_color(const struct augment *augment, uint32_t sample, struct augment_moves *moves) {
    uint32_t words[4];
    rng_block(augment->seed, RNG_COLOR, augment->epoch, sample, 0, words);
    if (augment->brightness > 0)
        moves->brightness = 1 + between(words[0], augment->brightness);
    if (augment->contrast > 0)
        moves->contrast = 1 + between(words[1], augment->contrast);
}

static void draw_cut(const struct augment *augment, uint32_t sample, int height, int width, struct augment_moves *moves) {
    uint32_t words[4];
    rng_block(augment->seed, RNG_CUTOUT, augment->epoch, sample, 0, words);
    moves->cut_top = (int32_t)rng_below(words[0], (uint32_t)height) - augment->cutout / 2;
    moves->cut_left = (int32_t)rng_below(words[1], (uint32_t)width) - augment->cutout / 2;
    moves->cut_side = augment->cutout;
}

struct augment_moves augment_moves(const struct augment *augment, uint32_t sample, int height, int width) {
    struct augment_moves moves = {.cosine = 1, .brightness = 1, .contrast = 1};
    draw_place(augment, sample, &moves);
    if (augment->rotation > 0)
        draw_rotation(augment, sample, &moves);
    if (augment->brightness > 0 || augment->contrast > 0)
        draw_color(augment, sample, &moves);
    if (augment->cutout > 0)
        draw_cut(augment, sample, height, width, &moves);
    return moves;
}

bool augment_is_slow(const struct augment *augment) {
    return augment->rotation > 0 || augment->brightness > 0 || augment->contrast > 0;
}
