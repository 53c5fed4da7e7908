/* Event lines to the daemon (common/event.h). */
#ifndef TRAIN_EMIT_H
#define TRAIN_EMIT_H

#include <jansson.h>
#include <stdbool.h>

#include "common/err.h"
#include "common/event.h"

struct emit {
    int fd;
    json_int_t seq; /* of the last line */
    bool closed;    /* nobody reads any more: the job must stop */
};

/* Sends one event; takes the reference of fields (an object without "type" and "seq"; NULL counts as out of memory). A reader
 * that is gone is no failure: emit->closed says so. */
int emit_event(struct emit *emit, enum event_type type, json_t *fields, struct err *err);

/* The same for a line of a type that is no event of a job. */
int emit_line(struct emit *emit, const char *type, json_t *fields, struct err *err);

/* Says in the log why the job failed, and sends it as the last line. Without memory for that the exit code alone tells. */
void emit_error(struct emit *emit, const struct err *failure);

#endif
