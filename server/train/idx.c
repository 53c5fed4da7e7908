/* Reads IDX files through zlib: see idx.h. */
#include "server/train/idx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { IDX_TYPE_BYTE = 8, IDX_MAGIC_BYTES = 4, READ_MAX = 1 << 20 };

/* Reads until size bytes are there or the file ends; *ret_got says how many came. zlib checks gzip's own checksum on the way. */
static int read_up_to(gzFile file, const char *path, uint8_t *bytes, size_t size, size_t *ret_got, struct err *err) {
    size_t got = 0;
    while (got < size) {
        size_t want = size - got < READ_MAX ? size - got : READ_MAX;
        int n = gzread(file, bytes + got, (unsigned)want);
        if (n == 0)
            break;
        if (n < 0) {
            int code;
            const char *reason = gzerror(file, &code);
            if (code == Z_MEM_ERROR)
                return err_set(err, ERR_MEMORY, "out of memory while reading %s", path);
            return err_set(err, code == Z_ERRNO ? ERR_IO : ERR_DATA, "cannot decompress %s after %zu bytes: %s", path, got,
                           reason);
        }
        got += (size_t)n;
    }
    *ret_got = got;
    return 0;
}

static int check_magic(const char *path, const uint8_t *magic, int dims, struct err *err) {
    const uint8_t want[IDX_MAGIC_BYTES] = {0, 0, IDX_TYPE_BYTE, (uint8_t)dims};
    if (memcmp(magic, want, sizeof want) == 0)
        return 0;
    return err_set(err, ERR_DATA,
                   "%s begins with %02x%02x%02x%02x; an IDX file of bytes with %d dimensions begins with 000008%02x", path,
                   magic[0], magic[1], magic[2], magic[3], dims, dims);
}

/* Sizes and their product, bounded before anything is allocated. */
static int parse_sizes(const char *path, const uint8_t *header, struct idx *idx, struct err *err) {
    uint64_t count = 1;
    for (int d = 0; d < idx->dims; d++) {
        const uint8_t *b = header + IDX_MAGIC_BYTES * (d + 1);
        uint32_t size = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        if (size == 0 || size > IDX_BYTES_MAX)
            return err_set(err, ERR_DATA, "%s: its header says that dimension %d has size %u; 1 to %d are possible", path, d + 1,
                           size, IDX_BYTES_MAX);
        idx->size[d] = (int)size;
        count *= size; /* below 2^60: count is at most 2^30 before */
        if (count > IDX_BYTES_MAX)
            return err_set(err, ERR_DATA, "%s: its header promises %llu bytes or more; at most %d are read", path,
                           (unsigned long long)count, IDX_BYTES_MAX);
    }
    idx->count = (size_t)count;
    return 0;
}

static int read_header(gzFile file, const char *path, struct idx *idx, struct err *err) {
    uint8_t header[IDX_MAGIC_BYTES * (IDX_DIMS_MAX + 1)];
    size_t size = (size_t)(IDX_MAGIC_BYTES * (idx->dims + 1)), got;
    if (read_up_to(file, path, header, size, &got, err) != 0)
        return -1;
    if (got < size)
        return err_set(err, ERR_DATA, "%s has %zu bytes; its header alone needs %zu", path, got, size);
    if (check_magic(path, header, idx->dims, err) != 0)
        return -1;
    return parse_sizes(path, header, idx, err);
}

static int read_body(gzFile file, const char *path, struct idx *idx, struct err *err) {
    size_t got;
    uint8_t extra;
    if (read_up_to(file, path, idx->bytes, idx->count, &got, err) != 0)
        return -1;
    if (got < idx->count)
        return err_set(err, ERR_DATA, "%s is cut short: its header promises %zu bytes of data, %zu are there", path, idx->count,
                       got);
    if (read_up_to(file, path, &extra, 1, &got, err) != 0)
        return -1;
    if (got != 0)
        return err_set(err, ERR_DATA, "%s is too long: its header promises %zu bytes of data, at least %zu are there", path,
                       idx->count, idx->count + 1);
    return 0;
}

static int read_file(gzFile file, const char *path, struct idx *idx, struct err *err) {
    if (read_header(file, path, idx, err) != 0)
        return -1;
    idx->bytes = malloc(idx->count);
    if (idx->bytes == NULL)
        return err_set(err, ERR_MEMORY, "out of memory: %s needs %zu bytes", path, idx->count);
    return read_body(file, path, idx, err);
}

/* gzclose reports a stream that ended before its checksum. */
static int close_file(gzFile file, const char *path, struct err *err) {
    int code = gzclose(file);
    if (code == Z_OK)
        return 0;
    return err_set(err, code == Z_ERRNO ? ERR_IO : ERR_DATA, "%s ends in the middle of its compressed stream", path);
}

int idx_read(const char *path, int dims, struct idx *ret_idx, struct err *err) {
    errno = 0;
    gzFile file = gzopen(path, "rbe");
    if (file == NULL && (errno == 0 || errno == ENOMEM))
        return err_set(err, ERR_MEMORY, "out of memory while opening %s", path);
    if (file == NULL)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
    struct idx idx = {.dims = dims};
    int rc = read_file(file, path, &idx, err);
    if (close_file(file, path, err) != 0)
        rc = -1;
    if (rc != 0) {
        idx_done(&idx);
        return -1;
    }
    *ret_idx = idx;
    return 0;
}

void idx_done(struct idx *idx) {
    free(idx->bytes);
    *idx = (struct idx){0};
}
