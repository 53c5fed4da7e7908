/* The arrays of a NumPy archive: see gather.h. The header of an array is described in numpy.lib.format. */
#include <stdlib.h>
#include <string.h>

#include "server/train/import/gather.h"

enum { MAGIC = 8, HEADER_MAX = 4096, DIMS_MAX = 4 };

static const struct member {
    const char *name;
    bool test, images;
} members[] = {
    {"x_train.npy", false, true}, {"y_train.npy", false, false}, {"x_test.npy", true, true}, {"y_test.npy", true, false}};

struct array {
    char kind;   /* 'u' or 'i' */
    size_t item; /* bytes */
    int dims;
    size_t size[DIMS_MAX];
};

static const struct member *find(const char *base) {
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (strcmp(members[i].name, base) == 0)
            return &members[i];
    return NULL;
}

/* What stands behind a key of the header, a Python dictionary as NumPy writes it. */
static const char *value_of(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    return at + strspn(at, ": ");
}

/* Little-endian or single bytes, not negative by their kind alone: what labels are is checked one by one. */
static int parse_type(const char *text, struct array *array, struct err *err) {
    bool known = text != NULL && text[0] == '\'' && (text[1] == '|' || text[1] == '<') && (text[2] == 'u' || text[2] == 'i') &&
                 (text[3] == '1' || text[3] == '2' || text[3] == '4' || text[3] == '8') && text[4] == '\'';
    if (!known)
        return err_set(err, ERR_DATA, "its type is %.12s; whole numbers (|u1, <i8 and so on) are read",
                       text != NULL ? text : "not told");
    array->kind = text[2];
    array->item = (size_t)(text[3] - '0');
    return 0;
}

static int parse_shape(const char *text, struct array *array, struct err *err) {
    if (text == NULL || *text++ != '(')
        return err_set(err, ERR_DATA, "its header tells no shape");
    while (*text != ')' && array->dims < DIMS_MAX) {
        char *end;
        unsigned long long size = strtoull(text, &end, 10);
        if (end == text || size == 0 || size > INT32_MAX)
            return err_set(err, ERR_DATA, "its header tells an impossible shape");
        array->size[array->dims++] = (size_t)size;
        text = end + strspn(end, ", ");
    }
    return *text == ')' ? 0 : err_set(err, ERR_DATA, "it has more than %d dimensions", DIMS_MAX);
}

static int read_header(struct stream *stream, char ret_header[HEADER_MAX + 1], struct err *err) {
    uint8_t magic[MAGIC], size[4] = {0};
    if (stream_exactly(stream, magic, sizeof magic, "its header", err) != 0)
        return -1;
    if (memcmp(magic, "\x93NUMPY", 6) != 0 || magic[6] < 1 || magic[6] > 3)
        return err_set(err, ERR_DATA, "it is no array of NumPy, version 1 to 3");
    if (stream_exactly(stream, size, magic[6] == 1 ? 2 : 4, "its header", err) != 0)
        return -1;
    size_t length = (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (length > HEADER_MAX)
        return err_set(err, ERR_DATA, "its header has %zu bytes; at most %d are read", length, HEADER_MAX);
    ret_header[length] = '\0';
    return stream_exactly(stream, (uint8_t *)ret_header, length, "its header", err);
}

static int parse(struct stream *stream, struct array *ret_array, struct err *err) {
    char header[HEADER_MAX + 1];
    *ret_array = (struct array){0};
    if (read_header(stream, header, err) != 0 || parse_type(value_of(header, "'descr'"), ret_array, err) != 0)
        return -1;
    const char *order = value_of(header, "'fortran_order'");
    if (order == NULL || strncmp(order, "False", 5) != 0)
        return err_set(err, ERR_DATA, "it is in Fortran's order; save numpy.ascontiguousarray of it");
    return parse_shape(value_of(header, "'shape'"), ret_array, err);
}

static bool is_channels(size_t size) {
    return size == 1 || size == 3;
}

static int clamp(size_t side) {
    return side <= INT16_MAX ? (int)side : INT16_MAX; /* more than any image may have */
}

/* [n,H,W], [n,H,W,C] or [n,C,H,W]: sides are never as short as 3, so that it is never both. */
static int layout(const struct array *array, struct records *ret_records, struct err *err) {
    const size_t *size = array->size;
    struct records records = {.n = size[0], .channels = 1};
    bool last = array->dims == 4 && is_channels(size[3]), first = array->dims == 4 && !last && is_channels(size[1]);
    if (array->kind != 'u' || array->item != 1)
        return err_set(err, ERR_DATA, "its images are no uint8");
    if (array->dims != 3 && !last && !first)
        return err_set(err, ERR_DATA, "its shape has %d dimensions; images are [n,H,W], [n,H,W,C] or [n,C,H,W], C is 1 or 3",
                       array->dims);
    if (last || first)
        records.channels = (int)size[last ? 3 : 1];
    records.planar = first;
    records.height = clamp(size[first ? 2 : 1]);
    records.width = clamp(size[first ? 3 : 2]);
    *ret_records = records;
    return 0;
}

static int read_labels(struct stream *stream, const struct array *array, struct block *block, struct err *err) {
    if (array->dims != 1 && !(array->dims == 2 && array->size[1] == 1))
        return err_set(err, ERR_DATA, "its labels have %d dimensions; one whole number an image is read", array->dims);
    return labels_read(stream, array->size[0], array->item, block, err);
}

static int read_member(struct gather *gather, const struct member *member, struct err *err) {
    struct stream stream = {.source = &gather->source};
    struct array array;
    struct block *block;
    struct records records;
    if (parse(&stream, &array, err) != 0 || gather_block(gather, member->test, SIZE_MAX, &block, err) != 0)
        return -1;
    if (member->images && layout(&array, &records, err) != 0)
        return -1;
    int rc = member->images ? records_read(gather, &stream, &records, block, err) : read_labels(&stream, &array, block, err);
    return rc == 0 ? stream_end(&stream, err) : -1;
}

int npz_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err) {
    const struct member *member = find(base);
    if (member == NULL)
        return 0;
    if (gather_format(gather, "npz", err) != 0 || read_member(gather, member, err) != 0)
        return -1;
    *ret_taken = true;
    return 0;
}
