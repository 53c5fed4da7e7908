/* Reads the monotonic clock: see clock.h. */
#include "server/train/clock.h"

#include <stdlib.h>
#include <time.h>

double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double clock_duration(const char *variable, double seconds) {
    const char *text = getenv(variable);
    long ms = text != NULL ? strtol(text, NULL, 10) : 0;
    return ms > 0 ? (double)ms / 1000 : seconds;
}
