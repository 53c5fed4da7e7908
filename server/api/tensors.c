/* Reading safetensors files a slice at a time: see tensors.h. Nothing in such a file is believed before it was checked. */
#include "server/api/tensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"

enum { HEADER_MAX = 64 * 1024, VALUE_BYTES = 4 };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they lie in the file");

static int read_at(int fd, uint64_t offset, void *data, size_t size, struct err *err) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = pread(fd, (char *)data + got, size - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, ERR_IO, errno, "cannot read a tensor file");
        if (n == 0)
            return err_set(err, ERR_DATA, "a tensor file is cut short");
        got += (size_t)n;
    }
    return 0;
}

int tensors_init(int fd, uint64_t size, struct tensors *ret_tensors, struct err *err) {
    uint64_t header_size = 0;
    if (size < sizeof header_size)
        return err_set(err, ERR_DATA, "a tensor file is too short");
    if (read_at(fd, 0, &header_size, sizeof header_size, err) != 0)
        return -1;
    if (header_size > HEADER_MAX || header_size > size - sizeof header_size)
        return err_set(err, ERR_DATA, "a tensor file's header has %llu bytes", (unsigned long long)header_size);
    char *text = malloc((size_t)header_size + 1);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while reading a tensor file");
    struct err why = {0};
    json_t *header = NULL;
    if (read_at(fd, sizeof header_size, text, (size_t)header_size, &why) == 0)
        header = json_parse(text, (size_t)header_size, &why);
    free(text);
    if (!json_is_object(header)) {
        json_decref(header);
        return err_set(err, why.code == ERR_IO ? ERR_IO : ERR_DATA, "a tensor file's header cannot be read: %.300s", why.text);
    }
    *ret_tensors = (struct tensors){.fd = fd, .size = size, .data = sizeof header_size + header_size, .header = header};
    return 0;
}

void tensors_done(struct tensors *tensors) {
    json_decref(tensors->header);
    tensors->header = NULL;
}

/* The shape, and the bytes that it needs; 0 when it is none. */
static uint64_t read_shape(const json_t *shape, int dims, struct tensor *tensor) {
    enum { SIDE_MAX = 1 << 30 };
    uint64_t bytes = VALUE_BYTES;
    if ((int)json_array_size(shape) != dims || dims > TENSOR_DIMS_MAX)
        return 0;
    for (int i = 0; i < dims; i++) {
        json_int_t side = json_integer_value(json_array_get(shape, (size_t)i));
        if (side < 1 || side > SIDE_MAX || __builtin_mul_overflow(bytes, (uint64_t)side, &bytes))
            return 0;
        tensor->shape[i] = side;
    }
    tensor->dims = dims;
    return bytes;
}

int tensors_find(const struct tensors *tensors, const char *name, const char *dtype, int dims, struct tensor *ret_tensor,
                 struct err *err) {
    const json_t *entry = json_object_get(tensors->header, name), *offsets = json_object_get(entry, "data_offsets");
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    struct tensor tensor = {0};
    if (type == NULL || strcmp(type, dtype) != 0)
        return err_set(err, ERR_DATA, "a tensor file lacks \"%s\" of type %s", name, dtype);
    json_int_t begin = json_integer_value(json_array_get(offsets, 0)), end = json_integer_value(json_array_get(offsets, 1));
    tensor.bytes = read_shape(json_object_get(entry, "shape"), dims, &tensor);
    if (tensor.bytes == 0 || begin < 0 || end < begin || (uint64_t)(end - begin) != tensor.bytes ||
        (uint64_t)end > tensors->size - tensors->data)
        return err_set(err, ERR_DATA, "\"%s\" of a tensor file has an impossible shape or place", name);
    tensor.offset = tensors->data + (uint64_t)begin;
    *ret_tensor = tensor;
    return 0;
}

int tensors_read(const struct tensors *tensors, const struct tensor *tensor, int64_t first, int64_t count, void *values,
                 struct err *err) {
    return read_at(tensors->fd, tensor->offset + (uint64_t)first * VALUE_BYTES, values, (size_t)count * VALUE_BYTES, err);
}
