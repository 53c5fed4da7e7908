/* Rows of data sets: names, states, what is the same, what is kept for its jobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_rig.h"

static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static int add(struct rig *rig, const char *name, char ret_id[JOB_ID_MAX], struct err *err) {
    struct dataset dataset = {0};
    struct dataset_new new = {
        .name = name, .title = name, .archive_sha256 = digest, .options = "{\"fit\":\"crop\"}", .archive_bytes = 10};
    if (store_dataset_add(rig->store, &rig->viewer, &new, &dataset, err) != 0)
        return -1;
    assert_int_equal(dataset.state, DATASET_UPLOADING);
    memcpy(ret_id, dataset.id, JOB_ID_MAX);
    dataset_done(&dataset);
    return 0;
}

/* One that is ready, with this content. */
static bool make_ready(struct rig *rig, const char *name, const char *content, char ret_id[JOB_ID_MAX]) {
    struct err err = {0};
    bool same = false;
    assert_int_equal(add(rig, name, ret_id, &err), 0);
    assert_int_equal(store_dataset_queue(rig->store, ret_id, &err), 0);
    assert_int_equal(store_dataset_ready(rig->store, ret_id, "{\"card\":1}", content, &same, &err), 0);
    return same;
}

static void test_names_are_unique(void **state) {
    struct rig *rig = *state;
    struct err err = {0}, why = {0};
    char id[JOB_ID_MAX], other[JOB_ID_MAX];
    assert_int_equal(add(rig, "a", id, &err), 0);
    assert_int_equal(add(rig, "a", other, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_string_equal(err.pointer, "/name");
    assert_int_equal(add(rig, "b", other, &why), 0);
    assert_int_equal(store_dataset_rename(rig->store, other, "a", "a", &why), -1);
    assert_int_equal(why.code, ERR_CONFLICT);
    why = (struct err){0};
    assert_int_equal(store_dataset_rename(rig->store, other, "b", "its own", &why), 0);
    assert_int_equal(store_dataset_rename(rig->store, other, "c", "C", &why), 0);
    rig_commit(rig);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM dataset WHERE name IN ('a', 'c')"), 2);
}

static void test_states(void **state) {
    struct rig *rig = *state;
    struct err err = {0}, why = {0};
    char id[JOB_ID_MAX];
    struct dataset dataset;
    bool same;
    err_set(&why, ERR_DATA, "broken");
    assert_int_equal(add(rig, "a", id, &err), 0);
    assert_int_equal(store_dataset_failed(rig->store, id, &why, "x.png", &err), -1); /* it is not queued */
    assert_int_equal(err.code, ERR_NOT_FOUND);
    err = (struct err){0};
    assert_int_equal(store_dataset_queue(rig->store, id, &err), 0);
    assert_int_equal(store_dataset_queue(rig->store, id, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    err = (struct err){0};
    assert_int_equal(store_dataset_unqueue(rig->store, id, &err), 0);
    assert_int_equal(store_dataset_queue(rig->store, id, &err), 0);
    assert_int_equal(store_dataset_failed(rig->store, id, &why, "x.png", &err), 0);
    assert_int_equal(store_dataset_ready(rig->store, id, "{}", digest, &same, &err), -1); /* its import is over */
    err = (struct err){0};
    assert_int_equal(store_dataset_named(rig->store, &rig->viewer, "a", &dataset, &err), 0);
    assert_int_equal(dataset.state, DATASET_FAILED);
    assert_string_equal(dataset.reason, "damaged-data");
    assert_string_equal(dataset.reason_text, "broken");
    assert_string_equal(dataset.entry, "x.png");
    dataset_done(&dataset);
}

static void test_same_content_is_one(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    char first[JOB_ID_MAX], second[JOB_ID_MAX];
    struct dataset dataset;
    assert_false(make_ready(rig, "a", "one", first));
    assert_true(make_ready(rig, "b", "one", second));
    assert_int_equal(store_dataset_get(rig->store, &rig->viewer, second, &dataset, &err), 0);
    assert_string_equal(dataset.id, first);
    dataset_done(&dataset);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM dataset"), 1);
    assert_int_equal(store_dataset_delete(rig->store, &rig->viewer, first, &err), 0);
    assert_int_equal(store_dataset_get(rig->store, &rig->viewer, second, &dataset, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_kept_for_its_jobs(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    char id[JOB_ID_MAX];
    struct job job;
    make_ready(rig, "a", "one", id);
    struct job_new new = {.spec = "{}", .epochs = 1, .dataset = id};
    assert_int_equal(store_job_add(rig->store, &rig->viewer, &new, &job, &err), 0);
    assert_string_equal(job.dataset, id);
    assert_int_equal(store_dataset_delete(rig->store, &rig->viewer, id, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_non_null(strstr(err.text, "1 job uses it"));
    err = (struct err){0};
    rig_move(rig, job.id, JOB_CANCELLED, &err);
    assert_int_equal(store_job_delete(rig->store, &rig->viewer, job.id, &err), 0);
    assert_int_equal(store_dataset_delete(rig->store, &rig->viewer, id, &err), 0);
    job_done(&job);
}

static void test_others_do_not_see_it(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    char id[JOB_ID_MAX];
    struct dataset dataset;
    struct viewer other = {.account = 99};
    make_ready(rig, "a", "one", id);
    assert_int_equal(store_dataset_get(rig->store, &other, id, &dataset, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    err = (struct err){0};
    assert_int_equal(store_dataset_named(rig->store, &other, "a", &dataset, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_are_unique, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_states, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_same_content_is_one, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_kept_for_its_jobs, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_others_do_not_see_it, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
