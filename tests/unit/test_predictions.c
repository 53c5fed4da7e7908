/* Tests of predictions.safetensors: gathered in steps, written, read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/train/predictions.h"
#include "server/train/safetensors.h"
#include "tests/unit/alloc_rig.h"

enum { IMAGES = 5, CLASSES = 3 };

static const float softmax[IMAGES * CLASSES] = {0.2f, 0.5f, 0.3f, 1, 0, 0, 0.25f, 0.375f, 0.375f, 0, 0, 1, 0.4f, 0.3f, 0.3f};
static const int32_t labels[IMAGES] = {1, 2, 0, 2, 0}, predicted[IMAGES] = {1, 0, 1, 2, 0};

static void check_file(const char *path) {
    static const int shape[] = {IMAGES, CLASSES};
    float got_softmax[IMAGES * CLASSES];
    int32_t got_labels[IMAGES], got_predicted[IMAGES];
    struct safetensors file;
    struct err err = {0};
    char *bytes;
    size_t size;
    assert_int_equal(file_read(path, 1 << 20, &bytes, &size, &err), 0);
    assert_int_equal(safetensors_parse(path, bytes, size, &file, &err), 0);
    assert_string_equal(json_string_value(json_object_get(file.metadata, "job")), "job_1");
    struct safetensors_entry entries[] = {{"softmax", shape, 2, IMAGES * CLASSES, SAFETENSORS_F32, NULL},
                                          {"labels", shape, 1, IMAGES, SAFETENSORS_I32, NULL},
                                          {"predicted", shape, 1, IMAGES, SAFETENSORS_I32, NULL}};
    assert_int_equal(safetensors_get(&file, &entries[0], got_softmax, &err), 0);
    assert_int_equal(safetensors_get(&file, &entries[1], got_labels, &err), 0);
    assert_int_equal(safetensors_get(&file, &entries[2], got_predicted, &err), 0);
    assert_memory_equal(got_softmax, softmax, sizeof softmax);
    assert_memory_equal(got_labels, labels, sizeof labels);
    assert_memory_equal(got_predicted, predicted, sizeof predicted);
    safetensors_done(&file);
    free(bytes);
}

static void file_holds_what_was_added(void **state) {
    (void)state;
    char dir[] = "/tmp/residuum-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    struct predictions predictions;
    struct err err = {0};
    json_t *metadata = json_pack("{s:s}", "job", "job_1");
    assert_int_equal(predictions_init(&predictions, IMAGES, CLASSES, &err), 0);
    predictions_add(&predictions, softmax, labels, 3);
    predictions_add(&predictions, softmax + 3 * CLASSES, labels + 3, 2);
    assert_int_equal(predictions.filled, IMAGES);
    if (predictions_write(&predictions, dir, metadata, &err) != 0)
        fail_msg("%s", err.text);
    snprintf(path, sizeof path, "%s/%s", dir, PREDICTIONS_FILE);
    check_file(path);
    json_decref(metadata);
    predictions_done(&predictions);
    assert_int_equal(file_remove_tree(dir, &err), 0);
}

static bool try_all(void) {
    struct predictions predictions;
    struct err err = {0};
    if (predictions_init(&predictions, IMAGES, CLASSES, &err) == 0) {
        predictions_done(&predictions);
        return true;
    }
    assert_int_equal(err.code, ERR_MEMORY);
    return false;
}

static void memory_may_run_out(void **state) {
    (void)state;
    assert_int_equal(alloc_rig_starve(try_all, 10), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(file_holds_what_was_added), cmocka_unit_test(memory_may_run_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
