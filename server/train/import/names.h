/* Names of entries: which may be, and all that were. */
#ifndef TRAIN_IMPORT_NAMES_H
#define TRAIN_IMPORT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Whether a name may be: relative, UTF-8, without "..", backslash or control characters, of bounded length and depth. */
int name_check(const char *name, struct err *err);

/* Copies at most size - 1 bytes; what is no UTF-8 becomes "?". */
void name_show(const char *name, char *ret_text, size_t size);

/* All names of a source, one after the other, each ended by NUL. */
struct names {
    char *bytes;
    size_t used, room;
    size_t *slots; /* a hash table with open addressing: 1 + where a name begins, 0: free */
    size_t slots_n, n;
};

/* Keeps a name; *ret_at is where it begins in bytes. ERR_DATA when it was there before. */
int names_add(struct names *names, const char *name, size_t *ret_at, struct err *err);
void names_done(struct names *names);

#endif
