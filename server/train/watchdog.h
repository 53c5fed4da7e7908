/* Tells when something on a GPU does not end. A driver can hang for ever, and then nothing but another thread can say so. */
#ifndef TRAIN_WATCHDOG_H
#define TRAIN_WATCHDOG_H

#include <stdint.h>

#include "common/err.h"

enum { PACE_STEPS = 31 };

/* How long the last steps took. Zeroed: none yet. */
struct pace {
    double seconds[PACE_STEPS];
    int64_t n; /* steps in all */
};

void pace_add(struct pace *pace, double seconds);

/* Seconds after which a step is stuck: 20 times the median of the last ones, at least least_s. */
double pace_limit(const struct pace *pace, double least_s);

/* Seconds that a step of so many floating-point operations may take before any was measured: a minute, for what a first one does
 * besides, and the time of the slowest GPU (T4, 8 TFLOP/s in f32) at 1 % of its speed. */
double pace_first_limit(double flops);

/* What is watched. Steps of a kind take about the same time. */
enum watchdog_step { WATCHDOG_PREPARE, WATCHDOG_COPY, WATCHDOG_TRAIN, WATCHDOG_EVALUATE, WATCHDOG_STEPS };

struct watchdog_options {
    double least_s[WATCHDOG_STEPS]; /* of each kind: what it may always take */
    /* Called once, on the watchdog's thread, while the step has not ended: watchdog_end waits until it returns. */
    void (*stuck)(void *arg, enum watchdog_step step, double limit_s);
    void *arg;
};

struct watchdog;

/* Starts its thread. */
int watchdog_start(const struct watchdog_options *options, struct watchdog **ret_watchdog, struct err *err);
void watchdog_stop(struct watchdog *watchdog); /* accepts NULL */

/* Around each step. Both accept NULL: nothing is watched. */
void watchdog_begin(struct watchdog *watchdog, enum watchdog_step step);
void watchdog_end(struct watchdog *watchdog);

#endif
