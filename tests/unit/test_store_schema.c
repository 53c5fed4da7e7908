/* Opening a store: migrations that changed, are missing or newer, files of others, the lock, settings, what a dead daemon left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/store_rig.h"

#define SQL_1 "PRAGMA application_id = 0x52534432; CREATE TABLE one (a INTEGER) STRICT;"

static const struct migration first = {1, "0001_one.sql", SQL_1, sizeof SQL_1 - 1};
static const struct migration first_edited = {1, "0001_one.sql", SQL_1 " ", sizeof SQL_1};
static const struct migration first_renamed = {1, "0001_uno.sql", SQL_1, sizeof SQL_1 - 1};
#define SQL_2 "CREATE TABLE two (b INTEGER) STRICT; INSERT INTO one VALUES (7);"
static const struct migration second = {2, "0002_two.sql", SQL_2, sizeof SQL_2 - 1};
#define SQL_2_BAD "CREATE TABLE two (b INTEGER) STRICT; INSERT INTO nowhere VALUES (7);"
static const struct migration second_bad = {2, "0002_two.sql", SQL_2_BAD, sizeof SQL_2_BAD - 1};

/* A database file of its own, in memory: what schema_apply sees. */
static sqlite3 *memory_db(void) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    return db;
}

static void run(sqlite3 *db, const char *sql) {
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static int has(sqlite3 *db, const char *table) {
    return sqlite3_table_column_metadata(db, "main", table, NULL, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK;
}

static void refuses(sqlite3 *db, const struct migration *known, size_t n, const char *word) {
    struct err err = {0};
    assert_int_equal(schema_apply(db, known, n, &err), -1);
    assert_int_equal(err.code, ERR_STORE);
    if (strstr(err.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", err.text, word);
}

static void applies(sqlite3 *db, const struct migration *known, size_t n) {
    struct err err = {0};
    if (schema_apply(db, known, n, &err) != 0)
        fail_msg("%s", err.text);
}

static void test_applies_in_steps(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    const struct migration both[] = {first, second};
    applies(db, both, 1);
    assert_true(has(db, "one") && !has(db, "two"));
    applies(db, both, 2);
    assert_true(has(db, "two"));
    applies(db, both, 2); /* again: nothing to do, and the INSERT does not run twice */
    sqlite3_stmt *stmt = NULL;
    sqlite3_prepare_v2(db, "SELECT count(*) FROM one", -1, &stmt, NULL);
    sqlite3_step(stmt);
    assert_int_equal(sqlite3_column_int(stmt, 0), 1);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void test_changed(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    applies(db, &first, 1);
    refuses(db, &first_edited, 1, "changed");
    refuses(db, &first_renamed, 1, "changed");
    applies(db, &first, 1);
    sqlite3_close(db);
}

static void test_missing(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    const struct migration both[] = {first, second};
    applies(db, both, 2);
    run(db, "DELETE FROM migration WHERE number = 1");
    refuses(db, both, 2, "lacks migration 1");
    sqlite3_close(db);
}

static void test_last_one_missing(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    const struct migration both[] = {first, second};
    applies(db, both, 2);
    run(db, "DELETE FROM migration WHERE number = 2");
    refuses(db, both, 2, "version 2");
    sqlite3_close(db);
}

static void test_newer(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    const struct migration both[] = {first, second};
    applies(db, both, 2);
    refuses(db, both, 1, "newer");
    sqlite3_close(db);
}

static void test_failing_one_changes_nothing(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    const struct migration bad[] = {first, second_bad}, good[] = {first, second};
    refuses(db, bad, 2, "nowhere");
    assert_true(has(db, "one") && !has(db, "two")); /* the first is committed, of the second nothing */
    applies(db, good, 2);
    sqlite3_close(db);
}

static void test_failing_first_one_leaves_an_empty_file(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    struct migration bad = second_bad;
    bad.number = 1;
    refuses(db, &bad, 1, "nowhere");
    applies(db, &first, 1); /* not taken for the file of another program */
    sqlite3_close(db);
}

static void test_file_of_another_program(void **state) {
    (void)state;
    sqlite3 *db = memory_db();
    run(db, "PRAGMA application_id = 17; CREATE TABLE theirs (a)");
    refuses(db, &first, 1, "another program");
    assert_false(has(db, "migration"));
    sqlite3_close(db);
}

static void test_second_daemon(void **state) {
    struct rig *rig = *state;
    pid_t pid = fork(); /* the lock belongs to a process: a second opening in this one would not be refused */
    assert_true(pid >= 0);
    if (pid == 0) {
        struct store *other = NULL;
        struct err err = {0};
        int rc = store_open(rig->dir, &other, &err);
        _exit(rc == -1 && other == NULL && strstr(err.text, "another residuumd") != NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* A child that has not come to exec yet must not keep the next daemon out after its parent was killed. */
static void test_child_holds_no_lock(void **state) {
    struct rig *rig = *state;
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char byte;
        close(gate[1]);
        _exit(read(gate[0], &byte, 1) < 0); /* end of file: the parent has seen what it wanted */
    }
    close(gate[0]);
    store_close(rig->store);
    rig->store = NULL;
    struct err err = {0};
    int rc = store_open(rig->dir, &rig->store, &err);
    close(gate[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(rc, 0);
}

static void test_not_a_database(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    char path[128];
    store_close(rig->store);
    rig->store = NULL;
    snprintf(path, sizeof path, "%s/residuum.db", rig->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is no database ", file);
    fclose(file);
    assert_int_equal(store_open(rig->dir, &rig->store, &err), -1);
    assert_int_equal(err.code, ERR_STORE);
}

static void test_settings(void **state) {
    struct rig *rig = *state;
    assert_int_equal(rig_number(rig, "PRAGMA synchronous"), 2);
    assert_int_equal(rig_number(rig, "PRAGMA foreign_keys"), 1);
    assert_int_equal(rig_number(rig, "PRAGMA application_id"), 0x52534432);
    assert_int_equal(rig_number(rig, "PRAGMA user_version"), (int)migrations_n);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM migration"), (int)migrations_n);
    /* STRICT: no table takes text for a number. */
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT "
                                     "strict AND name NOT LIKE 'sqlite_%'"),
                     0);
}

/* A database of the spine: its rows, and the keys it gave away, are still there after the engine's migration. */
static void test_spine_to_engine(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    char path[128];
    store_close(rig->store);
    snprintf(path, sizeof path, "%s/residuum.db", rig->dir);
    assert_int_equal(remove(path), 0);
    if (store_open_with(rig->dir, migrations, 1, &rig->store, &err) != 0)
        fail_msg("%s", err.text);
    rig_sql(rig, "INSERT INTO job (id, owner, attempt, epochs, spec, hello, created_us) VALUES "
                 "('job_old', 1, 2, 3, '{}', '{\"a\":1}', 5), ('job_gone', 1, 0, 1, '{}', NULL, 6);"
                 "INSERT INTO epoch SELECT seq, 1, 1, 7, '{\"test\":{\"accuracy\":0.5}}' FROM job WHERE id = 'job_old';"
                 "INSERT INTO epoch SELECT seq, 2, 2, 8, '{\"test\":{\"accuracy\":0.75}}' FROM job WHERE id = 'job_old';"
                 "UPDATE job SET epochs_done = 2 WHERE id = 'job_old'; DELETE FROM job WHERE id = 'job_gone'");
    rig_reopen(rig);
    struct job job = rig_get(rig, "job_old");
    assert_true(job.seq == 1 && job.epochs_done == 2 && job.attempt == 2 && job.created_us == 5 && job.test_accuracy == 0.75);
    job_done(&job);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM epoch WHERE job = 1"), 2);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM attempt WHERE job = 1 AND attempt = 2 AND hello = '{\"a\":1}'"), 1);
    char id[JOB_ID_MAX];
    rig_add(rig, 1, id);
    assert_int_equal(rig_number(rig, "SELECT max(seq) FROM job"), 3);
    rig_sql(rig, "DELETE FROM job WHERE seq = 1"); /* still takes its rows along */
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM epoch"), 0);
    assert_int_equal(rig_number(rig, "SELECT count(*) FROM attempt"), 0);
}

static void test_recovery(void **state) {
    struct rig *rig = *state;
    char starting[JOB_ID_MAX], running[JOB_ID_MAX], cancelled[JOB_ID_MAX], queued[JOB_ID_MAX];
    struct err err = {0};
    rig_bring(rig, JOB_STARTING, starting);
    rig_bring(rig, JOB_RUNNING, running);
    rig_bring(rig, JOB_RUNNING, cancelled);
    rig_bring(rig, JOB_QUEUED, queued);
    assert_int_equal(store_job_cancel_requested(rig->store, cancelled, &err), 0);
    rig_commit(rig);
    int64_t newest = store_event_newest(rig->store);
    rig_reopen(rig);
    struct job job = rig_get(rig, running);
    assert_int_equal(job.state, JOB_QUEUED);
    assert_int_equal(job.attempt, 1); /* the fence never goes back */
    assert_int_equal(job.tries, 0);   /* the job is not to blame */
    assert_string_equal(job.reason, "unavailable");
    job_done(&job);
    job = rig_get(rig, starting);
    assert_int_equal(job.state, JOB_QUEUED);
    job_done(&job);
    job = rig_get(rig, cancelled);
    assert_int_equal(job.state, JOB_CANCELLED);
    assert_string_equal(job.reason, "");
    job_done(&job);
    assert_int_equal(store_event_newest(rig->store), newest + 3); /* each move has its event, the queued job none */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_applies_in_steps),
        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_last_one_missing),
        cmocka_unit_test(test_newer),
        cmocka_unit_test(test_failing_one_changes_nothing),
        cmocka_unit_test(test_failing_first_one_leaves_an_empty_file),
        cmocka_unit_test(test_file_of_another_program),
        cmocka_unit_test_setup_teardown(test_second_daemon, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_child_holds_no_lock, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_not_a_database, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_settings, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_spine_to_engine, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_recovery, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
