/* Runs every case of tests/cases/metrics against scikit-learn's numbers, and checks ties, orders and edges by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/train/metrics.h"
#include "tests/unit/alloc_rig.h"
#include "tests/unit/case_rig.h"

static const char folder[] = "tests/cases/metrics";

/* --- against scikit-learn --- */

/* Whether two documents hold the same keys and, but for rounding, the same numbers. */
static void assert_near(const char *path, const json_t *got, const json_t *want) {
    char inner[256];
    const char *key;
    json_t *value;
    if (json_is_number(want)) {
        if (!json_is_number(got) || fabs(json_number_value(got) - json_number_value(want)) > 1e-12)
            fail_msg("%s is %.17g; %.17g expected", path, json_number_value(got), json_number_value(want));
        return;
    }
    assert_int_equal(json_typeof(got), json_typeof(want));
    assert_int_equal(json_array_size(got), json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++) {
        snprintf(inner, sizeof inner, "%.200s/%zu", path, i);
        assert_near(inner, json_array_get(got, i), json_array_get(want, i));
    }
    assert_int_equal(json_object_size(got), json_object_size(want));
    json_object_foreach((json_t *)want, key, value) {
        snprintf(inner, sizeof inner, "%.200s/%.40s", path, key);
        assert_near(inner, json_object_get(got, key), value);
    }
}

struct images {
    int n, classes;
    float *softmax;
    int32_t *labels;
    double *losses;
};

static struct images images_of(const json_t *test) {
    const json_t *labels = json_object_get(test, "labels"), *rows = json_object_get(test, "softmax");
    struct images images = {.n = (int)json_array_size(labels),
                            .classes = (int)json_integer_value(json_object_get(test, "classes"))};
    size_t n = (size_t)images.n, classes = (size_t)images.classes;
    images.softmax = calloc(n * classes, sizeof *images.softmax);
    images.labels = calloc(n, sizeof *images.labels);
    images.losses = calloc(n, sizeof *images.losses);
    assert_true(images.softmax != NULL && images.labels != NULL && images.losses != NULL);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < classes; c++)
            images.softmax[i * classes + c] = (float)json_number_value(json_array_get(json_array_get(rows, i), c));
        images.labels[i] = (int32_t)json_integer_value(json_array_get(labels, i));
        images.losses[i] = -log((double)images.softmax[i * classes + (size_t)images.labels[i]]);
    }
    return images;
}

static void images_done(struct images *images) {
    free(images->softmax);
    free(images->labels);
    free(images->losses);
}

/* Adds them in steps of at most size images. */
static void add_images(struct metrics *metrics, const struct images *images, int size) {
    for (int i = 0; i < images->n; i += size) {
        int n = images->n - i < size ? images->n - i : size;
        double loss_sum = 0;
        for (int k = 0; k < n; k++)
            loss_sum += images->losses[i + k];
        metrics_add(metrics, images->softmax + (size_t)i * (size_t)images->classes, images->labels + i, n, loss_sum);
    }
}

static void check_first_images(const struct metrics *metrics, const json_t *test, const json_t *full) {
    const json_t *softmax = json_object_get(full, "softmax"), *labels = json_object_get(full, "labels");
    assert_int_equal(metrics->kept, EVENT_CLASSES_SOFTMAX_IMAGES);
    assert_int_equal(json_array_size(softmax), EVENT_CLASSES_SOFTMAX_IMAGES);
    assert_int_equal(json_array_size(labels), EVENT_CLASSES_SOFTMAX_IMAGES);
    for (size_t i = 0; i < EVENT_CLASSES_SOFTMAX_IMAGES; i++) {
        assert_true(json_equal(json_array_get(softmax, i), json_array_get(json_object_get(test, "softmax"), i)));
        assert_true(json_equal(json_array_get(labels, i), json_array_get(json_object_get(test, "labels"), i)));
    }
}

static void run_case(const char *name) {
    static const char *const brief[] = {"loss", "accuracy", "top5"}, *const more[] = {"ece", "confusion", "report"};
    char path[512];
    json_error_t error;
    struct metrics metrics;
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *test = json_load_file(path, 0, &error);
    if (test == NULL)
        fail_msg("%s: %s", path, error.text);
    struct images images = images_of(test);
    assert_int_equal(metrics_init(&metrics, images.classes, &err), 0);
    add_images(&metrics, &images, 7);
    json_t *full = metrics_full_json(&metrics), *part = metrics_brief_json(&metrics);
    assert_int_equal(json_object_size(part), 3);
    assert_int_equal(json_object_size(full), 9);
    for (size_t i = 0; i < 3; i++) {
        assert_near(brief[i], json_object_get(part, brief[i]), json_object_get(test, brief[i]));
        assert_near(brief[i], json_object_get(full, brief[i]), json_object_get(test, brief[i]));
        assert_near(more[i], json_object_get(full, more[i]), json_object_get(test, more[i]));
    }
    check_first_images(&metrics, test, full);
    json_decref(full);
    json_decref(part);
    json_decref(test);
    images_done(&images);
    metrics_done(&metrics);
}

static void numbers_are_those_of_scikit_learn(void **state) {
    (void)state;
    assert_true(case_rig_each(folder, run_case) >= 4);
}

/* --- by hand --- */

static void ties_go_to_the_lowest_class(void **state) {
    (void)state;
    static const float row[] = {0.1f, 0.2f, 0.1f, 0.2f, 0.1f, 0.1f, 0.1f, 0.1f};
    assert_int_equal(metrics_predicted(row, 8), 1);
    assert_true(metrics_among(row, 8, 1, 1));
    assert_false(metrics_among(row, 8, 3, 1));
    assert_true(metrics_among(row, 8, 3, 2));
    assert_true(metrics_among(row, 8, 4, 5)); /* behind 1, 3, 0, 2 */
    assert_false(metrics_among(row, 8, 5, 5));
}

static void assert_confused(const struct metrics_confused *row, int truth, int other, int count) {
    assert_int_equal(row->truth, truth);
    assert_int_equal(row->other, other);
    assert_int_equal(row->count, count);
}

static void confused_are_ranked(void **state) {
    (void)state;
    static const int64_t confusion[] = {
        9, 2, 0, 5, /* 0 */
        2, 9, 0, 0, /* 1 */
        0, 0, 9, 0, /* 2 */
        7, 2, 0, 9, /* 3 */
    };
    struct metrics_confused rows[EVENT_CONFUSED_MAX];
    assert_int_equal(metrics_confused_pairs(confusion, 4, rows), 5);
    assert_confused(&rows[0], 3, 0, 7);
    assert_confused(&rows[1], 0, 3, 5);
    assert_confused(&rows[2], 0, 1, 2);
    assert_confused(&rows[3], 1, 0, 2);
    assert_confused(&rows[4], 3, 1, 2);
    assert_int_equal(metrics_confused_classes(confusion, 4, rows), 3);
    assert_confused(&rows[0], 0, -1, 16);
    assert_confused(&rows[1], 3, -1, 14);
    assert_confused(&rows[2], 1, -1, 6);
}

/* More pairs than are kept, against sorting all of them. */
static void only_the_first_confused_are_kept(void **state) {
    (void)state;
    enum { CLASSES = 12 };
    int64_t confusion[CLASSES * CLASSES];
    struct metrics_confused rows[EVENT_CONFUSED_MAX];
    for (int i = 0; i < CLASSES * CLASSES; i++)
        confusion[i] = i * 7919 % 23;
    assert_int_equal(metrics_confused_pairs(confusion, CLASSES, rows), EVENT_CONFUSED_MAX);
    for (int found = 0; found < EVENT_CONFUSED_MAX; found++) {
        int best = -1;
        for (int i = 0; i < CLASSES * CLASSES; i++)
            if (i / CLASSES != i % CLASSES && confusion[i] > (best < 0 ? 0 : confusion[best]))
                best = i;
        assert_confused(&rows[found], best / CLASSES, best % CLASSES, (int)confusion[best]);
        confusion[best] = 0;
    }
}

static void nothing_is_divided_by_zero(void **state) {
    (void)state;
    static const int64_t nothing[9];
    static const struct metrics_bin bins[METRICS_BINS];
    struct metrics_report report;
    struct err err = {0};
    struct metrics_confused rows[EVENT_CONFUSED_MAX];
    assert_int_equal(metrics_report_init(&report, nothing, 3, &err), 0);
    for (int i = 0; i < 3; i++)
        assert_true(report.classes[i].precision == 0 && report.classes[i].recall == 0 && report.classes[i].f1 == 0);
    assert_true(report.macro.f1 == 0 && report.weighted.f1 == 0);
    metrics_report_done(&report);
    assert_int_equal(metrics_confused_pairs(nothing, 3, rows), 0);
    assert_int_equal(metrics_confused_classes(nothing, 3, rows), 0);
    assert_true(metrics_calibration_error(bins) == 0);
}

/* A certain answer (1) and the least certain one that there is fall into the last and a fitting bin. */
static void bins_reach_to_both_ends(void **state) {
    (void)state;
    static const float softmax[] = {1, 0, 0.5f, 0.5f};
    static const int32_t labels[] = {0, 0};
    struct metrics metrics;
    struct err err = {0};
    assert_int_equal(metrics_init(&metrics, 2, &err), 0);
    metrics_add(&metrics, softmax, labels, 2, 0);
    assert_int_equal(metrics.bins[METRICS_BINS - 1].n, 1);
    assert_int_equal(metrics.bins[7].n, 1); /* 7/15 < 0.5 <= 8/15 */
    assert_true(metrics_calibration_error(metrics.bins) == 0.25);
    metrics_done(&metrics);
}

static bool measure(void) {
    static const float softmax[] = {0.5f, 0.3f, 0.2f, 0.1f, 0.2f, 0.7f};
    static const int32_t labels[] = {0, 1};
    struct metrics metrics;
    struct err err = {0};
    if (metrics_init(&metrics, 3, &err) != 0) {
        assert_int_equal(err.code, ERR_MEMORY);
        return false;
    }
    metrics_add(&metrics, softmax, labels, 2, 1);
    json_t *value = metrics_full_json(&metrics);
    bool done = value != NULL;
    json_decref(value);
    metrics_done(&metrics);
    return done;
}

static void memory_may_run_out(void **state) {
    (void)state;
    assert_true(alloc_rig_starve(measure, 1000) > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_scikit_learn),
        cmocka_unit_test(ties_go_to_the_lowest_class),
        cmocka_unit_test(confused_are_ranked),
        cmocka_unit_test(only_the_first_confused_are_kept),
        cmocka_unit_test(nothing_is_divided_by_zero),
        cmocka_unit_test(bins_reach_to_both_ends),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
