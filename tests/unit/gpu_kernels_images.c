/* Tests of the kernels that bring images in; augmentation against the trainer's own, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/train/batch.h"
#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

/* --- from the host --- */

static void images(void **state, int n, int c, int h, int w, bool bf16) {
    enum { BATCH = 3 };
    struct rig *rig = rig_new(state);
    struct tensor in = rig_dense(rig, (int64_t)n * c, h * w, false, 1); /* [n,C,H,W] */
    struct tensor y = rig_output(rig, BATCH * h * w, c, bf16, false, 0);
    struct kernel_images params = {
        .images = in.at, .y = y.at, .step = rig_step(rig, n), .batch = BATCH, .c = c, .cp = y.cp, .h = h, .w = w, .bf16 = bf16};
    rig_run(rig, KERNEL_images, &params, 4, 1);
    for (int row = 0; row < n * h * w; row++)
        for (int channel = 0; channel < c; channel++) {
            int image = row / (h * w), pixel = row % (h * w);
            assert_true(rig_get(&y, row, channel) == rig_round(in.values[(image * c + channel) * h * w + pixel], bf16));
        }
    rig_expect_zeros(&y, (int64_t)n * h * w);
    rig_free(rig);
}

void test_images(void **state) {
    RIG_BOTH(images(state, 1, 1, 1, 1, bf16))
    RIG_BOTH(images(state, 2, 3, 5, 7, bf16))
    RIG_BOTH(images(state, 3, 9, 16, 11, bf16))
}

/* --- from the data set --- */

enum { SET = 9, BATCH = 6, IMAGE_MAX = 3 * 20 * 17 };

struct scene {
    struct data data;
    uint8_t pixels[SET * IMAGE_MAX], labels[SET];
    uint32_t samples[BATCH];
    float images[BATCH * IMAGE_MAX], shares[BATCH]; /* what the trainer makes */
    int32_t batch_labels[BATCH], others[BATCH];
    int n;
};

static void make_scene(struct scene *scene, int n, int c, int h, int w) {
    struct data *data = &scene->data;
    *scene = (struct scene){.n = n};
    *data = (struct data){.channels = c, .height = h, .width = w};
    data->train = (struct image_set){.n = SET, .pixels = scene->pixels, .labels = scene->labels};
    for (int i = 0; i < SET * c * h * w; i++)
        scene->pixels[i] = (uint8_t)(127.5 + 127.5 * rig_random(3, (uint32_t)i));
    for (int channel = 0; channel < c; channel++) {
        data->mean[channel] = 0.4 + 0.05 * channel;
        data->deviation[channel] = 0.2 + 0.03 * channel;
        for (int value = 0; value < 256; value++)
            data->normal[channel][value] = (float)((value / 255.0 - data->mean[channel]) / data->deviation[channel]);
    }
    for (int i = 0; i < BATCH; i++)
        scene->samples[i] = (uint32_t)(i * 4 + 1) % SET;
}

static void fill_by_trainer(struct scene *scene, const struct augment *augment) {
    struct batch batch = {.n = scene->n,
                          .samples = scene->samples,
                          .images = scene->images,
                          .labels = scene->batch_labels,
                          .others = scene->others,
                          .shares = scene->shares};
    batch_fill(&scene->data, &scene->data.train, augment, &batch);
}

/* What the module puts into region STAGING. */
static uint64_t stage_step(struct rig *rig, const struct scene *scene, const struct augment *augment) {
    const struct data *data = &scene->data;
    size_t c = (size_t)data->channels;
    double moments[2 * DATA_CHANNELS_MAX];
    memcpy(moments, data->mean, c * sizeof(double));
    memcpy(moments + c, data->deviation, c * sizeof(double));
    struct kernel_step step = {.n = scene->n,
                               .pixels =
                                   rig_input(rig, scene->pixels, (size_t)SET * c * (size_t)data->height * (size_t)data->width),
                               .normal = rig_input(rig, data->normal, c * sizeof data->normal[0]),
                               .moments = rig_input(rig, moments, 2 * c * sizeof(double)),
                               .rotates = augment->rotation > 0,
                               .brightens = augment->brightness > 0,
                               .contrasts = augment->contrast > 0,
                               .mixes = augment->mixup > 0};
    return rig_input(rig, &step, sizeof step);
}

/* Rows behind the last image hold what would be out of bounds. */
static uint64_t stage_samples(struct rig *rig, const struct scene *scene, const struct augment *augment) {
    struct kernel_sample samples[BATCH];
    memset(samples, 0x7f, sizeof samples);
    for (int i = 0; i < scene->n; i++)
        samples[i] =
            (struct kernel_sample){.sample = scene->samples[i],
                                   .share = augment->mixup > 0 ? scene->shares[i] : 1,
                                   .moves = augment_moves(augment, scene->samples[i], scene->data.height, scene->data.width)};
    return rig_input(rig, samples, sizeof samples);
}

/* Augments a batch as the backend does; the values are in *ret_y. */
static void run_augment(struct rig *rig, const struct scene *scene, const struct augment *augment, bool bf16,
                        struct tensor *ret_y) {
    const struct data *data = &scene->data;
    int rows = BATCH * data->height * data->width;
    uint64_t step = stage_step(rig, scene, augment), samples = stage_samples(rig, scene, augment);
    uint64_t grey = rig_target(rig, NULL, BATCH * sizeof(double));
    struct kernel_grey first = {
        .step = step, .samples = samples, .grey = grey, .batch = BATCH, .c = data->channels, .h = data->height, .w = data->width};
    rig_run(rig, KERNEL_grey, &first, BATCH, 1);
    *ret_y = rig_output(rig, rows, data->channels, bf16, false, 0);
    struct kernel_augment second = {.step = step,
                                    .samples = samples,
                                    .grey = rig_input(rig, rig_read(grey), BATCH * sizeof(double)),
                                    .y = ret_y->at,
                                    .batch = BATCH,
                                    .c = data->channels,
                                    .cp = ret_y->cp,
                                    .h = data->height,
                                    .w = data->width,
                                    .bf16 = bf16};
    rig_run(rig, KERNEL_augment, &second, 7, 1);
}

static void augment_case(void **state, const struct augment *augment, struct scene *scene, bool bf16) {
    struct rig *rig = rig_new(state);
    struct tensor y;
    int c = scene->data.channels, pixels = scene->data.height * scene->data.width;
    fill_by_trainer(scene, augment);
    run_augment(rig, scene, augment, bf16, &y);
    for (int image = 0; image < scene->n; image++)
        for (int pixel = 0; pixel < pixels; pixel++)
            for (int channel = 0; channel < c; channel++) {
                double expected = (double)scene->images[(image * c + channel) * pixels + pixel];
                double got = rig_get(&y, image * pixels + pixel, channel);
                if (got != rig_round(expected, bf16) || signbit(got) != signbit(expected))
                    fail_msg("%dx%dx%d, image %d, channel %d, pixel %d: %.9g instead of %.9g", c, scene->data.height,
                             scene->data.width, image, channel, pixel, got, expected);
            }
    rig_expect_zeros(&y, (int64_t)scene->n * pixels);
    rig_free(rig);
}

static const struct augment augments[] = {
    {0},
    {.crop = 4},
    {.flip = true},
    {.crop = 3, .flip = true, .cutout = 5},
    {.cutout = 30},
    {.rotation = 30},
    {.rotation = 170, .crop = 2, .flip = true},
    {.brightness = 0.6},
    {.contrast = 0.7},
    {.brightness = 0.4, .contrast = 0.9, .cutout = 3},
    {.mixup = 0.4},
    {.mixup = 1.5, .crop = 4, .flip = true},
    {.crop = 4, .flip = true, .rotation = 25, .brightness = 0.5, .contrast = 0.5, .cutout = 6, .mixup = 0.2},
};

static const int shapes[][3] = {{1, 1, 1}, {1, 9, 7}, {3, 8, 8}, {2, 5, 11}, {3, 20, 17}};

static void all_augments(void **state, bool bf16, int n) {
    struct scene scene;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (size_t i = 0; i < sizeof augments / sizeof augments[0]; i++) {
            struct augment augment = augments[i];
            augment.seed = 77 + i;
            augment.epoch = 5;
            make_scene(&scene, n, shapes[s][0], shapes[s][1], shapes[s][2]);
            augment_case(state, &augment, &scene, bf16);
        }
}

/* An odd number of images: with mixup the one in the middle stays as it is. */
void test_augment_as_trainer(void **state) {
    all_augments(state, false, BATCH);
    all_augments(state, false, 5);
    all_augments(state, false, 1);
}

void test_augment_bf16(void **state) {
    all_augments(state, true, 4);
}
