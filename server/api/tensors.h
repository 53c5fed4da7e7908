/* Reading safetensors files a slice at a time: the header is parsed, values stay on disk. The format:
 * https://github.com/huggingface/safetensors (8 bytes of header size, little-endian; the header, JSON; the values). */
#ifndef API_TENSORS_H
#define API_TENSORS_H

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

enum { TENSOR_DIMS_MAX = 4 };

struct tensor {
    uint64_t offset, bytes; /* in the file */
    int64_t shape[TENSOR_DIMS_MAX];
    int dims;
};

struct tensors {
    int fd; /* borrowed */
    uint64_t size, data;
    json_t *header;
};

/* Reads the header of an open file. Errors: ERR_DATA when it is no safetensors file, ERR_IO. */
int tensors_init(int fd, uint64_t size, struct tensors *ret_tensors, struct err *err);
void tensors_done(struct tensors *tensors); /* accepts zeroed memory */

/* A tensor by name, of 4-byte values of a type ("F32", "I32") with so many dimensions. ERR_DATA when there is none such, or when
 * it reaches beyond the file. */
int tensors_find(const struct tensors *tensors, const char *name, const char *dtype, int dims, struct tensor *ret_tensor,
                 struct err *err);

/* Reads count values from the first on (4 bytes each) into values. */
int tensors_read(const struct tensors *tensors, const struct tensor *tensor, int64_t first, int64_t count, void *values,
                 struct err *err);

#endif
