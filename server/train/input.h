/* What the daemon hands over on standard input: one line, with a spec in it. */
#ifndef TRAIN_INPUT_H
#define TRAIN_INPUT_H

#include <jansson.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/spec.h"

/* Reads up to the first newline; what comes after it in the same read is lost. Returns the line's length, 0 when there is none of
 * at most size bytes, -1 when a signal said stop. */
ssize_t input_line(char *line, size_t size);

/* Parses the spec of a job that was queued: of any number of threads, on the data set of a card, whatever its name, or, with
 * NULL, on a built-in one. The first of several failures is told. */
int input_spec(const json_t *document, const struct dataset_card *card, struct spec *ret_spec, struct err *err);

#endif
