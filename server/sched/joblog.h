/* A job's log for people: what its workers wrote to standard error, and where attempts begin and end; bounded. */
#ifndef SCHED_JOBLOG_H
#define SCHED_JOBLOG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

enum { JOBLOG_MAX = 1 << 20, JOBLOG_RESERVE = 64 << 10 }; /* of workers; more for the lines of joblog_note */

struct joblog {
    int fd; /* -1: closed */
    size_t bytes;
    bool line_open; /* the last byte was not a newline */
};

/* Opens DIR/log.txt for appending. */
int joblog_open(const char *dir, struct joblog *ret_log, struct err *err);

/* Appends what a worker wrote. What goes beyond JOBLOG_MAX is dropped, and a last line says so. A log that cannot be written is
 * no reason to end a job: failures are ignored. */
void joblog_append(struct joblog *log, const char *data, size_t size);

/* Appends a line of the daemon's own, with the time before it. */
void joblog_note(struct joblog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

void joblog_close(struct joblog *log);

/* The last bytes of DIR/log.txt, at most limit, from a line start, as valid UTF-8 without control characters. Caller frees. Empty
 * when there is no log. */
int joblog_tail(const char *dir, size_t limit, char **ret_text, size_t *ret_size, struct err *err);

#endif
