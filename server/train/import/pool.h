/* Threads that decode images while another one reads the archive. */
#ifndef TRAIN_IMPORT_POOL_H
#define TRAIN_IMPORT_POOL_H

#include "server/train/import/picture.h"
#include "server/train/import/store.h"

/* An image that was handed in. */
struct found {
    size_t name_at; /* in the names of the source */
    uint64_t at;    /* in the store */
    char *reason;   /* why it could not be decoded; NULL: it could */
    uint16_t height, width;
    uint8_t channels;
};

struct pool;

/* Starts the threads, one a processor, eight at most. */
struct pool *pool_new(const struct import_options *options, struct store *store, struct err *err);

/* Hands an image in; waits while much is waiting. Returns -1 when decoding has failed: pool_finish says why. */
int pool_add(struct pool *pool, size_t name_at, const uint8_t *bytes, size_t size, struct err *err);

/* Waits for the threads to end. *ret_found: the images in the order handed in, owned by the caller (found_free). A failure is
 * that of the first image that failed: *ret_name_at is its name. Frees the pool in any case. */
int pool_finish(struct pool *pool, struct found **ret_found, size_t *ret_n, size_t *ret_name_at, struct err *err);

/* As pool_finish, when the result is wanted no more. */
void pool_free(struct pool *pool); /* accepts NULL */
void found_free(struct found *found, size_t n);

#endif
