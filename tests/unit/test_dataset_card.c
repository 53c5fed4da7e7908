/* Tests of imported sets' cards: what is read, the defaults that follow, and that no number of a damaged one is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/dataset.h"
#include "tests/unit/alloc_rig.h"

#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Ten training images of at most 4096 bytes from 0, their labels at 40960; two test images at 45056, their labels at 53248. */
static json_t *card(int channels, int height, int width) {
    return json_pack("{s:s, s:s, s:[i,i,i], s:[s,s,s], s:{s:i, s:i, s:i}, s:{s:i, s:i, s:i}, s:s, s:i, s:{s:s}}", "format",
                     DATASET_FORMAT, "name", "flowers", "shape", channels, height, width, "classes", "daisy", "rose", "tulip",
                     "train", "images", 10, "pixels_at", 0, "labels_at", 40960, "test", "images", 2, "pixels_at", 45056,
                     "labels_at", 53248, "sha256", SHA256, "bytes", 53250, "source", "format", "folders");
}

static void a_card_is_read(void **state) {
    (void)state;
    struct dataset_import *import;
    struct err err = {0};
    json_t *document = card(3, 32, 24);
    assert_int_equal(dataset_card_read(document, &import, &err), 0);
    json_decref(document); /* the strings are copies */
    const struct dataset_card *c = &import->card;
    assert_string_equal(c->name, "flowers");
    assert_string_equal(c->source, "folders");
    assert_int_equal(c->channels * 10000 + c->height * 100 + c->width, 33224);
    assert_int_equal(c->classes, 3);
    assert_string_equal(c->class_names[2], "tulip");
    assert_int_equal(c->train_images, 10);
    assert_int_equal(c->test_images, 2);
    assert_int_equal(import->test.labels_at, 53248);
    assert_int_equal(import->bytes, 53250);
    assert_string_equal(import->sha256, SHA256);
    dataset_import_free(import);
}

static void defaults_follow_the_shape(void **state) {
    (void)state;
    static const int rows[][6] = {
        /* channels, height, width; pad, crop, flip */
        {3, 32, 32, 0, 4, 1}, {1, 28, 28, 2, 4, 0}, {3, 28, 28, 2, 4, 1}, {1, 8, 16, 0, 1, 0}, {1, 32, 32, 0, 4, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dataset_import *import;
        json_t *document = card(rows[i][0], rows[i][1], rows[i][2]);
        assert_int_equal(dataset_card_read(document, &import, NULL), 0);
        assert_int_equal(import->card.default_pad, rows[i][3]);
        assert_int_equal(import->card.default_crop, rows[i][4]);
        assert_int_equal(import->card.default_flip, rows[i][5]);
        dataset_import_free(import);
        json_decref(document);
    }
}

static void refuse(json_t *document) {
    struct dataset_import *import;
    struct err err = {0};
    assert_non_null(document);
    assert_int_equal(dataset_card_read(document, &import, &err), -1);
    assert_int_equal(err.code, ERR_DATA);
    assert_non_null(strstr(err.text, "card"));
    json_decref(document);
}

static void every_key_is_needed(void **state) {
    (void)state;
    static const char *const keys[] = {"format", "name", "shape", "classes", "train", "test", "sha256", "bytes", "source"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *document = card(3, 32, 32);
        json_object_del(document, keys[i]);
        refuse(document);
    }
}

/* The card with a number of a part replaced. */
static json_t *with(const char *part, const char *key, json_int_t value) {
    json_t *document = card(3, 32, 32);
    json_object_set_new(part == NULL ? document : json_object_get(document, part), key, json_integer(value));
    return document;
}

static void numbers_must_lie_within_the_file(void **state) {
    (void)state;
    refuse(with("train", "images", 0));
    refuse(with("train", "images", 18)); /* 17 images of 3072 bytes are 52224, 18 are 55296 */
    refuse(with("train", "images", INT64_C(1) << 40));
    refuse(with("train", "pixels_at", -1));
    refuse(with("train", "pixels_at", 53250));
    refuse(with("train", "pixels_at", INT64_MAX));
    refuse(with("test", "labels_at", 53249));
    refuse(with("test", "labels_at", INT64_MAX));
    refuse(with("test", "labels_at", -1));
    refuse(with(NULL, "bytes", 0));
    refuse(with(NULL, "bytes", 53249));
    refuse(card(2, 32, 32));
    refuse(card(3, 0, 32));
    refuse(card(3, 32, 225));
}

static void classes_must_have_names(void **state) {
    (void)state;
    json_t *few = card(3, 32, 32), *numbers = card(3, 32, 32), *many = card(3, 32, 32), *list = json_array();
    json_object_set_new(few, "classes", json_pack("[s]", "one"));
    refuse(few);
    json_object_set_new(numbers, "classes", json_pack("[s, i]", "one", 2));
    refuse(numbers);
    for (int c = 0; c <= DATASET_CLASSES_MAX; c++)
        json_array_append_new(list, json_string("c"));
    json_object_set_new(many, "classes", list);
    refuse(many);
}

static bool read_once(void) {
    struct dataset_import *import;
    struct err err = {0};
    json_t *document = card(3, 32, 32);
    int rc = document != NULL ? dataset_card_read(document, &import, &err) : -1;
    if (rc == 0)
        dataset_import_free(import);
    json_decref(document);
    return rc == 0;
}

static void memory_runs_out(void **state) {
    (void)state;
    assert_true(alloc_rig_starve(read_once, 1000) > 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_is_read),          cmocka_unit_test(defaults_follow_the_shape),
        cmocka_unit_test(every_key_is_needed),     cmocka_unit_test(numbers_must_lie_within_the_file),
        cmocka_unit_test(classes_must_have_names), cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
