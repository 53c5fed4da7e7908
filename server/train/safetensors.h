/* The safetensors format (huggingface/safetensors): 8 bytes little-endian header size, a JSON header {"NAME": {"dtype", "shape",
 * "data_offsets": [begin, end]}, ..., "__metadata__": {"KEY": "TEXT"}}, then the data. Files are untrusted: every number is
 * checked. */
#ifndef TRAIN_SAFETENSORS_H
#define TRAIN_SAFETENSORS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { SAFETENSORS_DIMS_MAX = 8, SAFETENSORS_HEADER_MAX = 1 << 24 };

/* What is written: f32, values lie one tensor after the other. */
struct safetensors_entry {
    const char *name;
    const int *shape;
    int dims;
    size_t count; /* product of shape */
};

/* Writes DIR/NAME whole or not at all. metadata: an object of strings. *ret_bytes is the file's size. */
int safetensors_write(const char *dir, const char *name, const json_t *metadata, const struct safetensors_entry *entries,
                      size_t entries_n, const float *values, int64_t *ret_bytes, struct err *err);

/* A checked file in memory. The bytes stay the caller's and must outlive it. */
struct safetensors {
    json_t *header;
    const json_t *metadata; /* borrowed from header; NULL when the file has none */
    const uint8_t *data;
    size_t data_size;
};

/* Parses and checks a whole file: sizes, names, types, shapes, and that the tensors cover the data without gap or overlap.
 * ERR_DATA says what is wrong; what names the file in messages. */
int safetensors_parse(const char *what, const void *bytes, size_t size, struct safetensors *ret_file, struct err *err);
void safetensors_done(struct safetensors *file);

/* Copies a tensor out, which must be f32 of exactly the shape given. */
int safetensors_get(const struct safetensors *file, const struct safetensors_entry *entry, float *ret_values, struct err *err);

#endif
