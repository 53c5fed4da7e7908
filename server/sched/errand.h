/* A short worker: it is asked one thing, its answer is collected within limits of size and time, and it is gone. */
#ifndef SCHED_ERRAND_H
#define SCHED_ERRAND_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct errand;
struct launch_env;
struct sched;

/* The answer of a worker that ended with exit code 0, or NULL and why there is none: ERR_UNSUPPORTED when it does not know its
 * arguments. Borrowed. Called once; may free the errand. */
typedef void errand_fn(void *arg, const char *answer, size_t size, const struct err *why);

struct errand_options {
    const struct sched *sched;
    const char *what;             /* for messages: "the probe of the devices"; must outlive the errand */
    const char *const *args;      /* of the worker: "--probe"; ended by NULL; used during errand_new only */
    const struct launch_env *env; /* besides the daemon's; NULL: nothing; used during errand_new only */
    const char *question;         /* one line with its newline for its standard input; NULL: none */
    int nice;
    size_t answer_max;
    int64_t timeout_ms;
    errand_fn *fn;
    void *arg;
};

int errand_new(const struct errand_options *options, struct errand **ret_errand, struct err *err);

/* Kills what still runs; nothing is called any more. Accepts NULL. */
void errand_free(struct errand *errand);

#endif
