/* Growing byte buffers: see buffer.h. */
#include "client/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_FIRST = 256 };

static enum buffer_result reserve(struct buffer *buffer, size_t size) {
    if (size < buffer->room)
        return BUFFER_OK;
    size_t room = buffer->room < BUFFER_FIRST ? BUFFER_FIRST : buffer->room;
    while (room <= size)
        room *= 2;
    char *data = realloc(buffer->data, room);
    if (data == NULL)
        return BUFFER_MEMORY;
    buffer->data = data;
    buffer->room = room;
    return BUFFER_OK;
}

enum buffer_result buffer_add(struct buffer *buffer, const char *bytes, size_t n, size_t limit) {
    if (n > limit || buffer->size > limit - n)
        return BUFFER_LIMIT;
    if (reserve(buffer, buffer->size + n) != BUFFER_OK)
        return BUFFER_MEMORY;
    if (n > 0)
        memcpy(buffer->data + buffer->size, bytes, n);
    buffer->size += n;
    buffer->data[buffer->size] = '\0';
    return BUFFER_OK;
}

void buffer_clear(struct buffer *buffer) {
    buffer->size = 0;
    if (buffer->data != NULL)
        buffer->data[0] = '\0';
}

void buffer_done(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

const char *buffer_text(const struct buffer *buffer) {
    return buffer->data == NULL ? "" : buffer->data;
}
