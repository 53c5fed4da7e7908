/* Counts what an import costs and stops it at its limits. Used by the reading thread alone. */
#ifndef TRAIN_IMPORT_GUARD_H
#define TRAIN_IMPORT_GUARD_H

#include "server/train/import/import.h"

struct guard {
    const struct import_request *request;
    struct import_progress progress;
    uint64_t produced;      /* bytes, by decompressing or reading */
    int64_t end_ms, ask_ms; /* when time is over; when the watcher is asked again */
    bool stopped;
};

void guard_init(struct guard *guard, const struct import_request *request);

/* More bytes were produced, an entry begins, an image was found. ERR_TOO_LARGE at a limit. */
int guard_bytes(struct guard *guard, uint64_t bytes, struct err *err);
int guard_entry(struct guard *guard, struct err *err);
int guard_images(struct guard *guard, uint64_t images, struct err *err);

/* Looks at the clock and asks the watcher. */
int guard_ask(struct guard *guard, struct err *err);

#endif
