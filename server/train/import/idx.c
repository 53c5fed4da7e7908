/* The IDX files of the MNIST family: see gather.h. */
#include <string.h>

#include "server/train/import/gather.h"

enum { IMAGE_DIMS = 3, LABEL_DIMS = 1, TYPE_BYTE = 8 };

static const struct file {
    const char *name;
    bool test;
    int dims;
} files[] = {{"train-images-idx3-ubyte", false, IMAGE_DIMS},
             {"train-labels-idx1-ubyte", false, LABEL_DIMS},
             {"t10k-images-idx3-ubyte", true, IMAGE_DIMS},
             {"t10k-labels-idx1-ubyte", true, LABEL_DIMS}};

/* Some write ".idx3" for "-idx3"; some leave the file compressed. */
static const struct file *find(const char *base) {
    size_t length = strlen(base);
    if (length > 3 && strcmp(base + length - 3, ".gz") == 0)
        length -= 3;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *name = files[i].name;
        bool same = strlen(name) == length;
        for (size_t k = 0; same && k < length; k++)
            same = base[k] == name[k] || (name[k] == '-' && base[k] == '.');
        if (same)
            return &files[i];
    }
    return NULL;
}

static int read_sizes(struct stream *stream, int dims, uint32_t *ret_sizes, struct err *err) {
    uint8_t header[4 * (1 + IMAGE_DIMS)];
    if (stream_exactly(stream, header, 4 * (1 + (size_t)dims), "its header", err) != 0)
        return -1;
    const uint8_t want[4] = {0, 0, TYPE_BYTE, (uint8_t)dims};
    if (memcmp(header, want, sizeof want) != 0)
        return err_set(err, ERR_DATA,
                       "it begins with %02x%02x%02x%02x; an IDX file of bytes with %d dimensions begins with 000008%02x",
                       header[0], header[1], header[2], header[3], dims, dims);
    for (int d = 0; d < dims; d++) {
        const uint8_t *b = header + 4 * (d + 1);
        ret_sizes[d] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    return 0;
}

static int clamp(uint32_t side) {
    return side <= INT16_MAX ? (int)side : INT16_MAX; /* more than any image may have */
}

static int read_file(struct gather *gather, const struct file *file, struct stream *stream, struct err *err) {
    uint32_t sizes[IMAGE_DIMS];
    struct block *block;
    if (read_sizes(stream, file->dims, sizes, err) != 0 || gather_block(gather, file->test, SIZE_MAX, &block, err) != 0)
        return -1;
    struct records records = {.channels = 1, .height = clamp(sizes[1]), .width = clamp(sizes[2]), .n = sizes[0]};
    int rc = file->dims == IMAGE_DIMS ? records_read(gather, stream, &records, block, err)
                                      : labels_read(stream, sizes[0], 1, block, err);
    return rc == 0 ? stream_end(stream, err) : -1;
}

int idx_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err) {
    const struct file *file = find(base);
    struct stream stream;
    if (file == NULL)
        return 0;
    if (gather_format(gather, "idx", err) != 0 || stream_open(&gather->source, &stream, err) != 0)
        return -1;
    int rc = read_file(gather, file, &stream, err);
    stream_close(&stream);
    *ret_taken = rc == 0;
    return rc;
}
