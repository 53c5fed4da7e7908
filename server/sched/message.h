/* One line of a worker, checked: nothing that a worker says is believed before it passed here. */
#ifndef SCHED_MESSAGE_H
#define SCHED_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/event.h"

struct message {
    enum event_type type;
    int epoch;          /* of progress, epoch and checkpoint */
    int epochs;         /* of progress and done */
    int best_epoch;     /* of done; 0: none */
    bool stopped_early; /* of done */
    json_t *fields;     /* the line without "type", "seq" and "protocol" */
    struct err said;    /* of error */
};

/* Parses a line that must carry this seq. ERR_PROTOCOL says what is wrong. */
int message_parse(const char *line, size_t size, int64_t seq, struct message *ret_message, struct err *err);
void message_done(struct message *message);

/* Checks the answer of `residuum-worker --inspect` as far as the daemon must know: one JSON object. An "error" in it becomes
 * *err; what else it holds is passed on as it is. ERR_PROTOCOL says what is wrong. */
int message_check_inspection(const char *text, size_t size, struct err *err);

/* Checks the answer of `residuum-worker --probe`. New reference, or NULL and ERR_PROTOCOL. */
json_t *message_parse_probe(const char *text, size_t size, struct err *err);

#endif
