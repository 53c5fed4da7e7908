/* A growing text: what answers and pages of events are written into. */
#ifndef API_TEXT_H
#define API_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed memory is an empty text. After a failed allocation the text stays failed and takes nothing more, so that a writer checks
 * once, at the end. */
struct text {
    char *data;
    size_t size, room;
    bool failed;
};

void text_add(struct text *text, const void *data, size_t size);
void text_puts(struct text *text, const char *string);
void text_printf(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Hands the bytes over (at least one byte is allocated) and leaves the text empty; NULL when it failed. */
char *text_steal(struct text *text, size_t *ret_size);
void text_done(struct text *text);

#endif
