/* Reads what a child writes into a pipe, in chunks or in lines, within limits. */
#ifndef SCHED_PUMP_H
#define SCHED_PUMP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/loop.h"

/* One line without its newline; or a chunk as it came. Borrowed. A non-zero answer ends the reading. */
typedef int pump_fn(void *arg, const char *data, size_t size);

/* A line had more than line_max bytes. */
typedef void pump_oversize_fn(void *arg);

struct pump_options {
    struct loop *loop;
    int fd;          /* non-blocking; stays the caller's, who closes it after pump_free */
    size_t line_max; /* of a line with its newline; 0: chunks */
    pump_fn *fn;
    pump_oversize_fn *oversize; /* only for lines */
    void *arg;
};

struct pump;
struct pump *pump_new(const struct pump_options *options, struct err *err);

/* Reads what is there now, up to a limit that no honest child reaches after its end. */
void pump_drain(struct pump *pump);

/* Whether the last line lacks its newline. */
bool pump_is_cut(const struct pump *pump);

void pump_free(struct pump *pump); /* accepts NULL */

#endif
