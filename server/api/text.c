/* A growing text: see text.h. */
#include "server/api/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct text *text, size_t size) {
    if (text->failed)
        return false;
    if (text->room - text->size > size)
        return true;
    size_t room = text->room == 0 ? 256 : text->room;
    while (room - text->size <= size)
        room *= 2;
    char *data = realloc(text->data, room);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->room = room;
    return true;
}

void text_add(struct text *text, const void *data, size_t size) {
    if (!make_room(text, size))
        return;
    if (size > 0)
        memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
}

void text_puts(struct text *text, const char *string) {
    text_add(text, string, strlen(string));
}

void text_printf(struct text *text, const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof line)
        text->failed = true;
    else
        text_add(text, line, (size_t)size);
}

char *text_steal(struct text *text, size_t *ret_size) {
    text_add(text, "", 0);
    if (text->failed) {
        text_done(text);
        return NULL;
    }
    char *data = text->data;
    *ret_size = text->size;
    *text = (struct text){0};
    return data;
}

void text_done(struct text *text) {
    free(text->data);
    *text = (struct text){0};
}
