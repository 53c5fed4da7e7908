/* The safetensors format (huggingface/safetensors): 8 bytes little-endian header size, a JSON header {"NAME": {"dtype", "shape",
 * "data_offsets": [begin, end]}, ..., "__metadata__": {"KEY": "TEXT"}}, then the data. Files are untrusted: every number is
 * checked. */
#ifndef TRAIN_SAFETENSORS_H
#define TRAIN_SAFETENSORS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { SAFETENSORS_DIMS_MAX = 8, SAFETENSORS_HEADER_MAX = 1 << 24 };

enum safetensors_type { SAFETENSORS_F32, SAFETENSORS_F64, SAFETENSORS_I32 };

/* A tensor to be written, or what one that is read must be. */
struct safetensors_entry {
    const char *name;
    const int *shape;
    int dims;
    size_t count; /* product of shape */
    enum safetensors_type type;
    const void *values; /* [count], when written */
};

/* Writes DIR/NAME whole or not at all, the tensors in the order given: those of eight bytes should come first, so that all are
 * aligned. metadata: an object of strings; "sha256" is added, the digest of the data, that is of all tensors. *ret_bytes is the
 * file's size. */
int safetensors_write(const char *dir, const char *name, const json_t *metadata, const struct safetensors_entry *entries,
                      size_t entries_n, int64_t *ret_bytes, struct err *err);

/* A checked file in memory. */
struct safetensors {
    char *bytes; /* its own, of safetensors_open */
    json_t *header;
    const json_t *metadata; /* borrowed from header; NULL when the file has none */
    const uint8_t *data;
    size_t data_size;
};

/* Parses and checks a whole file: sizes, names, types, shapes, and that the tensors cover the data without gap or overlap.
 * ERR_DATA says what is wrong; what names the file in messages. The bytes stay the caller's and must outlive *ret_file. */
int safetensors_parse(const char *what, const void *bytes, size_t size, struct safetensors *ret_file, struct err *err);
void safetensors_done(struct safetensors *file);

/* Reads the file at a path, of size_max bytes at most, parses it and checks its data by "sha256". */
int safetensors_open(const char *path, const char *what, size_t size_max, struct safetensors *ret_file, struct err *err);

/* Whether there is a tensor of this name, type and shape. */
bool safetensors_has(const struct safetensors *file, const struct safetensors_entry *entry);

/* Where the values of a tensor stand in the file, little-endian and aligned to nothing; it must be of exactly the type and shape
 * given. NULL and ERR_DATA otherwise. */
const void *safetensors_values(const struct safetensors *file, const struct safetensors_entry *entry, struct err *err);

/* Copies them out. */
int safetensors_get(const struct safetensors *file, const struct safetensors_entry *entry, void *ret_values, struct err *err);

#endif
