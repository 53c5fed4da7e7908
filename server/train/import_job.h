/* `residuum-worker --import`: from the daemon's line to a stored data set (common/event.h). */
#ifndef TRAIN_IMPORT_JOB_H
#define TRAIN_IMPORT_JOB_H

#include <jansson.h>

#include "common/err.h"
#include "common/event.h"
#include "server/train/import/import.h"

/* Reads the line from standard input, imports, and sends lines to events_fd. */
enum worker_exit import_job_run(int events_fd);

/* --- import_write.c --- */

/* What is stored, besides the set. */
struct import_meta {
    const char *name, *out;
    double test_fraction;
    uint64_t seed, bytes_max;   /* bytes_max: of data.bin */
    const char *archive_sha256; /* NULL: the source is a directory */
};

/* Splits a set that has no test images, and writes data.bin, sheet.png and, when all else is there, card.json. *ret_card: a new
 * reference. On failure nothing is left in out. */
int import_write(struct import_set *set, const struct import_meta *meta, json_t **ret_card, struct err *err);

/* Removes what import_write wrote. */
void import_unwrite(const char *out);

#endif
