/* One job as the daemon hands it over, and the way from its line to an exit code. */
#ifndef TRAIN_JOB_H
#define TRAIN_JOB_H

#include <jansson.h>

#include "common/err.h"
#include "common/event.h"
#include "common/spec.h"
#include "server/train/imported.h"

struct job {
    json_t *document; /* the line; owns the texts */
    const char *id, *device, *dir;
    int attempt, epochs_known;
    struct imported *imported; /* NULL: a built-in data set */
    struct spec spec;
    char *spec_text; /* canonical */
};

/* Parses the daemon's line. */
int job_parse(const char *line, size_t size, struct job *ret_job, struct err *err);
void job_done(struct job *job);

/* What a failure means for the daemon: would the same job, tried again, perhaps succeed? */
enum worker_exit job_exit_of(enum err_code code);

/* Reads the line from standard input, trains, and sends events to events_fd. */
enum worker_exit job_run(int events_fd);

#endif
