/* Tests of the validation split: how many of each class, which, and what is left for training. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/train/data.h"
#include "server/train/split.h"

enum { CLASSES = 4, MOST = 100 };

/* Classes of 37, 50, 3 and 10 images, mixed. */
static void make_labels(uint8_t labels[MOST]) {
    static const int counts[CLASSES] = {37, 50, 3, 10};
    int left[CLASSES];
    memcpy(left, counts, sizeof left);
    for (int i = 0, c = 0; i < MOST; c = (c + 1) % CLASSES)
        if (left[c]-- > 0)
            labels[i++] = (uint8_t)c;
}

static int split(const uint8_t *labels, int n, double fraction, uint64_t seed, bool *marks, int *ret_n) {
    struct err err = {0};
    return split_stratified(labels, n, CLASSES, fraction, seed, marks, ret_n, &err);
}

/* Shares of 37, 50, 3 and 10 by the largest remainder (Hamilton's method), worked out by hand. */
static void classes_get_their_share(void **state) {
    (void)state;
    static const struct {
        double fraction;
        int wanted[CLASSES];
    } rows[] = {
        {0.1, {4, 5, 0, 1}},   /* 3.7, 5, 0.3, 1: one is missing, class 0 has the largest rest */
        {0.25, {9, 13, 1, 2}}, /* 9.25, 12.5, 0.75, 2.5: two are missing: class 2, then class 1 before class 3 */
        {0.5, {19, 25, 1, 5}}, /* 18.5, 25, 1.5, 5: one is missing, class 0 comes first */
        {0.01, {0, 1, 0, 0}},  /* 0.37, 0.5, 0.03, 0.1 */
    };
    uint8_t labels[MOST];
    make_labels(labels);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        bool marks[MOST] = {0};
        int n = 0, counts[CLASSES] = {0}, total = 0;
        assert_int_equal(split(labels, MOST, rows[r].fraction, 7, marks, &n), 0);
        for (int i = 0; i < MOST; i++) {
            counts[labels[i]] += marks[i];
            total += marks[i];
        }
        assert_memory_equal(counts, rows[r].wanted, sizeof counts);
        assert_int_equal(total, n);
        assert_int_equal(n, lround(rows[r].fraction * MOST));
    }
}

static void the_seed_chooses(void **state) {
    (void)state;
    uint8_t labels[MOST];
    bool a[MOST], b[MOST], c[MOST];
    int n;
    make_labels(labels);
    assert_int_equal(split(labels, MOST, 0.2, 1, a, &n), 0);
    assert_int_equal(split(labels, MOST, 0.2, 1, b, &n), 0);
    assert_int_equal(split(labels, MOST, 0.2, 2, c, &n), 0);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
}

static void none_or_all_is_refused(void **state) {
    (void)state;
    uint8_t labels[MOST];
    bool marks[MOST];
    int n;
    make_labels(labels);
    assert_int_equal(split(labels, 4, 0.1, 1, marks, &n), -1);
    assert_int_equal(split(labels, 1, 0.5, 1, marks, &n), -1);
    assert_int_equal(split(labels, 5, 0.1, 1, marks, &n), 0);
}

/* Every image is in one of the two sets, in its order; mean and deviation come from those left for training. */
static void data_is_divided(void **state) {
    (void)state;
    struct spec spec = {.seed = 3, .dataset = "shapes", .train_limit = 400};
    struct data whole, parts;
    struct err err = {0};
    size_t bytes = 3 * 32 * 32;
    assert_int_equal(data_load(&spec, &whole, &err), 0);
    assert_int_equal(whole.validation.n, 0);
    spec.validation_fraction = 0.15;
    assert_int_equal(data_load(&spec, &parts, &err), 0);
    assert_int_equal(parts.validation.n, 60);
    assert_int_equal(parts.train.n, 340);
    int train = 0, validation = 0;
    for (int i = 0; i < whole.train.n; i++) {
        const uint8_t *image = whole.train.pixels + (size_t)i * bytes;
        bool is_next = train < parts.train.n && memcmp(image, parts.train.pixels + (size_t)train * bytes, bytes) == 0;
        const struct image_set *set = is_next ? &parts.train : &parts.validation;
        int at = is_next ? train++ : validation++;
        assert_memory_equal(image, set->pixels + (size_t)at * bytes, bytes);
        assert_int_equal(whole.train.labels[i], set->labels[at]);
    }
    assert_int_equal(validation, parts.validation.n);
    double sum = 0;
    for (int i = 0; i < parts.train.n; i++)
        for (size_t k = 0; k < 32 * 32; k++)
            sum += parts.train.pixels[(size_t)i * bytes + k];
    assert_true(fabs(sum / (340.0 * 32 * 32 * 255) - parts.mean[0]) < 1e-12);
    assert_string_not_equal(whole.train_sha256, parts.train_sha256);
    data_done(&whole);
    data_done(&parts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_get_their_share),
        cmocka_unit_test(the_seed_chooses),
        cmocka_unit_test(none_or_all_is_refused),
        cmocka_unit_test(data_is_divided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
