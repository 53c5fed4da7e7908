/* Draws the data set "shapes": one filled figure an image, at a random place, size and angle, in random colours on a shaded,
 * noisy ground. Whole numbers only, so that the bytes are the same on every machine. */
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "server/train/data.h"
#include "server/train/parallel.h"

/* Lengths along the way: pixels are cut in 8 (SUB); a figure's own coordinates put its radius at UNIT; sines are times SINE. */
enum { SIDE = 32, CHANNELS = 3, SUB = 8, UNIT = 1024, SINE = 4096, QUARTER = 16, TURN = 4 * QUARTER };
enum { RADIUS_MIN = 6 * SUB, RADIUS_SPAN = 8 * SUB, SHADE_SPAN = 64, NOISE_MAX = 40 };
enum { GROUND_SPAN = 128, CONTRAST_MIN = 24, CONTRAST_SPAN = 104 };

/* The set's own seed: it belongs to the data, not to a job. */
static const uint64_t shapes_seed = 0x736861706573u; /* "shapes" */

/* Counters of the draws of one image; noise takes the rest. */
enum draw { DRAW_PLACE, DRAW_GROUND, DRAW_FIGURE, DRAW_SHADE, DRAW_NOISE };

/* sin(k * 90 degrees / QUARTER) * SINE, rounded. */
static const int16_t quarter_sine[QUARTER + 1] = {0,    401,  799,  1189, 1567, 1931, 2276, 2598, 2896,
                                                  3166, 3406, 3612, 3784, 3920, 4017, 4076, 4096};

static int sine(int angle) {
    int k = angle % TURN, in = k % QUARTER;
    switch (k / QUARTER) {
    case 0:
        return quarter_sine[in];
    case 1:
        return quarter_sine[QUARTER - in];
    case 2:
        return -quarter_sine[in];
    }
    return -quarter_sine[QUARTER - in];
}

static bool in_disc(int x, int y, int radius) {
    return x * x + y * y <= radius * radius;
}

static bool in_box(int x, int y, int half_width, int half_height) {
    return abs(x) <= half_width && abs(y) <= half_height;
}

static bool in_circle(int x, int y) {
    return in_disc(x, y, UNIT);
}

static bool in_ring(int x, int y) {
    return in_disc(x, y, UNIT) && !in_disc(x, y, 600);
}

static bool in_square(int x, int y) {
    return in_box(x, y, 840, 840);
}

static bool in_frame(int x, int y) {
    return in_box(x, y, 880, 880) && !in_box(x, y, 500, 500);
}

/* Equilateral, its corners on the circle of radius UNIT: (0, -1024), (887, 512), (-887, 512). */
static bool in_triangle(int x, int y) {
    return y <= 512 && abs(x) * 1536 <= 887 * (y + 1024);
}

static bool in_cross(int x, int y) {
    return in_box(x, y, 300, 1000) || in_box(x, y, 1000, 300);
}

static bool in_bar(int x, int y) {
    return in_box(x, y, 1024, 320);
}

static bool in_crescent(int x, int y) {
    return in_disc(x, y, UNIT) && !in_disc(x - 450, y, 850);
}

/* A pentagram: inside at least four of the five lines that bound its inner pentagon, cos(72 degrees) from the centre. */
static bool in_star(int x, int y) {
    static const int normals[5][2] = {{0, 1024}, {-974, 316}, {-602, -828}, {602, -828}, {974, 316}};
    int inside = 0;
    for (int i = 0; i < 5; i++)
        inside += normals[i][0] * x + normals[i][1] * y <= 316 * UNIT;
    return inside >= 4;
}

static bool in_checker(int x, int y) {
    enum { HALF = 900, CELL = 2 * HALF / 4 + 1 };
    return in_box(x, y, HALF, HALF) && ((x + HALF) / CELL + (y + HALF) / CELL) % 2 == 0;
}

/* In the order of the class names in common/dataset.c. */
static bool (*const figures[])(int x, int y) = {in_circle, in_ring, in_square,   in_frame, in_triangle,
                                                in_cross,  in_bar,  in_crescent, in_star,  in_checker};
enum { FIGURES = sizeof figures / sizeof figures[0] };

struct drawing {
    bool (*figure)(int x, int y);
    int radius, x, y; /* in SUBs */
    int sine, cosine;
    int ground[CHANNELS], ink[CHANNELS]; /* colours */
    int shade_x, shade_y;                /* brightness across the image, -SHADE_SPAN/2..SHADE_SPAN/2 from edge to edge */
    int noise;
};

/* Half of the images have a dark ground and an ink that is brighter in every channel, the others are negatives of such images. */
static void choose_colours(struct drawing *drawing, uint32_t image) {
    uint32_t ground[4], ink[4];
    rng_block(shapes_seed, RNG_SHAPES, image, DRAW_GROUND, 0, ground);
    rng_block(shapes_seed, RNG_SHAPES, image, DRAW_FIGURE, 0, ink);
    for (int c = 0; c < CHANNELS; c++) {
        drawing->ground[c] = (int)rng_below(ground[c], GROUND_SPAN);
        drawing->ink[c] = drawing->ground[c] + CONTRAST_MIN + (int)rng_below(ink[c], CONTRAST_SPAN);
        if (ink[CHANNELS] >> 31) {
            drawing->ground[c] = 255 - drawing->ground[c];
            drawing->ink[c] = 255 - drawing->ink[c];
        }
    }
}

static void choose(struct drawing *drawing, uint32_t image) {
    uint32_t place[4], shade[4];
    rng_block(shapes_seed, RNG_SHAPES, image, DRAW_PLACE, 0, place);
    rng_block(shapes_seed, RNG_SHAPES, image, DRAW_SHADE, 0, shade);
    drawing->figure = figures[image % FIGURES];
    drawing->radius = RADIUS_MIN + (int)rng_below(place[0], RADIUS_SPAN);
    uint32_t room = (uint32_t)(SIDE * SUB - 2 * drawing->radius);
    drawing->x = drawing->radius + (int)rng_below(place[1], room);
    drawing->y = drawing->radius + (int)rng_below(place[2], room);
    int angle = (int)rng_below(place[3], TURN);
    drawing->sine = sine(angle);
    drawing->cosine = sine(angle + QUARTER);
    drawing->shade_x = (int)rng_below(shade[0], SHADE_SPAN) - SHADE_SPAN / 2;
    drawing->shade_y = (int)rng_below(shade[1], SHADE_SPAN) - SHADE_SPAN / 2;
    drawing->noise = 1 + (int)rng_below(shade[2], NOISE_MAX);
    choose_colours(drawing, image);
}

/* How many of a pixel's four sample points lie in the figure. */
static int coverage(const struct drawing *drawing, int px, int py) {
    int covered = 0;
    for (int i = 0; i < 4; i++) {
        int x = px * SUB + (i % 2 == 0 ? SUB / 4 : 3 * SUB / 4) - drawing->x;
        int y = py * SUB + (i / 2 == 0 ? SUB / 4 : 3 * SUB / 4) - drawing->y;
        if (!in_disc(x, y, 2 * drawing->radius))
            continue; /* no figure reaches twice its radius; keeps the products below in range */
        int along = x * drawing->cosine + y * drawing->sine, across = y * drawing->cosine - x * drawing->sine;
        int scale = SINE / UNIT * drawing->radius;
        covered += drawing->figure(along / scale, across / scale);
    }
    return covered;
}

static uint8_t clamp(int value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static void draw(const struct drawing *drawing, uint32_t image, uint8_t *pixels) {
    uint32_t words[4];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int covered = coverage(drawing, x, y);
            int shade = (drawing->shade_x * (2 * x - SIDE) + drawing->shade_y * (2 * y - SIDE)) / (2 * SIDE);
            rng_block(shapes_seed, RNG_SHAPES, image, DRAW_NOISE, (uint32_t)(y * SIDE + x), words);
            for (int c = 0; c < CHANNELS; c++) {
                int colour = (drawing->ink[c] * covered + drawing->ground[c] * (4 - covered)) / 4;
                int noise = (int)rng_below(words[c], (uint32_t)(2 * drawing->noise + 1)) - drawing->noise;
                pixels[(c * SIDE + y) * SIDE + x] = clamp(colour + shade + noise);
            }
        }
}

int shapes_check(const struct dataset_card *card, struct err *err) {
    if (card->channels == CHANNELS && card->height == SIDE && card->width == SIDE && card->classes == FIGURES)
        return 0;
    return err_set(err, ERR_INTERNAL, "the card of %s does not fit the figures that are drawn", card->name);
}

struct sheet {
    struct image_set *set;
    uint32_t first; /* number of its first image */
};

static void draw_some(void *arg, int begin, int end) {
    enum { IMAGE_BYTES = CHANNELS * SIDE * SIDE };
    const struct sheet *sheet = arg;
    for (int i = begin; i < end; i++) {
        uint32_t image = sheet->first + (uint32_t)i;
        struct drawing drawing;
        choose(&drawing, image);
        draw(&drawing, image, sheet->set->pixels + (size_t)i * IMAGE_BYTES);
        sheet->set->labels[i] = (uint8_t)(image % FIGURES);
    }
}

/* Test images continue the numbering of the training images, so no image is in both. Classes take turns. */
int shapes_load(const struct dataset_card *card, bool train, struct image_set *ret_set, struct err *err) {
    struct image_set set;
    if (shapes_check(card, err) != 0 ||
        image_set_alloc(&set, train ? card->train_images : card->test_images, (size_t)CHANNELS * SIDE * SIDE, err) != 0)
        return -1;
    enum { RUN = 64 }; /* images: some milliseconds */
    struct sheet sheet = {&set, train ? 0 : (uint32_t)card->train_images};
    parallel_run(set.n, RUN, draw_some, &sheet);
    *ret_set = set;
    return 0;
}
