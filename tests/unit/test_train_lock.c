/* The lock of a job's directory: taken, held by another attempt for too long, given up when asked to stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/train/lock.h"

enum { WAIT_MS = 120 };

struct rig {
    char dir[48];
    int input[2]; /* standard input, held open as the daemon does */
};

static int setup(void **state) {
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    snprintf(rig->dir, sizeof rig->dir, "/tmp/residuum-test-lock-XXXXXX");
    assert_non_null(mkdtemp(rig->dir));
    assert_int_equal(pipe(rig->input), 0);
    assert_int_equal(dup2(rig->input[0], STDIN_FILENO), STDIN_FILENO);
    *state = rig;
    return 0;
}

static int teardown(void **state) {
    struct rig *rig = *state;
    close(rig->input[0]);
    if (rig->input[1] >= 0)
        close(rig->input[1]);
    int rc = file_remove_tree(rig->dir, NULL);
    free(rig);
    return rc;
}

static void test_busy_until_it_is_let_go(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    int older = -1, newer = -1;
    assert_int_equal(lock_take(rig->dir, WAIT_MS, &older, &err), LOCK_TAKEN);
    assert_int_equal(lock_take(rig->dir, WAIT_MS, &newer, &err), LOCK_BUSY);
    assert_int_equal(newer, -1);
    close(older);
    assert_int_equal(lock_take(rig->dir, WAIT_MS, &newer, &err), LOCK_TAKEN);
    close(newer);
}

static void test_end_of_input_ends_the_wait(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    int older = -1, newer = -1;
    assert_int_equal(lock_take(rig->dir, WAIT_MS, &older, &err), LOCK_TAKEN);
    close(rig->input[1]);
    rig->input[1] = -1;
    assert_int_equal(lock_take(rig->dir, INT32_MAX, &newer, &err), LOCK_STOPPED);
    close(older);
}

static void test_no_directory(void **state) {
    struct err err = {0};
    int fd = -1;
    (void)state;
    assert_int_equal(lock_take("/nowhere", WAIT_MS, &fd, &err), LOCK_FAILED);
    assert_int_equal(err.code, ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_busy_until_it_is_let_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_input_ends_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
