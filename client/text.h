/* Text that came from elsewhere, made safe for a terminal and measured in columns. UTF-8 whatever the locale says. */
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

#include <stddef.h>
#include <stdio.h>

enum text_kind {
    TEXT_LINE, /* one line: every control character is shown as an escape */
    TEXT_LINES /* newline and tab pass */
};

/* Writes text with everything that could steer a terminal or mislead the reader shown as an escape ("\x1b", "\u202e"): control
 * characters C0, DEL and C1, bidirectional and invisible formatting. Bytes that are not UTF-8 become U+FFFD. */
void text_put(FILE *file, const char *text, size_t size, enum text_kind kind);

/* The same as a new string; caller frees. NULL when out of memory. */
char *text_clean(const char *text, enum text_kind kind);

/* Writes JSON text as it is, but with every character beyond ASCII as \uXXXX: the same document, safe on a terminal. */
void text_put_json(FILE *file, const char *json, size_t size);

/* Columns that clean UTF-8 text takes: combining marks none, wide East Asian characters and emoji two. */
int text_width(const char *text);

/* Writes clean text in exactly width columns: padded on the right, or cut with "..." as one character (U+2026). */
void text_put_fit(FILE *file, const char *text, int width);

#endif
