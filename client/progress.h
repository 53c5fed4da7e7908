/* What a job is doing right now: a bar that is redrawn in place on a terminal, a plain line now and then elsewhere. */
#ifndef CLIENT_PROGRESS_H
#define CLIENT_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/term.h"

/* Zeroed memory with term set is a display that has nothing to say yet. */
struct progress {
    const struct term *term;
    bool off;       /* says nothing: --quiet, --json */
    char state[16]; /* of the job; "" before it is known */
    int64_t before; /* jobs before it in the queue; -1: not known */
    bool training;  /* the fields below are set */
    char phase[16]; /* "train", "validation", "test" */
    int64_t epoch, epochs, step, steps;
    double loss, images_per_second, seconds_left;
    bool drawn, changed;
    int64_t said_ms; /* when the last plain line or other output came */
};

void progress_state(struct progress *progress, const char *state, int64_t before);
void progress_event(struct progress *progress, const json_t *data);

/* An epoch is done: the last progress is history, and is not said again until there is a newer one. */
void progress_epoch_ended(struct progress *progress);

/* Draws if there is something new or, without a terminal, if it is time for a sign of life of a job that does not wait. */
void progress_tick(struct progress *progress, int64_t now_ms);

/* Takes the bar away, so that other output can be printed; it is drawn again by the next tick. */
void progress_clear(struct progress *progress, int64_t now_ms);

#endif
