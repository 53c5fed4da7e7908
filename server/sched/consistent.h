/* Whether the numbers of one epoch agree with each other. */
#ifndef SCHED_CONSISTENT_H
#define SCHED_CONSISTENT_H

#include <jansson.h>

#include "common/err.h"

/* Checks that go across the fields of an "epoch" line, whose fields fit by themselves. ERR_PROTOCOL says what disagrees. */
int epoch_consistent(const json_t *epoch, struct err *err);

#endif
