/* The regular files of an archive or a directory, one after the other, each read once from its begin to its end. */
#ifndef TRAIN_IMPORT_SOURCE_H
#define TRAIN_IMPORT_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "server/train/import/guard.h"

enum { SOURCE_HEAD = 512 };

/* How a kind of source is read. self is what the kind keeps. */
struct source_kind {
    /* The next regular file's name, without leading "./", NULL at the end. Valid until the next call. */
    int (*next)(void *self, const char **ret_name, struct err *err);
    int (*read)(void *self, uint8_t *to, size_t size, size_t *ret_n, struct err *err);
    void (*close)(void *self);
};

struct source {
    const struct source_kind *kind;
    void *self;
    struct guard *guard;
    const char *name;          /* of the entry; NULL: none */
    uint8_t head[SOURCE_HEAD]; /* how the entry begins */
    size_t head_n, head_at;
};

/* Opens a path before the sandbox is closed; what is in it is looked at by source_next only. */
int source_open(const char *path, struct guard *guard, struct source *ret_source, struct err *err);
void source_close(struct source *source); /* accepts zeroed memory */

/* Goes to the next regular file: its name (checked) in source->name, NULL at the end. */
int source_next(struct source *source, struct err *err);

/* Reads up to size bytes of the entry; *ret_n is smaller only at its end. */
int source_read(struct source *source, uint8_t *to, size_t size, size_t *ret_n, struct err *err);

/* --- the kinds --- */

int archive_open(int fd, struct guard *guard, void **ret_self, struct err *err); /* takes fd */
extern const struct source_kind archive_kind;

int folder_open(int fd, struct guard *guard, void **ret_self, struct err *err); /* takes fd */
extern const struct source_kind folder_kind;

#endif
