/* IDX files: arrays of unsigned bytes with a header, as MNIST's authors defined them, compressed by gzip. */
#ifndef TRAIN_IDX_H
#define TRAIN_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { IDX_DIMS_MAX = 3, IDX_BYTES_MAX = 1 << 30 };

struct idx {
    int dims, size[IDX_DIMS_MAX];
    size_t count; /* product of size */
    uint8_t *bytes;
};

/* Reads a whole file that must have exactly dims dimensions. The header (0, 0, type 8 = unsigned byte, dims, then the sizes as
 * 32-bit big-endian numbers) is checked against what the file holds: ERR_DATA names the file and both numbers. */
int idx_read(const char *path, int dims, struct idx *ret_idx, struct err *err);
void idx_done(struct idx *idx);

#endif
