/* For the store's tests: see store_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/file.h"
#include "tests/unit/store_rig.h"

static void open_store(struct rig *rig) {
    struct err err = {0};
    if (store_open(rig->dir, &rig->store, &err) != 0 || store_viewer_local(rig->store, &rig->viewer, &err) != 0)
        fail_msg("%s", err.text);
}

int rig_setup(void **state) {
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    snprintf(rig->dir, sizeof rig->dir, "/tmp/residuum-test-store-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    open_store(rig);
    *state = rig;
    return 0;
}

int rig_teardown(void **state) {
    struct rig *rig = *state;
    store_close(rig->store);
    int rc = file_remove_tree(rig->dir, NULL);
    free(rig);
    return rc;
}

void rig_reopen(struct rig *rig) {
    store_close(rig->store);
    rig->store = NULL;
    open_store(rig);
}

void rig_commit(struct rig *rig) {
    struct err err = {0};
    if (store_commit(rig->store, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

void rig_add(struct rig *rig, int epochs, char ret_id[JOB_ID_MAX]) {
    struct err err = {0};
    struct job job;
    struct job_new new = {.spec = "{\"name\":\"n\"}", .epochs = epochs};
    if (store_job_add(rig->store, &rig->viewer, &new, &job, &err) != 0)
        fail_msg("%s", err.text);
    memcpy(ret_id, job.id, JOB_ID_MAX);
    job_done(&job);
}

struct job rig_get(struct rig *rig, const char *id) {
    struct err err = {0};
    struct job job;
    if (store_job_get(rig->store, &rig->viewer, id, &job, &err) != 0)
        fail_msg("%s", err.text);
    return job;
}

int rig_move(struct rig *rig, const char *id, enum job_state to, struct err *err) {
    struct job job = rig_get(rig, id);
    int rc = store_job_move(rig->store, id, job.state, job.attempt, to, NULL, NULL, err);
    job_done(&job);
    return rc;
}

int rig_epoch(struct rig *rig, const char *id, int attempt, int epoch, bool *ret_new, struct err *err) {
    char body[32], sha256[WEIGHTS_SHA256_MAX], exported[WEIGHTS_SHA256_MAX];
    snprintf(body, sizeof body, "{\"epoch\":%d}", epoch);
    snprintf(sha256, sizeof sha256, "%064d", epoch);
    snprintf(exported, sizeof exported, "%064d", 10 + epoch);
    struct epoch_new new = {
        .epoch = epoch, .body = body, .test_accuracy = epoch / 8.0, .weights_sha256 = sha256, .exported_sha256 = exported};
    return store_epoch_add(rig->store, id, attempt, &new, ret_new, err);
}

void rig_bring(struct rig *rig, enum job_state state, char ret_id[JOB_ID_MAX]) {
    static const enum job_state paths[JOB_STATES_N][4] = {
        [JOB_QUEUED] = {JOB_QUEUED},
        [JOB_STARTING] = {JOB_STARTING, JOB_QUEUED},
        [JOB_RUNNING] = {JOB_STARTING, JOB_RUNNING, JOB_QUEUED},
        [JOB_SUCCEEDED] = {JOB_STARTING, JOB_RUNNING, JOB_SUCCEEDED, JOB_QUEUED},
        [JOB_FAILED] = {JOB_STARTING, JOB_FAILED, JOB_QUEUED},
        [JOB_CANCELLED] = {JOB_CANCELLED, JOB_QUEUED},
    };
    struct err err = {0};
    bool is_new;
    rig_add(rig, 1, ret_id);
    for (int i = 0; paths[state][i] != JOB_QUEUED; i++) {
        if (paths[state][i] == JOB_SUCCEEDED)
            assert_int_equal(rig_epoch(rig, ret_id, 1, 1, &is_new, &err), 0);
        if (rig_move(rig, ret_id, paths[state][i], &err) != 0)
            fail_msg("%s", err.text);
    }
}

int64_t rig_number(struct rig *rig, const char *sql) {
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(rig->store->db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return number;
}

void rig_sql(struct rig *rig, const char *sql) {
    char *message = NULL;
    if (sqlite3_exec(rig->store->db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}
