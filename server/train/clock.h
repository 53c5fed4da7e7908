/* The clock that durations are measured with, and durations that tests may shorten. */
#ifndef TRAIN_CLOCK_H
#define TRAIN_CLOCK_H

/* Seconds of the monotonic clock. */
double clock_seconds(void);

/* A duration in seconds, or instead of it the milliseconds that an environment variable holds. */
double clock_duration(const char *variable, double seconds);

#endif
