/* Writes and reads safetensors files: see safetensors.h. */
#include "server/train/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/sha256.h"

enum { SIZE_BYTES = 8, ALIGNMENT = 8, HEADER_PARTS = 3 };
static const char metadata_key[] = "__metadata__", digest_key[] = "sha256";

/* --- types --- */

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {[SAFETENSORS_F32] = {"F32", 4},
              [SAFETENSORS_F64] = {"F64", 8},
              [SAFETENSORS_I32] = {"I32", 4},
              /* not read, but a file may hold them */
              {"F16", 2},
              {"BF16", 2},
              {"I64", 8},
              {"I16", 2},
              {"I8", 1},
              {"U64", 8},
              {"U32", 4},
              {"U16", 2},
              {"U8", 1},
              {"BOOL", 1}};

static size_t dtype_bytes(const char *name) {
    for (size_t i = 0; name != NULL && i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return dtypes[i].bytes;
    return 0;
}

static size_t entry_bytes(const struct safetensors_entry *entry) {
    return entry->count * dtypes[entry->type].bytes;
}

/* --- writing --- */

static json_t *entry_json(const struct safetensors_entry *entry, size_t begin) {
    json_t *shape = json_array();
    for (int d = 0; d < entry->dims; d++)
        if (json_array_append_new(shape, json_integer(entry->shape[d])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[entry->type].name, "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + entry_bytes(entry)));
}

static json_t *header_json(const json_t *metadata, const char *sha256, const struct safetensors_entry *entries,
                           size_t entries_n) {
    json_t *header = json_object(), *with_digest = json_copy((json_t *)metadata);
    int rc = json_object_set_new(with_digest, digest_key, json_string(sha256));
    rc |= json_object_set_new(header, metadata_key, with_digest);
    size_t at = 0;
    for (size_t i = 0; i < entries_n && rc == 0; i++) {
        rc = json_object_set_new(header, entries[i].name, entry_json(&entries[i], at));
        at += entry_bytes(&entries[i]);
    }
    if (rc == 0)
        return header;
    json_decref(header);
    return NULL;
}

/* The header's text; data: room for as many parts as there are tensors. */
static char *header_text(const json_t *metadata, const struct safetensors_entry *entries, size_t entries_n, struct iovec *data) {
    char sha256[65];
    for (size_t i = 0; i < entries_n; i++)
        data[i] = (struct iovec){(void *)entries[i].values, entry_bytes(&entries[i])};
    sha256_hex_parts(data, entries_n, sha256);
    json_t *header = header_json(metadata, sha256, entries, entries_n);
    char *text = header == NULL ? NULL : json_text(header);
    json_decref(header);
    return text;
}

/* parts: room for the header's, then those of the data. */
static int write_parts(const char *dir, const char *name, const char *header, struct iovec *parts, size_t data_n,
                       int64_t *ret_bytes, struct err *err) {
    static const char spaces[ALIGNMENT + 1] = "        ";
    size_t length = strlen(header), fill = (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
    uint64_t size = length + fill;
    uint8_t prefix[SIZE_BYTES];
    for (int i = 0; i < SIZE_BYTES; i++)
        prefix[i] = (uint8_t)(size >> 8 * i);
    parts[0] = (struct iovec){prefix, SIZE_BYTES};
    parts[1] = (struct iovec){(char *)header, length};
    parts[2] = (struct iovec){(char *)spaces, fill};
    size_t bytes = SIZE_BYTES + size;
    for (size_t i = 0; i < data_n; i++)
        bytes += parts[HEADER_PARTS + i].iov_len;
    if (file_write(dir, name, parts, HEADER_PARTS + (int)data_n, err) != 0)
        return -1;
    *ret_bytes = (int64_t)bytes;
    return 0;
}

int safetensors_write(const char *dir, const char *name, const json_t *metadata, const struct safetensors_entry *entries,
                      size_t entries_n, int64_t *ret_bytes, struct err *err) {
    struct iovec *parts = calloc(HEADER_PARTS + entries_n, sizeof *parts);
    char *text = parts == NULL ? NULL : header_text(metadata, entries, entries_n, parts + HEADER_PARTS);
    int rc = text == NULL ? err_set(err, ERR_MEMORY, "out of memory while writing %s", name)
                          : write_parts(dir, name, text, parts, entries_n, ret_bytes, err);
    free(text);
    free(parts);
    return rc;
}

/* --- reading --- */

struct range {
    size_t begin, end;
};

static int compare_ranges(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The bytes that a shape needs, or -1 when a size is no whole number in range or the product exceeds limit. */
static int64_t shape_bytes(const json_t *shape, size_t element_bytes, size_t limit) {
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX)
        return -1;
    size_t bytes = element_bytes;
    for (size_t d = 0; d < json_array_size(shape); d++) {
        const json_t *size = json_array_get(shape, d);
        json_int_t n = json_integer_value(size);
        if (!json_is_integer(size) || n < 0 || (n > 0 && bytes > limit / (size_t)n))
            return -1;
        bytes *= (size_t)n;
    }
    return bytes <= limit ? (int64_t)bytes : -1;
}

static int parse_range(const json_t *offsets, size_t data_size, struct range *ret_range) {
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return -1;
    json_int_t b = json_integer_value(begin), e = json_integer_value(end);
    if (b < 0 || e < b || (uintmax_t)e > data_size)
        return -1;
    *ret_range = (struct range){(size_t)b, (size_t)e};
    return 0;
}

static int check_tensor(const char *what, const char *name, const json_t *tensor, size_t data_size, struct range *ret_range,
                        struct err *err) {
    if (!json_is_object(tensor) || json_object_size(tensor) != 3)
        return err_set(err, ERR_DATA, "%s: the entry of tensor \"%.80s\" is not {dtype, shape, data_offsets}", what, name);
    size_t element = dtype_bytes(json_string_value(json_object_get(tensor, "dtype")));
    if (element == 0)
        return err_set(err, ERR_DATA, "%s: tensor \"%.80s\" has an unknown dtype", what, name);
    if (parse_range(json_object_get(tensor, "data_offsets"), data_size, ret_range) != 0)
        return err_set(err, ERR_DATA, "%s: the data_offsets of tensor \"%.80s\" do not lie in the %zu bytes of data", what, name,
                       data_size);
    int64_t bytes = shape_bytes(json_object_get(tensor, "shape"), element, data_size);
    size_t held = ret_range->end - ret_range->begin;
    if (bytes < 0)
        return err_set(err, ERR_DATA, "%s: the shape of tensor \"%.80s\" is malformed or larger than the %zu bytes of data", what,
                       name, data_size);
    if ((size_t)bytes != held)
        return err_set(err, ERR_DATA, "%s: the shape of tensor \"%.80s\" needs %jd bytes, its data_offsets hold %zu", what, name,
                       (intmax_t)bytes, held);
    return 0;
}

static int check_metadata(const char *what, const json_t *metadata, struct err *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return err_set(err, ERR_DATA, "%s: __metadata__ is not an object", what);
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return err_set(err, ERR_DATA, "%s: \"%.80s\" in __metadata__ is not a text", what, key);
    }
    return 0;
}

/* Sorted by place, each tensor must begin where the one before ends, and the last must end with the data. */
static int check_cover(const char *what, struct range *ranges, size_t n, size_t data_size, struct err *err) {
    qsort(ranges, n, sizeof *ranges, compare_ranges);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].begin != at)
            return err_set(err, ERR_DATA, "%s: a tensor begins at byte %zu of the data where %zu was expected: %s", what,
                           ranges[i].begin, at, ranges[i].begin < at ? "tensors overlap" : "there is a gap");
        at = ranges[i].end;
    }
    if (at != data_size)
        return err_set(err, ERR_DATA, "%s: its tensors need %zu bytes of data, %zu are there", what, at, data_size);
    return 0;
}

static int check_header(const char *what, struct safetensors *file, struct range *ranges, struct err *err) {
    const char *name;
    json_t *value;
    size_t n = 0;
    json_object_foreach(file->header, name, value) {
        if (strcmp(name, metadata_key) == 0) {
            if (check_metadata(what, value, err) != 0)
                return -1;
            file->metadata = value;
        } else if (check_tensor(what, name, value, file->data_size, &ranges[n++], err) != 0) {
            return -1;
        }
    }
    return check_cover(what, ranges, n, file->data_size, err);
}

/* Finds header and data in the file. */
static int split(const char *what, const uint8_t *bytes, size_t size, size_t *ret_header_size, struct err *err) {
    if (size < SIZE_BYTES)
        return err_set(err, ERR_DATA, "%s has %zu bytes; a safetensors file has at least %d", what, size, SIZE_BYTES);
    uint64_t header_size = 0;
    for (int i = 0; i < SIZE_BYTES; i++)
        header_size |= (uint64_t)bytes[i] << 8 * i;
    if (header_size > SAFETENSORS_HEADER_MAX || header_size > size - SIZE_BYTES)
        return err_set(err, ERR_DATA, "%s says that its header has %ju bytes; %zu follow, and %d are read at most", what,
                       (uintmax_t)header_size, size - SIZE_BYTES, SAFETENSORS_HEADER_MAX);
    *ret_header_size = (size_t)header_size;
    return 0;
}

static json_t *parse_header(const char *what, const uint8_t *text, size_t size, struct err *err) {
    struct err reason = {0};
    json_t *header = json_parse((const char *)text, size, &reason);
    if (header != NULL && json_is_object(header))
        return header;
    if (header == NULL && reason.code == ERR_MEMORY)
        err_set(err, ERR_MEMORY, "out of memory while reading %s", what);
    else
        err_set(err, ERR_DATA, "%s: its header is not a JSON object: %s", what, reason.text);
    json_decref(header);
    return NULL;
}

int safetensors_parse(const char *what, const void *bytes, size_t size, struct safetensors *ret_file, struct err *err) {
    const uint8_t *at = bytes;
    size_t header_size = 0;
    if (split(what, at, size, &header_size, err) != 0)
        return -1;
    struct safetensors file = {.data = at + SIZE_BYTES + header_size, .data_size = size - SIZE_BYTES - header_size};
    file.header = parse_header(what, at + SIZE_BYTES, header_size, err);
    if (file.header == NULL)
        return -1;
    struct range *ranges = calloc(json_object_size(file.header) + 1, sizeof *ranges);
    int rc = ranges == NULL ? err_set(err, ERR_MEMORY, "out of memory while reading %s", what)
                            : check_header(what, &file, ranges, err);
    free(ranges);
    if (rc != 0) {
        safetensors_done(&file);
        return -1;
    }
    *ret_file = file;
    return 0;
}

static int check_digest(const char *what, const struct safetensors *file, struct err *err) {
    const char *wanted = json_string_value(json_object_get(file->metadata, digest_key));
    char sha256[65];
    if (wanted == NULL)
        return err_set(err, ERR_DATA, "%s: __metadata__ has no \"%s\" of the data; an older program wrote it, or another one",
                       what, digest_key);
    sha256_hex(file->data, file->data_size, sha256);
    if (strcmp(wanted, sha256) != 0)
        return err_set(err, ERR_DATA, "%s: the SHA-256 of its data is %s where __metadata__ says \"%.64s\": it is damaged", what,
                       sha256, wanted);
    return 0;
}

int safetensors_open(const char *path, const char *what, size_t size_max, struct safetensors *ret_file, struct err *err) {
    size_t size;
    char *bytes;
    if (file_read(path, size_max, &bytes, &size, err) != 0)
        return -1;
    struct safetensors file;
    if (safetensors_parse(what, bytes, size, &file, err) != 0) {
        free(bytes);
        return -1;
    }
    file.bytes = bytes;
    if (check_digest(what, &file, err) != 0) {
        safetensors_done(&file);
        return -1;
    }
    *ret_file = file;
    return 0;
}

void safetensors_done(struct safetensors *file) {
    json_decref(file->header);
    free(file->bytes);
    *file = (struct safetensors){0};
}

static const char *dtype_of(const json_t *tensor) {
    return json_string_value(json_object_get(tensor, "dtype"));
}

static bool has_shape(const json_t *shape, const struct safetensors_entry *entry) {
    if (json_array_size(shape) != (size_t)entry->dims)
        return false;
    for (int d = 0; d < entry->dims; d++)
        if (json_integer_value(json_array_get(shape, (size_t)d)) != entry->shape[d])
            return false;
    return true;
}

bool safetensors_has(const struct safetensors *file, const struct safetensors_entry *entry) {
    const json_t *tensor = json_object_get(file->header, entry->name);
    return tensor != NULL && tensor != file->metadata && strcmp(dtype_of(tensor), dtypes[entry->type].name) == 0 &&
           has_shape(json_object_get(tensor, "shape"), entry);
}

static int check_fit(const struct safetensors *file, const json_t *tensor, const struct safetensors_entry *entry,
                     struct err *err) {
    if (tensor == NULL || tensor == file->metadata)
        return err_set(err, ERR_DATA, "there is no tensor \"%s\"", entry->name);
    if (strcmp(dtype_of(tensor), dtypes[entry->type].name) != 0)
        return err_set(err, ERR_DATA, "tensor \"%s\" has dtype %s; %s is read", entry->name, dtype_of(tensor),
                       dtypes[entry->type].name);
    if (!has_shape(json_object_get(tensor, "shape"), entry))
        return err_set(err, ERR_DATA, "tensor \"%s\" has another shape than the model wants", entry->name);
    return 0;
}

const void *safetensors_values(const struct safetensors *file, const struct safetensors_entry *entry, struct err *err) {
    const json_t *tensor = json_object_get(file->header, entry->name);
    if (check_fit(file, tensor, entry, err) != 0)
        return NULL;
    return file->data + json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 0));
}

int safetensors_get(const struct safetensors *file, const struct safetensors_entry *entry, void *ret_values, struct err *err) {
    const void *values = safetensors_values(file, entry, err);
    if (values == NULL)
        return -1;
    memcpy(ret_values, values, entry_bytes(entry));
    return 0;
}
