/* Turns of the store: what a commit keeps and undoes, a full disk, a disk that cannot sync, the event stream, idempotency keys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_rig.h"

struct seen {
    int n, stop_at;
    int64_t last;
    char types[64];
};

static int see(void *arg, const struct event *event) {
    struct seen *seen = arg;
    assert_true(event->id > seen->last);
    seen->last = event->id;
    strncat(seen->types, event->type, 1);
    return ++seen->n == seen->stop_at;
}

static struct seen events(struct rig *rig, const char *job, int64_t after, int limit, int64_t *ret_scanned) {
    struct seen seen = {.last = after};
    struct err err = {0};
    int64_t scanned = 0;
    assert_int_equal(store_event_list(rig->store, &rig->viewer, job, after, limit, see, &seen, &scanned, &err), 0);
    if (ret_scanned != NULL)
        *ret_scanned = scanned;
    return seen;
}

static void test_nothing_is_streamed_before_the_commit(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    int64_t scanned;
    rig_add(rig, 1, id);
    assert_int_equal(events(rig, NULL, 0, 99, &scanned).n, 0);
    assert_int_equal(scanned, 0);
    rig_commit(rig);
    assert_int_equal(events(rig, NULL, 0, 99, &scanned).n, 1);
    assert_int_equal(scanned, 1);
}

static void test_uncommitted_is_gone(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    rig_add(rig, 1, id);
    rig_reopen(rig);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM job"), 0);
    bool wrote = true;
    struct err err = {0};
    assert_int_equal(store_commit(rig->store, &wrote, &err), 0);
    assert_false(wrote);
}

static void test_one_request_fails_the_other_stays(void **state) {
    struct rig *rig = *state;
    char kept[JOB_ID_MAX], dropped[JOB_ID_MAX];
    struct err err = {0};
    assert_int_equal(store_savepoint(rig->store, &err), 0);
    rig_add(rig, 1, kept);
    assert_int_equal(store_release(rig->store, &err), 0);
    assert_int_equal(store_savepoint(rig->store, &err), 0);
    rig_add(rig, 1, dropped);
    store_rollback(rig->store);
    rig_commit(rig);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM job"), 1);
    assert_int_equal(store_event_newest(rig->store), 1);
    rig_add(rig, 1, dropped); /* the next event has an id that no stream has passed yet */
    rig_commit(rig);
    assert_int_equal(store_event_newest(rig->store), 2);
    assert_int_equal(events(rig, NULL, 1, 99, NULL).n, 1);
}

static void test_pages_of_events(void **state) {
    struct rig *rig = *state;
    char a[JOB_ID_MAX], b[JOB_ID_MAX];
    struct err err = {0};
    int64_t scanned;
    rig_add(rig, 1, a);
    rig_add(rig, 1, b);
    for (int i = 0; i < 3; i++)
        assert_int_equal(store_event_add(rig->store, a, "progress", "{}", &err), 0);
    rig_commit(rig);
    assert_int_equal(events(rig, NULL, 0, 2, &scanned).n, 2);
    assert_int_equal(scanned, 2);
    assert_string_equal(events(rig, a, 0, 99, &scanned).types, "jppp");
    assert_int_equal(scanned, 5);
    assert_int_equal(events(rig, b, 2, 99, &scanned).n, 0);
    assert_int_equal(scanned, 5); /* nothing for b in there: no need to look again */
    struct seen stopped = {.stop_at = 1};
    assert_int_equal(store_event_list(rig->store, &rig->viewer, NULL, 0, 99, see, &stopped, &scanned, &err), 0);
    assert_int_equal(scanned, 1); /* the walk ended early: go on from there */
    assert_int_equal(store_event_add(rig->store, "job_none", "progress", "{}", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_ids_outlive_deletes(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX], next[JOB_ID_MAX];
    struct err err = {0};
    rig_bring(rig, JOB_SUCCEEDED, id);
    rig_commit(rig);
    int64_t newest = store_event_newest(rig->store);
    assert_int_equal(store_job_delete(rig->store, &rig->viewer, id, &err), 0);
    rig_commit(rig);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM epoch"), 0);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event"), 1); /* "deleted" alone */
    assert_int_equal(store_event_newest(rig->store), newest + 1);
    rig_sql(rig, "DELETE FROM event");
    rig_reopen(rig);
    assert_int_equal(store_event_newest(rig->store), newest + 1);
    rig_add(rig, 1, next);
    rig_commit(rig);
    assert_int_equal(events(rig, NULL, 0, 99, NULL).last, newest + 2);
}

static void test_delete_of_a_living_job(void **state) {
    struct rig *rig = *state;
    for (int i = 0; i < JOB_STATES_N; i++) {
        char id[JOB_ID_MAX];
        struct err err = {0};
        rig_bring(rig, (enum job_state)i, id);
        int rc = store_job_delete(rig->store, &rig->viewer, id, &err);
        assert_int_equal(rc, job_state_ended((enum job_state)i) ? 0 : -1);
        assert_int_equal(err.code, job_state_ended((enum job_state)i) ? ERR_NONE : ERR_CONFLICT);
    }
    rig_commit(rig);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM job"), 3);
}

static void test_prune(void **state) {
    struct rig *rig = *state;
    char ended[JOB_ID_MAX], running[JOB_ID_MAX];
    struct err err = {0};
    bool more = true;
    rig_bring(rig, JOB_RUNNING, running);
    assert_int_equal(store_event_add(rig->store, running, "progress", "{}", &err), 0);
    rig_bring(rig, JOB_FAILED, ended);
    assert_int_equal(store_event_add(rig->store, ended, "progress", "{}", &err), 0);
    assert_int_equal(store_event_prune(rig->store, 1, &more, &err), 0); /* long before the end */
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event WHERE type = 'progress'"), 2);
    assert_int_equal(store_event_prune(rig->store, INT64_MAX, &more, &err), 0);
    assert_false(more);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event WHERE type = 'progress'"), 1);
}

/* A limit on the file's pages is a full disk. */
static void test_full_disk(void **state) {
    struct rig *rig = *state;
    static char text[65536];
    char id[JOB_ID_MAX], sql[64];
    struct err err = {0}, full = {0};
    bool wrote;
    rig_add(rig, 1, id);
    rig_commit(rig);
    int64_t newest = store_event_newest(rig->store), pages = rig_number(rig, "PRAGMA page_count");
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld", (long long)pages + 8);
    rig_number(rig, sql);
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(store_event_add(rig->store, id, "progress", "{}", &err), 0);
    assert_int_equal(store_event_add(rig->store, id, "progress", text, &err), -1);
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(store_event_add(rig->store, id, "progress", "{}", &full), -1); /* the turn is lost already */
    store_rollback(rig->store);                                                     /* and a rollback does not revive it */
    struct err commit = {0};
    assert_int_equal(store_commit(rig->store, &wrote, &commit), -1);
    assert_int_equal(commit.code, ERR_FULL);
    assert_true(wrote);
    assert_int_equal(store_event_newest(rig->store), newest);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM event"), 1);
    rig_number(rig, "PRAGMA max_page_count = 100000"); /* space again: it goes on */
    struct err after = {0};
    assert_int_equal(store_event_add(rig->store, id, "progress", text, &after), 0);
    rig_commit(rig);
    assert_int_equal(store_event_newest(rig->store), newest + 1);
}

/* --- a disk that cannot sync: SQLite's file methods with one replaced --- */

static sqlite3_io_methods broken_methods;
static bool sync_fails;
static int (*real_sync)(sqlite3_file *, int);
static int (*real_open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);

static int broken_sync(sqlite3_file *file, int flags) {
    return sync_fails ? SQLITE_IOERR_FSYNC : real_sync(file, flags);
}

static int broken_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
    int rc = real_open(vfs, name, file, flags, ret_flags);
    if (rc == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
        broken_methods = *file->pMethods;
        real_sync = broken_methods.xSync;
        broken_methods.xSync = broken_sync;
        file->pMethods = &broken_methods;
    }
    return rc;
}

static void test_failed_sync_is_fatal(void **state) {
    struct rig *rig = *state;
    char id[JOB_ID_MAX];
    struct err err = {0};
    static sqlite3_vfs vfs;
    store_close(rig->store);
    rig->store = NULL;
    vfs = *sqlite3_vfs_find(NULL);
    real_open = vfs.xOpen;
    vfs.xOpen = broken_open;
    vfs.zName = "broken";
    vfs.pNext = NULL;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
    rig_reopen(rig);
    rig_add(rig, 1, id);
    sync_fails = true;
    assert_int_equal(store_commit(rig->store, NULL, &err), -1);
    assert_int_equal(err.code, ERR_STORE);
    sync_fails = false;
    rig_reopen(rig);
    sqlite3_vfs_unregister(&vfs);
}

static void test_idempotency(void **state) {
    struct rig *rig = *state;
    static const char one[] = "1111111111111111111111111111111111111111111111111111111111111111";
    static const char two[] = "2222222222222222222222222222222222222222222222222222222222222222";
    char id[JOB_ID_MAX] = "x";
    struct err err = {0}, other = {0};
    struct viewer mallory = {.account = 2};
    assert_int_equal(store_idempotency_get(rig->store, &rig->viewer, "k", one, id, &err), 0);
    assert_string_equal(id, "");
    assert_int_equal(store_idempotency_put(rig->store, &rig->viewer, "k", one, "job_a", &err), 0);
    assert_int_equal(store_idempotency_get(rig->store, &rig->viewer, "k", one, id, &err), 0);
    assert_string_equal(id, "job_a");
    assert_int_equal(store_idempotency_get(rig->store, &rig->viewer, "k", two, id, &other), -1);
    assert_int_equal(other.code, ERR_IDEMPOTENCY);
    assert_int_equal(store_idempotency_get(rig->store, &mallory, "k", two, id, &err), 0); /* keys belong to their account */
    assert_string_equal(id, "");
    rig_sql(rig, "UPDATE idempotency SET created_us = created_us - 24 * 3600 * 1000000"); /* a day later */
    assert_int_equal(store_idempotency_get(rig->store, &rig->viewer, "k", two, id, &err), 0);
    assert_string_equal(id, "");
    assert_int_equal(store_idempotency_put(rig->store, &rig->viewer, "k", two, "job_b", &err), 0);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM idempotency"), 1);
}

static void test_log_file_stays_short(void **state) {
    struct rig *rig = *state;
    static char text[65536];
    char id[JOB_ID_MAX];
    struct err err = {0};
    memset(text, 'x', sizeof text - 1);
    rig_add(rig, 1, id);
    for (int i = 0; i < 200; i++) { /* about 3,400 pages */
        assert_int_equal(store_event_add(rig->store, id, "progress", text, &err), 0);
        rig_commit(rig);
        assert_true(rig->store->wal_pages < 2 * WAL_PAGES_MAX);
    }
    assert_int_equal(store_tidy(rig->store, &err), 0);
    assert_int_equal(rig->store->wal_pages, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_streamed_before_the_commit, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_uncommitted_is_gone, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_one_request_fails_the_other_stays, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_pages_of_events, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_ids_outlive_deletes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_delete_of_a_living_job, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_prune, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_failed_sync_is_fatal, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_idempotency, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_log_file_stays_short, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
