/* Writes log lines: see say.h. */
#include "server/train/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void say(const char *format, ...) {
    char text[1024], clock[16];
    struct tm tm;
    time_t now = time(NULL);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    strftime(clock, sizeof clock, "%H:%M:%S", gmtime_r(&now, &tm));
    fprintf(stderr, "%s %s\n", clock, text);
}
