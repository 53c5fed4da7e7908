/* Pixels on their way: a file without a name, to which several threads append. */
#ifndef TRAIN_IMPORT_STORE_H
#define TRAIN_IMPORT_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct store {
    int fd;
    atomic_uint_fast64_t size;
};

/* Makes the file in a directory. ret_store is to be handed to store_done, on failure, too. */
int store_open(const char *dir, struct store *ret_store, struct err *err);
int store_put(struct store *store, const void *bytes, size_t size, uint64_t *ret_at, struct err *err);

/* Maps all of it for reading; the mapping outlives the store. NULL and 0 where nothing was put. */
int store_map(struct store *store, const uint8_t **ret_bytes, size_t *ret_size, struct err *err);
void store_done(struct store *store);

#endif
