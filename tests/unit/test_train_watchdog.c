/* The watchdog of a GPU's steps, on a clock that the test moves: what is stuck, and what only looks like it. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/train/clock.h"
#include "server/train/watchdog.h"

/* --- the clock, instead of clock.c's --- */

static atomic_int seconds_now, reads;

double clock_seconds(void) {
    atomic_fetch_add(&reads, 1);
    sched_yield(); /* the watchdog, whose waits end at once on this clock, keeps its lock no longer than it must */
    return atomic_load(&seconds_now);
}

struct bites {
    atomic_int n, step;
    double limit_s;
};

/* Lets the watchdog see the time, unless it has bitten: a look reads the clock twice, so one begins and ends within four reads.
 */
static void wait_look(const struct bites *bites) {
    enum { LOOK_READS = 4 };
    int begin = atomic_load(&reads);
    while (atomic_load(&bites->n) == 0 && atomic_load(&reads) - begin < LOOK_READS)
        sched_yield();
}

static void jump(const struct bites *bites, int seconds) {
    wait_look(bites);
    atomic_fetch_add(&seconds_now, seconds);
    wait_look(bites);
}

/* Second by second, as long as the watchdog does not bite. */
static void pass(const struct bites *bites, int seconds) {
    for (int i = 0; i < seconds && atomic_load(&bites->n) == 0; i++)
        jump(bites, 1);
}

static void stuck(void *arg, enum watchdog_step step, double limit_s) {
    struct bites *bites = arg;
    atomic_store(&bites->step, (int)step);
    bites->limit_s = limit_s;
    atomic_fetch_add(&bites->n, 1);
}

static struct watchdog *start(struct bites *bites) {
    struct watchdog_options options = {
        .least_s = {[WATCHDOG_PREPARE] = 600, [WATCHDOG_COPY] = 120, [WATCHDOG_TRAIN] = 60, [WATCHDOG_EVALUATE] = 60},
        .stuck = stuck,
        .arg = bites};
    struct watchdog *watchdog = NULL;
    struct err err = {0};
    assert_int_equal(watchdog_start(&options, &watchdog, &err), 0);
    return watchdog;
}

/* --- pace --- */

static void test_the_limit_follows_the_median(void **state) {
    (void)state;
    struct pace pace = {0};
    assert_true(pace_limit(&pace, 60) == 60);
    for (int i = 0; i < PACE_STEPS; i++)
        pace_add(&pace, i % 2 == 0 ? 5 : 1000); /* one more of 5 than of 1000 */
    assert_true(pace_limit(&pace, 60) == 100);
    assert_true(pace_limit(&pace, 101) == 101);
    pace_add(&pace, 1000); /* instead of the first 5 */
    assert_true(pace_limit(&pace, 60) == 20000);
    for (int i = 0; i < PACE_STEPS; i++)
        pace_add(&pace, 1);
    assert_true(pace_limit(&pace, 60) == 60);
}

static void test_one_step_is_a_median(void **state) {
    (void)state;
    struct pace pace = {0};
    pace_add(&pace, 7);
    assert_true(pace_limit(&pace, 60) == 140);
}

/* ResNet-50 of 224 x 224 pixels with 256 images: three times 8.2 GFLOP for each. */
static void test_the_first_step_has_time_for_its_work(void **state) {
    (void)state;
    assert_true(pace_first_limit(0) == 60);
    double limit = pace_first_limit(3 * 8.2e9 * 256);
    assert_true(limit > 138 && limit < 139);
    assert_true(pace_first_limit(2 * 8e10) == 62);
}

/* --- watchdog --- */

static void test_each_kind_has_its_limit(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    watchdog_begin(watchdog, WATCHDOG_PREPARE);
    pass(&bites, 599);
    assert_int_equal(atomic_load(&bites.n), 0);
    watchdog_end(watchdog);
    watchdog_begin(watchdog, WATCHDOG_COPY);
    pass(&bites, 119);
    assert_int_equal(atomic_load(&bites.n), 0);
    pass(&bites, 10);
    assert_int_equal(atomic_load(&bites.n), 1);
    watchdog_end(watchdog);
    assert_true(atomic_load(&bites.step) == WATCHDOG_COPY && bites.limit_s == 120);
    watchdog_stop(watchdog);
}

static void test_a_step_that_does_not_end(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    watchdog_begin(watchdog, WATCHDOG_EVALUATE);
    pass(&bites, 59);
    assert_int_equal(atomic_load(&bites.n), 0);
    pass(&bites, 10);
    assert_int_equal(atomic_load(&bites.n), 1);
    watchdog_end(watchdog); /* after the bite has been told */
    assert_int_equal(atomic_load(&bites.step), WATCHDOG_EVALUATE);
    assert_true(bites.limit_s == 60);
    watchdog_stop(watchdog);
    assert_int_equal(atomic_load(&bites.n), 1);
}

static void test_each_step_has_its_own_time(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    for (int i = 0; i < 3; i++) {
        watchdog_begin(watchdog, WATCHDOG_TRAIN);
        pass(&bites, 40);
        watchdog_end(watchdog);
        watchdog_begin(watchdog, WATCHDOG_TRAIN); /* between two looks, perhaps: it is another step all the same */
        watchdog_end(watchdog);
    }
    pass(&bites, 1000); /* nothing runs */
    assert_int_equal(atomic_load(&bites.n), 0);
    watchdog_stop(watchdog);
}

static void test_slow_steps_may_be_slow(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    watchdog_begin(watchdog, WATCHDOG_TRAIN);
    jump(&bites, 10);
    watchdog_end(watchdog);
    watchdog_begin(watchdog, WATCHDOG_TRAIN);
    pass(&bites, 199);
    assert_int_equal(atomic_load(&bites.n), 0);
    watchdog_end(watchdog);
    watchdog_begin(watchdog, WATCHDOG_EVALUATE); /* of which none was slow */
    pass(&bites, 70);
    assert_int_equal(atomic_load(&bites.n), 1);
    watchdog_stop(watchdog);
}

static void test_a_process_that_stood_still_is_not_stuck(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    watchdog_begin(watchdog, WATCHDOG_TRAIN);
    jump(&bites, 1000);
    jump(&bites, 1000);
    assert_int_equal(atomic_load(&bites.n), 0);
    watchdog_end(watchdog);
    watchdog_stop(watchdog);
}

static void test_a_step_may_run_when_all_ends(void **state) {
    (void)state;
    struct bites bites = {0};
    struct watchdog *watchdog = start(&bites);
    watchdog_begin(watchdog, WATCHDOG_TRAIN);
    watchdog_stop(watchdog);
    assert_int_equal(atomic_load(&bites.n), 0);
}

static void test_without_a_watchdog(void **state) {
    (void)state;
    watchdog_begin(NULL, WATCHDOG_TRAIN);
    watchdog_end(NULL);
    watchdog_stop(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_limit_follows_the_median), cmocka_unit_test(test_one_step_is_a_median),
        cmocka_unit_test(test_a_step_that_does_not_end),     cmocka_unit_test(test_each_step_has_its_own_time),
        cmocka_unit_test(test_slow_steps_may_be_slow),       cmocka_unit_test(test_a_process_that_stood_still_is_not_stuck),
        cmocka_unit_test(test_a_step_may_run_when_all_ends), cmocka_unit_test(test_without_a_watchdog),
        cmocka_unit_test(test_each_kind_has_its_limit),      cmocka_unit_test(test_the_first_step_has_time_for_its_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
