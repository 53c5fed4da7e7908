/* Log lines in logfmt: see log.h. */
#include "common/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/loop.h"

enum { LINE_MAX_BYTES = 2048, ROOM_FOR_ESCAPE = 8 };

struct line {
    char text[LINE_MAX_BYTES];
    size_t used;
};

static void put(struct line *line, const char *text, size_t size) {
    size_t room = sizeof line->text - ROOM_FOR_ESCAPE - line->used;
    if (size > room)
        size = room;
    memcpy(line->text + line->used, text, size);
    line->used += size;
}

static bool plain(const char *value) {
    for (const char *c = value; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || *c == 0x7f)
            return false;
    }
    return *value != '\0';
}

static void put_char(struct line *line, char c) {
    char escaped[ROOM_FOR_ESCAPE];
    int n = 1;
    escaped[0] = c;
    if (c == '"' || c == '\\')
        n = snprintf(escaped, sizeof escaped, "\\%c", c);
    else if (c == '\n')
        n = snprintf(escaped, sizeof escaped, "\\n");
    else if ((unsigned char)c < ' ' || c == 0x7f)
        n = snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned char)c);
    put(line, escaped, (size_t)n);
}

static void put_pair(struct line *line, const char *key, const char *value) {
    put(line, " ", 1);
    put(line, key, strlen(key));
    put(line, "=", 1);
    if (plain(value)) {
        put(line, value, strlen(value));
        return;
    }
    put(line, "\"", 1);
    for (const char *c = value; *c != '\0'; c++)
        put_char(line, *c);
    put(line, "\"", 1);
}

void log_time(long long unix_us, char ret_text[LOG_TIME_SIZE]) {
    time_t seconds = (time_t)(unix_us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret_text, LOG_TIME_SIZE, "%s.%06dZ", day, (int)(unix_us % 1000000));
}

void log_line(const char *level, const char *event, ...) {
    struct line line = {.used = 0};
    char now[LOG_TIME_SIZE];
    log_time(clock_unix_us(), now);
    put(&line, "ts=", 3);
    put(&line, now, strlen(now));
    put_pair(&line, "level", level);
    put_pair(&line, "event", event);
    va_list pairs;
    va_start(pairs, event);
    for (const char *key = va_arg(pairs, const char *); key != NULL; key = va_arg(pairs, const char *)) {
        const char *value = va_arg(pairs, const char *);
        if (value != NULL)
            put_pair(&line, key, value);
    }
    va_end(pairs);
    line.text[line.used++] = '\n';
    /* One write, so that lines of several processes do not mix; a log that cannot be written must not stop the program. */
    if (write(STDERR_FILENO, line.text, line.used) < 0)
        return;
}
