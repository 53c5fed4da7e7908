/* Safe and measured text: see text.h. */
#include "client/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct range {
    uint32_t first, last;
};

/* Unicode's bidirectional controls, line separators, zero-width and other invisible formatting characters. */
static const struct range steering[] = {{0x061C, 0x061C}, {0x180E, 0x180E}, {0x200B, 0x200F}, {0x2028, 0x202E},
                                        {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE0FFF}};

/* The blocks of combining marks in common scripts, and variation selectors. */
static const struct range no_width[] = {{0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x0610, 0x061A},
                                        {0x064B, 0x065F}, {0x0E31, 0x0E31}, {0x0E34, 0x0E3A}, {0x1AB0, 0x1AFF},
                                        {0x1DC0, 0x1DFF}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}};

/* East Asian wide and full-width blocks (Unicode Annex 11), and pictographs. */
static const struct range two_wide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xAC00, 0xD7A3},
                                        {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
                                        {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};

#define IN(table, code) in_ranges(table, sizeof table / sizeof table[0], code)

static bool in_ranges(const struct range *ranges, size_t n, uint32_t code) {
    for (size_t i = 0; i < n; i++)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    return false;
}

/* Bytes a UTF-8 sequence takes by its first byte; 0 when none begins so (RFC 3629). */
static size_t sequence_length(unsigned char first) {
    if (first < 0x80)
        return 1;
    if (first >= 0xC2 && first <= 0xDF)
        return 2;
    if (first >= 0xE0 && first <= 0xEF)
        return 3;
    return first >= 0xF0 && first <= 0xF4 ? 4 : 0;
}

/* Reads one character of at most n > 0 bytes. Returns its length, or 0 when the bytes are not UTF-8. */
static size_t decode(const char *text, size_t n, uint32_t *ret_code) {
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = sequence_length((unsigned char)text[0]);
    if (length == 0 || length > n)
        return 0;
    uint32_t code = (unsigned char)text[0] & mask[length];
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | ((unsigned char)text[i] & 0x3F);
    }
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *ret_code = code;
    return length;
}

static bool is_control(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0);
}

void text_put(FILE *file, const char *text, size_t size, enum text_kind kind) {
    for (size_t i = 0; i < size;) {
        uint32_t code = 0;
        size_t length = decode(text + i, size - i, &code);
        if (length == 0)
            fputs("\xEF\xBF\xBD", file);
        else if (kind == TEXT_LINES && (code == '\n' || code == '\t'))
            putc((int)code, file);
        else if (is_control(code))
            fprintf(file, "\\x%02x", (unsigned)code);
        else if (IN(steering, code))
            fprintf(file, "\\u%04x", (unsigned)code);
        else
            fwrite(text + i, 1, length, file);
        i += length == 0 ? 1 : length;
    }
}

char *text_clean(const char *text, enum text_kind kind) {
    char *clean = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&clean, &size);
    if (file == NULL)
        return NULL;
    text_put(file, text, strlen(text), kind);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        free(clean);
        return NULL;
    }
    return clean;
}

void text_put_json(FILE *file, const char *json, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t code = 0;
        size_t length = decode(json + i, size - i, &code);
        if (length == 0)
            fputs("\\ufffd", file);
        else if (code > 0xFFFF) /* a surrogate pair, RFC 8259 section 7 */
            fprintf(file, "\\u%04x\\u%04x", 0xD800 + (unsigned)((code - 0x10000) >> 10),
                    0xDC00 + (unsigned)((code - 0x10000) & 0x3FF));
        else if (code >= 0x7F)
            fprintf(file, "\\u%04x", (unsigned)code);
        else
            putc((int)code, file);
        i += length == 0 ? 1 : length;
    }
}

static int code_width(uint32_t code) {
    if (IN(no_width, code))
        return 0;
    return IN(two_wide, code) ? 2 : 1;
}

/* Bytes of text that fit into width columns; *ret_used is what they take. */
static size_t fitting(const char *text, int width, int *ret_used) {
    size_t size = strlen(text), i = 0;
    int used = 0;
    while (i < size) {
        uint32_t code = 0xFFFD;
        size_t length = decode(text + i, size - i, &code);
        if (used + code_width(code) > width)
            break;
        used += code_width(code);
        i += length == 0 ? 1 : length;
    }
    *ret_used = used;
    return i;
}

int text_width(const char *text) {
    int used = 0;
    fitting(text, INT32_MAX - 2, &used);
    return used;
}

void text_put_fit(FILE *file, const char *text, int width) {
    int used = 0;
    size_t bytes = fitting(text, width, &used);
    if (text[bytes] != '\0' && width > 0) {
        bytes = fitting(text, width - 1, &used);
        fwrite(text, 1, bytes, file);
        fputs("\xE2\x80\xA6", file);
        used++;
    } else {
        fwrite(text, 1, bytes, file);
    }
    fprintf(file, "%*s", width - used, "");
}
