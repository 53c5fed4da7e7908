/* Watches the time of steps: see watchdog.h. */
#include "server/train/watchdog.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/train/clock.h"

/* --- pace --- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void pace_add(struct pace *pace, double seconds) {
    pace->seconds[pace->n++ % PACE_STEPS] = seconds;
}

double pace_limit(const struct pace *pace, double least_s) {
    const double factor = 20;
    double sorted[PACE_STEPS];
    size_t n = pace->n < PACE_STEPS ? (size_t)pace->n : PACE_STEPS;
    if (n == 0)
        return least_s;
    memcpy(sorted, pace->seconds, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    return fmax(least_s, factor * sorted[n / 2]);
}

double pace_first_limit(double flops) {
    const double besides_s = 60, flops_per_second = 8e12 * 0.01;
    return besides_s + flops / flops_per_second;
}

/* --- watchdog --- */

struct watchdog {
    struct watchdog_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopping;
    /* under the lock */
    bool running, stopped;
    enum watchdog_step step;
    int64_t number; /* of the step; what ended and began again between two looks is another one */
    double begin;
    struct pace paces[WATCHDOG_STEPS];
};

/* Often enough to be in time, seldom enough to cost nothing. */
static double tick_seconds(const struct watchdog *watchdog) {
    double tick = 1;
    for (int step = 0; step < WATCHDOG_STEPS; step++)
        tick = fmin(tick, watchdog->options.least_s[step] / 8);
    return tick;
}

static double limit_of(const struct watchdog *watchdog, enum watchdog_step step) {
    return pace_limit(&watchdog->paces[step], watchdog->options.least_s[step]);
}

static void wait_tick(struct watchdog *watchdog) {
    struct timespec until;
    double end = clock_seconds() + tick_seconds(watchdog);
    until.tv_sec = (time_t)end;
    until.tv_nsec = (long)((end - (double)until.tv_sec) * 1e9);
    pthread_cond_timedwait(&watchdog->stopping, &watchdog->lock, &until);
}

/* How long one step has been seen running. */
struct look {
    int64_t number;
    double at, waited;
};

/* Time in which this process stood still, by SIGSTOP or in a frozen cgroup, counts as one tick: the device may have done its work
 * meanwhile, and the step's thread needs a moment to see it. */
static bool is_stuck(const struct watchdog *watchdog, struct look *look) {
    double now = clock_seconds(), spent = fmin(now - look->at, 2 * tick_seconds(watchdog));
    bool same = watchdog->running && watchdog->number == look->number;
    *look = (struct look){watchdog->number, now, same ? look->waited + spent : 0};
    return same && look->waited >= limit_of(watchdog, watchdog->step);
}

static void *watch(void *arg) {
    struct watchdog *watchdog = arg;
    const struct watchdog_options *options = &watchdog->options;
    struct look look = {.at = clock_seconds()};
    pthread_mutex_lock(&watchdog->lock);
    while (!watchdog->stopped && !is_stuck(watchdog, &look))
        wait_tick(watchdog);
    if (!watchdog->stopped)
        options->stuck(options->arg, watchdog->step, limit_of(watchdog, watchdog->step));
    pthread_mutex_unlock(&watchdog->lock);
    return NULL;
}

static void init(struct watchdog *watchdog, const struct watchdog_options *options) {
    pthread_condattr_t attributes;
    watchdog->options = *options;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->stopping, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&watchdog->lock, NULL);
}

static void done(struct watchdog *watchdog) {
    pthread_cond_destroy(&watchdog->stopping);
    pthread_mutex_destroy(&watchdog->lock);
    free(watchdog);
}

int watchdog_start(const struct watchdog_options *options, struct watchdog **ret_watchdog, struct err *err) {
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (watchdog == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the watchdog of the device's steps");
    init(watchdog, options);
    int code = pthread_create(&watchdog->thread, NULL, watch, watchdog);
    if (code != 0) {
        done(watchdog);
        return err_errno(err, ERR_MEMORY, code, "cannot start a thread to watch the device's steps");
    }
    *ret_watchdog = watchdog;
    return 0;
}

void watchdog_stop(struct watchdog *watchdog) {
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->lock);
    watchdog->stopped = true;
    pthread_cond_signal(&watchdog->stopping);
    pthread_mutex_unlock(&watchdog->lock);
    pthread_join(watchdog->thread, NULL);
    done(watchdog);
}

void watchdog_begin(struct watchdog *watchdog, enum watchdog_step step) {
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->lock);
    watchdog->running = true;
    watchdog->step = step;
    watchdog->number++;
    watchdog->begin = clock_seconds();
    pthread_mutex_unlock(&watchdog->lock);
}

void watchdog_end(struct watchdog *watchdog) {
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->lock);
    watchdog->running = false;
    pace_add(&watchdog->paces[watchdog->step], clock_seconds() - watchdog->begin);
    pthread_mutex_unlock(&watchdog->lock);
}
