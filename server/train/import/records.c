/* Reads raw images and labels: see gather.h. */
#include <stdlib.h>
#include <string.h>

#include "server/train/import/gather.h"

/* What one record is read into. */
struct record {
    uint8_t *bytes, *turned; /* turned: [H,W,C] of a planar one */
    struct fitted fitted;
};

static void turn(const struct records *records, const uint8_t *planar, uint8_t *ret_pixels) {
    size_t plane = (size_t)records->height * (size_t)records->width, channels = (size_t)records->channels;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < plane; i++)
            ret_pixels[i * channels + c] = planar[c * plane + i];
}

static int keep_image(struct gather *gather, const struct records *records, struct record *record, struct block *block,
                      struct err *err) {
    struct picture picture = {records->channels, records->height, records->width, record->bytes + records->lead};
    struct fitted *fitted = &record->fitted;
    uint64_t at;
    if (records->planar && records->channels > 1) {
        turn(records, picture.pixels, record->turned);
        picture.pixels = record->turned;
    }
    if (guard_images(&gather->guard, 1, err) != 0 || picture_fit(&picture, &gather->request->options, fitted, err) != 0)
        return -1;
    size_t size = (size_t)fitted->channels * (size_t)fitted->height * (size_t)fitted->width;
    if (store_put(&gather->store, fitted->pixels, size, &at, err) != 0)
        return -1;
    if (block->n++ == 0)
        block->at = at;
    return 0;
}

static int keep_label(struct block *block, uint8_t label, struct err *err) {
    enum { FIRST = 1024 };
    size_t n = block->labels_n;
    if (n == 0 || (n >= FIRST && (n & (n - 1)) == 0)) { /* full at powers of two */
        uint8_t *labels = realloc(block->labels, n == 0 ? FIRST : 2 * n);
        if (labels == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for %zu labels", 2 * n);
        block->labels = labels;
    }
    block->labels[block->labels_n++] = label;
    return 0;
}

static int read_all(struct gather *gather, struct stream *stream, const struct records *records, struct record *record,
                    struct block *block, struct err *err) {
    size_t size = records->lead + (size_t)records->channels * (size_t)records->height * (size_t)records->width;
    for (size_t i = 0; i < records->n; i++) {
        size_t n;
        if (stream_read(stream, record->bytes, size, &n, err) != 0)
            return -1;
        if (n == 0 && records->n == SIZE_MAX)
            return 0;
        if (n < size)
            return err_set(err, ERR_DATA, "it is cut short: image %zu needs %zu bytes, %zu are there", i + 1, size, n);
        if (records->lead > 0 && keep_label(block, record->bytes[records->label], err) != 0)
            return -1;
        if (keep_image(gather, records, record, block, err) != 0)
            return -1;
    }
    return 0;
}

int records_read(struct gather *gather, struct stream *stream, const struct records *records, struct block *block,
                 struct err *err) {
    if (block->n > 0)
        return err_set(err, ERR_DATA, "images of this part were there before");
    if (picture_check(records->height, records->width, gather->request->options.height > 0, err) != 0)
        return -1;
    size_t pixels = (size_t)records->channels * (size_t)records->height * (size_t)records->width;
    struct record record = {.bytes = malloc(records->lead + pixels), .turned = malloc(pixels)};
    int rc = record.bytes == NULL || record.turned == NULL
                 ? err_set(err, ERR_MEMORY, "out of memory: an image needs %zu bytes", pixels)
                 : read_all(gather, stream, records, &record, block, err);
    block->channels = record.fitted.channels;
    block->height = record.fitted.height;
    block->width = record.fitted.width;
    fitted_done(&record.fitted);
    free(record.turned);
    free(record.bytes);
    return rc;
}

int labels_read(struct stream *stream, size_t n, size_t item, struct block *block, struct err *err) {
    uint8_t bytes[sizeof(uint64_t)];
    if (block->labels_n > 0)
        return err_set(err, ERR_DATA, "labels of this part were there before");
    for (size_t i = 0; i < n; i++) {
        if (stream_exactly(stream, bytes, item, "a label", err) != 0)
            return -1;
        for (size_t k = 1; k < item; k++)
            if (bytes[k] != 0)
                return err_set(err, ERR_DATA, "label %zu is not one of 0 to %d", i, DATASET_CLASSES_MAX - 1);
        if (keep_label(block, bytes[0], err) != 0)
            return -1;
    }
    return 0;
}
