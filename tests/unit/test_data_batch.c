/* Tests of data and batches: drawn shapes, limits, normalization, and augmentation against a naive version. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "common/sha256.h"
#include "server/train/batch.h"

static struct spec spec_of(const char *dataset) {
    struct spec spec = {.seed = 5};
    strcpy(spec.dataset, dataset);
    return spec;
}

static void load(const struct spec *spec, struct data *data) {
    struct err err = {0};
    if (data_load(spec, data, &err) != 0)
        fail_msg("%s", err.text);
}

/* These digests are part of every result on "shapes": if they change, earlier results cannot be repeated. */
static void shapes_never_change(void **state) {
    (void)state;
    struct spec spec = spec_of("shapes");
    struct data data;
    char hex[65];
    load(&spec, &data);
    sha256_hex(data.train.pixels, (size_t)data.train.n * 3 * 32 * 32, hex);
    assert_string_equal(hex, "9473a5affb4abd48d720e99f8ca08646bc8b1fbe3bcabd4eb65325319a0d241c");
    sha256_hex(data.test.pixels, (size_t)data.test.n * 3 * 32 * 32, hex);
    assert_string_equal(hex, "1354406b48c8b4a4ae56d984ec685925230ecd236c233716154ee2cffea2711a");
    int counts[10] = {0};
    for (int i = 0; i < data.train.n; i++)
        counts[data.train.labels[i]]++;
    for (int c = 0; c < 10; c++)
        assert_int_equal(counts[c], data.train.n / 10);
    data_done(&data);
}

static void limit_takes_the_first_of_a_shuffle(void **state) {
    (void)state;
    struct spec all = spec_of("shapes"), some = all;
    some.train_limit = 100;
    some.test_limit = 2000; /* all of them: order kept */
    struct data a, b;
    load(&all, &a);
    load(&some, &b);
    uint32_t *order = calloc((size_t)a.train.n, sizeof *order);
    assert_non_null(order);
    rng_permutation(5, RNG_LIMIT, 0, (uint32_t)a.train.n, order);
    assert_int_equal(b.train.n, 100);
    for (int i = 0; i < 100; i++) {
        assert_memory_equal(b.train.pixels + (size_t)i * 3072, a.train.pixels + order[i] * (size_t)3072, 3072);
        assert_int_equal(b.train.labels[i], a.train.labels[order[i]]);
    }
    assert_int_equal(b.test.n, a.test.n);
    assert_memory_equal(b.test.pixels, a.test.pixels, (size_t)a.test.n * 3072);
    free(order);
    data_done(&a);
    data_done(&b);
}

static void padding_is_black_and_normal_is_normal(void **state) {
    (void)state;
    struct spec spec = spec_of("shapes");
    spec.pad = 3;
    spec.train_limit = 64;
    struct data data;
    load(&spec, &data);
    assert_int_equal(data.height, 38);
    assert_int_equal(data.width, 38);
    for (int x = 0; x < 38; x++)
        assert_int_equal(data.train.pixels[2 * 38 + x], 0);
    for (int c = 0; c < 3; c++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < data.train.n; i++)
            for (int k = 0; k < 38 * 38; k++) {
                double x = (double)data.normal[c][data.train.pixels[((size_t)i * 3 + (size_t)c) * 38 * 38 + (size_t)k]];
                sum += x;
                squares += x * x;
            }
        double n = 64.0 * 38 * 38;
        assert_true(fabs(sum / n) < 1e-6);
        assert_true(fabs(squares / n - 1) < 1e-6);
    }
    data_done(&data);
}

/* The definition, pixel by pixel. */
static float naive(const struct data *data, const struct augment *augment, uint32_t sample, int c, int y, int x) {
    uint32_t crop[4], flip[4];
    rng_block(augment->seed, RNG_CROP, augment->epoch, sample, 0, crop);
    rng_block(augment->seed, RNG_FLIP, augment->epoch, sample, 0, flip);
    int places = 2 * augment->crop + 1;
    int from_y = y + (int)rng_below(crop[0], (uint32_t)places) - augment->crop;
    int from_x = augment->flip && flip[0] >= 0x80000000u ? data->width - 1 - x : x;
    from_x += (int)rng_below(crop[1], (uint32_t)places) - augment->crop;
    bool inside = from_y >= 0 && from_y < data->height && from_x >= 0 && from_x < data->width;
    size_t at =
        (((size_t)sample * (size_t)data->channels + (size_t)c) * (size_t)data->height + (size_t)from_y) * (size_t)data->width;
    int value = inside ? data->train.pixels[at + (size_t)from_x] : 0;
    return (float)((value / 255.0 - data->mean[c]) / data->deviation[c]);
}

static void check_augment(const struct data *data, const struct augment *augment) {
    enum { N = 40 };
    static float images[N * 3 * 32 * 32];
    uint32_t samples[N];
    int32_t labels[N];
    for (uint32_t i = 0; i < N; i++)
        samples[i] = (i * 7) % 50;
    batch_fill(data, &data->train, augment, &(struct batch){.n = N, .samples = samples, .images = images, .labels = labels});
    for (int i = 0; i < N; i++) {
        assert_int_equal(labels[i], data->train.labels[samples[i]]);
        for (int k = 0; k < 3 * 32 * 32; k++) {
            float want = naive(data, augment, samples[i], k / 1024, k / 32 % 32, k % 32), got = images[i * 3072 + k];
            if (want != got)
                fail_msg("crop %d, flip %d, image %d, element %d: %g, expected %g", augment->crop, augment->flip, i, k,
                         (double)got, (double)want);
        }
    }
}

static void augmentation_is_its_definition(void **state) {
    (void)state;
    struct spec spec = spec_of("shapes");
    spec.train_limit = 50;
    struct data data;
    load(&spec, &data);
    static const int crops[] = {0, 1, 4, 32};
    for (size_t i = 0; i < sizeof crops / sizeof crops[0]; i++)
        for (uint32_t epoch = 0; epoch < 2; epoch++) {
            check_augment(&data, &(struct augment){.crop = crops[i], .flip = true, .seed = 9, .epoch = epoch});
            check_augment(&data, &(struct augment){.crop = crops[i], .seed = 9, .epoch = epoch});
        }
    data_done(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_never_change),
        cmocka_unit_test(limit_takes_the_first_of_a_shuffle),
        cmocka_unit_test(padding_is_black_and_normal_is_normal),
        cmocka_unit_test(augmentation_is_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
