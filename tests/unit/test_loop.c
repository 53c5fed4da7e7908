/* The event loop: removal from within callbacks, timers, signals, the end of a turn. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/loop.h"

struct rig {
    struct loop *loop;
    struct loop_timer *deadline; /* no test may hang */
    struct loop_fd *watches[2];
    struct loop_timer *timers[2];
    int pipes[2][2];
    int calls, turns, signal;
    char order[16];
};

static void too_late(void *arg) {
    (void)arg;
    fail_msg("the loop did not stop");
}

static int setup(void **state) {
    struct err err = {0};
    struct rig *rig = calloc(1, sizeof *rig);
    rig->loop = loop_new(&err);
    assert_non_null(rig->loop);
    rig->deadline = loop_timer_add(rig->loop, too_late, rig, &err);
    loop_timer_arm(rig->deadline, 5000);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pipe(rig->pipes[i]), 0);
    *state = rig;
    return 0;
}

static int teardown(void **state) {
    struct rig *rig = *state;
    loop_free(rig->loop);
    for (int i = 0; i < 4; i++)
        close(rig->pipes[i / 2][i % 2]);
    free(rig);
    return 0;
}

static void run(struct rig *rig) {
    struct err err = {0};
    assert_int_equal(loop_run(rig->loop, &err), 0);
}

static void stop(void *arg) {
    struct rig *rig = arg;
    loop_stop(rig->loop);
}

static void remove_both(void *arg, uint32_t epoll_events) {
    struct rig *rig = arg;
    assert_true(epoll_events & EPOLLIN);
    rig->calls++;
    loop_fd_remove(rig->watches[0]);
    loop_fd_remove(rig->watches[1]);
    loop_stop(rig->loop);
}

/* Both are readable in one turn; whichever comes first removes both, so that the other must not be called. */
static void test_removed_watch_is_silent(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(rig->pipes[i][1], "x", 1), 1);
        rig->watches[i] = loop_fd_add(rig->loop, rig->pipes[i][0], EPOLLIN, remove_both, rig, &err);
        assert_non_null(rig->watches[i]);
    }
    run(rig);
    assert_int_equal(rig->calls, 1);
}

static void read_one(void *arg, uint32_t epoll_events) {
    struct rig *rig = arg;
    char c;
    (void)epoll_events;
    assert_int_equal(read(rig->pipes[0][0], &c, 1), 1);
    if (++rig->calls == 3)
        loop_stop(rig->loop);
}

static void test_level_triggered(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    assert_int_equal(write(rig->pipes[0][1], "abc", 3), 3);
    rig->watches[0] = loop_fd_add(rig->loop, rig->pipes[0][0], EPOLLIN, read_one, rig, &err);
    run(rig);
    assert_int_equal(rig->calls, 3);
    assert_int_equal(loop_fd_change(rig->watches[0], 0, &err), 0);
    loop_fd_remove(rig->watches[0]);
    loop_fd_remove(NULL);
}

static void first(void *arg) {
    struct rig *rig = arg;
    strcat(rig->order, "1");
    loop_timer_remove(rig->timers[1]); /* due as well, and must not fire */
    loop_timer_remove(rig->timers[0]);
    loop_stop(rig->loop);
}

static void second(void *arg) {
    struct rig *rig = arg;
    strcat(rig->order, "2");
}

static void test_removed_timer_does_not_fire(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    rig->timers[1] = loop_timer_add(rig->loop, second, rig, &err);
    rig->timers[0] = loop_timer_add(rig->loop, first, rig, &err); /* newest first: it is called before the other */
    loop_timer_arm(rig->timers[0], 0);
    loop_timer_arm(rig->timers[1], 0);
    run(rig);
    assert_string_equal(rig->order, "1");
}

static void test_timer_is_not_early(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    rig->timers[0] = loop_timer_add(rig->loop, stop, rig, &err);
    rig->timers[1] = loop_timer_add(rig->loop, second, rig, &err);
    loop_timer_arm(rig->timers[1], 1);
    loop_timer_disarm(rig->timers[1]);
    loop_timer_arm(rig->timers[0], 1); /* replaced by the next */
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    loop_timer_arm(rig->timers[0], 30);
    run(rig);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t passed_ns = (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
    assert_true(passed_ns >= 30000000 - 1000); /* the loop counts in microseconds */
    assert_string_equal(rig->order, "");       /* a disarmed one stays silent */
}

static void mark_a(void *arg) {
    struct rig *rig = arg;
    strcat(rig->order, "a");
}

static void mark_b(void *arg) {
    struct rig *rig = arg;
    strcat(rig->order, "b");
    if (++rig->turns == 3)
        loop_stop(rig->loop);
    else
        loop_again(rig->loop); /* nothing else would wake the loop */
}

static void test_turn_end_in_order_and_again(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    assert_int_equal(loop_turn_end_add(rig->loop, mark_a, rig, &err), 0);
    assert_int_equal(loop_turn_end_add(rig->loop, mark_b, rig, &err), 0);
    loop_again(rig->loop);
    run(rig);
    assert_string_equal(rig->order, "ababab");
}

static int64_t soon(void *arg) {
    struct rig *rig = arg;
    rig->calls++;
    return 1;
}

static int64_t never(void *arg) {
    (void)arg;
    return -1;
}

static void count_turn(void *arg) {
    struct rig *rig = arg;
    if (++rig->turns == 2)
        loop_stop(rig->loop);
}

static void test_smallest_timeout_counts(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    assert_int_equal(loop_timeout_add(rig->loop, never, rig, &err), 0);
    assert_int_equal(loop_timeout_add(rig->loop, soon, rig, &err), 0);
    assert_int_equal(loop_turn_end_add(rig->loop, count_turn, rig, &err), 0);
    run(rig);
    assert_int_equal(rig->calls, 2);
}

static void take_signal(void *arg, int number) {
    struct rig *rig = arg;
    rig->signal = number;
    loop_stop(rig->loop);
}

static void test_signal(void **state) {
    struct rig *rig = *state;
    struct err err = {0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    assert_int_equal(loop_signals(rig->loop, &set, take_signal, rig, &err), 0);
    kill(getpid(), SIGUSR1);
    run(rig);
    assert_int_equal(rig->signal, SIGUSR1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_removed_watch_is_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_triggered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_timer_does_not_fire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_is_not_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_turn_end_in_order_and_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smallest_timeout_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
