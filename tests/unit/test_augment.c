/* Runs every case of tests/cases/augment against torchvision's numbers; mixup's shares and sums against their definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "server/train/batch.h"
#include "tests/unit/case_rig.h"

static const char folder[] = "tests/cases/augment";

enum { IMAGES = 4, SIZE_MAX_TEST = 3 * 8 * 7 };

/* --- against torchvision --- */

struct scene {
    struct data data;
    uint8_t pixels[IMAGES * SIZE_MAX_TEST], labels[IMAGES];
    struct augment augment;
};

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void normalize_channel(struct data *data, int c) {
    int plane = data->height * data->width, n = IMAGES * plane;
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        double value = data->train.pixels[(i / plane * data->channels + c) * plane + i % plane] / 255.0;
        sum += value;
        squares += value * value;
    }
    data->mean[c] = sum / n;
    data->deviation[c] = sqrt(squares / n - data->mean[c] * data->mean[c]);
    for (int value = 0; value < 256; value++)
        data->normal[c][value] = (float)((value / 255.0 - data->mean[c]) / data->deviation[c]);
}

static void scene_of(const json_t *test, struct scene *scene) {
    const json_t *shape = json_object_get(test, "shape"), *options = json_object_get(test, "augment");
    struct data *data = &scene->data;
    *scene = (struct scene){0};
    data->channels = (int)json_integer_value(json_array_get(shape, 0));
    data->height = (int)json_integer_value(json_array_get(shape, 1));
    data->width = (int)json_integer_value(json_array_get(shape, 2));
    data->train = (struct image_set){.n = IMAGES, .pixels = scene->pixels, .labels = scene->labels};
    for (size_t i = 0; i < json_array_size(json_object_get(test, "pixels")); i++)
        scene->pixels[i] = (uint8_t)json_integer_value(json_array_get(json_object_get(test, "pixels"), i));
    for (int i = 0; i < IMAGES; i++)
        scene->labels[i] = (uint8_t)(10 + i);
    for (int c = 0; c < data->channels; c++)
        normalize_channel(data, c);
    scene->augment = (struct augment){.crop = (int)number(options, "crop"),
                                      .flip = json_is_true(json_object_get(options, "flip")),
                                      .rotation = number(options, "rotation"),
                                      .brightness = number(options, "brightness"),
                                      .contrast = number(options, "contrast"),
                                      .cutout = (int)number(options, "cutout"),
                                      .seed = (uint64_t)number(test, "seed"),
                                      .epoch = (uint32_t)number(test, "epoch")};
}

static size_t image_size(const struct data *data) {
    return (size_t)data->channels * (size_t)data->height * (size_t)data->width;
}

static void run_case(const char *name) {
    char path[512];
    json_error_t error;
    static struct scene scene;
    uint32_t samples[IMAGES];
    float images[IMAGES * SIZE_MAX_TEST];
    int32_t labels[IMAGES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *test = json_load_file(path, 0, &error);
    if (test == NULL)
        fail_msg("%s: %s", path, error.text);
    scene_of(test, &scene);
    for (size_t i = 0; i < IMAGES; i++)
        samples[i] = (uint32_t)json_integer_value(json_array_get(json_object_get(test, "samples"), i));
    struct batch batch = {.n = IMAGES, .samples = samples, .images = images, .labels = labels};
    batch_fill(&scene.data, &scene.data.train, &scene.augment, &batch);
    const json_t *want = json_object_get(test, "images");
    assert_int_equal(json_array_size(want), IMAGES * image_size(&scene.data));
    for (size_t i = 0; i < json_array_size(want); i++)
        if (!(fabs((double)images[i] - json_number_value(json_array_get(want, i))) < 2e-5))
            fail_msg("%s: element %zu is %.8g; torchvision's is %.8g", name, i, (double)images[i],
                     json_number_value(json_array_get(want, i)));
    for (int i = 0; i < IMAGES; i++)
        assert_int_equal(labels[i], 10 + (int)samples[i]);
    json_decref(test);
}

static void images_are_those_of_torchvision(void **state) {
    (void)state;
    assert_true(case_rig_each(folder, run_case) >= 12);
}

/* --- what every augmentation keeps to --- */

/* A set of images of 6 x 6 and as many channels, in a mix of greys. */
static void grey_scene(struct scene *scene, int channels) {
    *scene = (struct scene){.data = {.channels = channels, .height = 6, .width = 6}};
    scene->data.train = (struct image_set){.n = IMAGES, .pixels = scene->pixels, .labels = scene->labels};
    for (int i = 0; i < IMAGES * channels * 36; i++)
        scene->pixels[i] = (uint8_t)(1 + i * 37 % 255);
    for (int i = 0; i < IMAGES; i++)
        scene->labels[i] = (uint8_t)i;
    for (int c = 0; c < channels; c++)
        normalize_channel(&scene->data, c);
    scene->augment.seed = 3;
}

static void fill_one(const struct scene *scene, uint32_t sample, float *image) {
    int32_t label;
    batch_fill(&scene->data, &scene->data.train, &scene->augment,
               &(struct batch){.n = 1, .samples = &sample, .images = image, .labels = &label});
}

/* An angle too small to see turns nothing: the way over fractions gives what the table gives. */
static void no_rotation_is_identity(void **state) {
    (void)state;
    static struct scene scene;
    float plain[108], turned[108];
    for (int channels = 1; channels <= 3; channels += 2)
        for (uint32_t sample = 0; sample < IMAGES; sample++) {
            grey_scene(&scene, channels);
            scene.augment.crop = 2;
            fill_one(&scene, sample, plain);
            scene.augment.rotation = 1e-12;
            fill_one(&scene, sample, turned);
            for (int i = 0; i < channels * 36; i++)
                assert_true(fabsf(plain[i] - turned[i]) < 1e-5f);
        }
}

/* Over many epochs the squares lie everywhere, are cut off at all borders, and are never larger or more than one. */
static void cutout_is_one_square_anywhere(void **state) {
    (void)state;
    enum { SIDE = 3 };
    static struct scene scene;
    float image[36];
    int corners = 0, whole = 0, hits[36] = {0};
    grey_scene(&scene, 1);
    scene.augment.cutout = SIDE;
    float black = scene.data.normal[0][0];
    for (scene.augment.epoch = 0; scene.augment.epoch < 2000; scene.augment.epoch++) {
        int n = 0, top = 6, bottom = -1, left = 6, right = -1;
        fill_one(&scene, 1, image);
        for (int i = 0; i < 36; i++)
            if (image[i] == black) {
                n++;
                hits[i]++;
                top = i / 6 < top ? i / 6 : top;
                bottom = i / 6 > bottom ? i / 6 : bottom;
                left = i % 6 < left ? i % 6 : left;
                right = i % 6 > right ? i % 6 : right;
            }
        assert_int_equal(n, (bottom - top + 1) * (right - left + 1));
        assert_true(n >= 4 && n <= SIDE * SIDE);
        corners += n == 4;
        whole += n == SIDE * SIDE;
    }
    assert_true(corners > 100 && whole > 600); /* 4 and 16 of 36 places */
    for (int i = 0; i < 36; i++)
        assert_true(hits[i] > 100);
}

/* The same sample, in whatever batch and at whatever position, is the same image; another epoch's is not. */
static void images_depend_on_their_key_only(void **state) {
    (void)state;
    static const uint32_t samples[] = {3, 1, 2, 1};
    static struct scene scene;
    float together[IMAGES * 108], alone[108];
    int32_t labels[IMAGES];
    grey_scene(&scene, 3);
    scene.augment = (struct augment){
        .crop = 2, .flip = true, .rotation = 20, .brightness = 0.5, .contrast = 0.5, .cutout = 2, .seed = 8, .epoch = 3};
    batch_fill(&scene.data, &scene.data.train, &scene.augment,
               &(struct batch){.n = IMAGES, .samples = samples, .images = together, .labels = labels});
    for (size_t i = 0; i < IMAGES; i++) {
        fill_one(&scene, samples[i], alone);
        assert_memory_equal(alone, together + i * 108, sizeof alone);
    }
    scene.augment.epoch++;
    fill_one(&scene, 1, alone);
    assert_memory_not_equal(alone, together + 108, sizeof alone);
}

/* --- mixup --- */

/* With s from Beta(a, a): the mean of s (1 - s) is a / (2 (2 a + 1)), that of max(s, 1 - s) is the chance that a number from
 * Beta(a + 1, a) is above 1/2 (scipy.stats.beta.sf(0.5, a + 1, a)). */
static void shares_are_beta_distributed(void **state) {
    (void)state;
    static const struct {
        double alpha, mean; /* of the shares */
    } cases[] = {{0.1, 0.941576}, {0.2, 0.898810}, {1, 0.750000}, {4, 0.636719}, {10, 0.588099}};
    enum { N = 200000 }; /* the standard error of both means is below 0.0004 */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double alpha = cases[i].alpha, products = 0, sum = 0;
        for (uint32_t sample = 0; sample < N; sample++) {
            double share = (double)mixup_share(&(struct augment){.mixup = alpha, .seed = 5, .epoch = 2}, sample);
            assert_true(share >= 0.5 && share <= 1);
            products += share * (1 - share);
            sum += share;
        }
        double want = alpha / (2 * (2 * alpha + 1));
        if (fabs(products / N - want) > 0.0015 || fabs(sum / N - cases[i].mean) > 0.0015)
            fail_msg("alpha %g: mean s(1-s) %g, expected %g; mean share %g, expected %g", alpha, products / N, want, sum / N,
                     cases[i].mean);
    }
}

static void shares_of_extreme_alphas_are_numbers(void **state) {
    (void)state;
    static const double alphas[] = {5e-324, 1e-300, 1e-9, 1e9};
    for (size_t i = 0; i < sizeof alphas / sizeof alphas[0]; i++)
        for (uint32_t sample = 0; sample < 200; sample++) {
            float share = mixup_share(&(struct augment){.mixup = alphas[i], .seed = 5}, sample);
            assert_true(share >= 0.5f && share <= 1);
            assert_true(alphas[i] < 1 ? share == 1 : share < 0.51f);
        }
}

static void check_mixed(const struct scene *scene, int n) {
    static const uint32_t samples[] = {3, 0, 2, 1, 2};
    float plain[5 * 108], mixed[5 * 108], shares[5];
    int32_t labels[5], others[5];
    struct augment without = scene->augment;
    without.mixup = 0;
    batch_fill(&scene->data, &scene->data.train, &without,
               &(struct batch){.n = n, .samples = samples, .images = plain, .labels = labels});
    batch_fill(
        &scene->data, &scene->data.train, &scene->augment,
        &(struct batch){.n = n, .samples = samples, .images = mixed, .labels = labels, .others = others, .shares = shares});
    for (int i = 0; i < n; i++) {
        assert_int_equal(labels[i], samples[i]);
        assert_int_equal(others[i], samples[n - 1 - i]);
        assert_true(shares[i] == mixup_share(&scene->augment, samples[i]));
        for (int k = 0; k < 108; k++) {
            double x = (double)plain[i * 108 + k], y = (double)plain[(n - 1 - i) * 108 + k], share = (double)shares[i];
            assert_true(fabs((double)mixed[i * 108 + k] - (share * x + (1 - share) * y)) < 1e-6);
        }
    }
}

static void mixup_mixes_pairs(void **state) {
    (void)state;
    static struct scene scene;
    grey_scene(&scene, 3);
    scene.augment = (struct augment){.flip = true, .mixup = 1, .seed = 12, .epoch = 4};
    for (int n = 1; n <= 5; n++)
        check_mixed(&scene, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_are_those_of_torchvision),
        cmocka_unit_test(no_rotation_is_identity),
        cmocka_unit_test(cutout_is_one_square_anywhere),
        cmocka_unit_test(images_depend_on_their_key_only),
        cmocka_unit_test(shares_are_beta_distributed),
        cmocka_unit_test(shares_of_extreme_alphas_are_numbers),
        cmocka_unit_test(mixup_mixes_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
