/* A short worker: it is asked one thing, its answer is collected within limits of size and time, and it is gone. */
#ifndef SCHED_ERRAND_H
#define SCHED_ERRAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct errand;
struct launch_env;
struct sched;

/* The answer of a worker that ended with exit code 0, or NULL and why there is none: ERR_UNSUPPORTED when it does not know its
 * arguments. Borrowed. Called once; may free the errand. */
typedef void errand_fn(void *arg, const char *answer, size_t size, const struct err *why);

/* A line of an answer that is told while it comes. Borrowed. */
typedef void errand_line_fn(void *arg, const char *line, size_t size);

struct errand_options {
    const struct sched *sched;
    const char *what;             /* for messages: "the probe of the devices"; must outlive the errand */
    const char *const *args;      /* of the worker: "--probe"; ended by NULL; used during errand_new only */
    const struct launch_env *env; /* besides the daemon's; NULL: nothing; used during errand_new only */
    const char *question;         /* one line with its newline for its standard input; NULL: none */
    int nice;
    bool holds_input;     /* its standard input stays open: the end of the daemon is its end */
    errand_line_fn *line; /* NULL: the answer is collected; else it is told line by line, and is "" in the end */
    size_t answer_max;    /* of the answer, or of each line */
    int64_t timeout_ms;
    errand_fn *fn;
    void *arg;
};

int errand_new(const struct errand_options *options, struct errand **ret_errand, struct err *err);

/* Kills what still runs; nothing is called any more. Accepts NULL. */
void errand_free(struct errand *errand);

#endif
