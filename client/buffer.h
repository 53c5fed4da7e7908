/* A byte buffer that grows up to a limit; always ends in a NUL that is not counted. */
#ifndef CLIENT_BUFFER_H
#define CLIENT_BUFFER_H

#include <stddef.h>

/* Zeroed memory is an empty buffer. */
struct buffer {
    char *data; /* NULL while nothing was ever added */
    size_t size, room;
};

enum buffer_result { BUFFER_OK = 0, BUFFER_MEMORY = -1, BUFFER_LIMIT = -2 };

/* Appends n bytes. BUFFER_LIMIT when the buffer would hold more than limit bytes; on failure it is unchanged. */
enum buffer_result buffer_add(struct buffer *buffer, const char *bytes, size_t n, size_t limit);

/* Forgets the content, keeps the memory. */
void buffer_clear(struct buffer *buffer);

void buffer_done(struct buffer *buffer);

/* The content as a string: "" for an empty buffer. Borrowed. */
const char *buffer_text(const struct buffer *buffer);

#endif
