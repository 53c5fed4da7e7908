/* The clock that durations are measured with. */
#ifndef TRAIN_CLOCK_H
#define TRAIN_CLOCK_H

/* Seconds of the monotonic clock. */
double clock_seconds(void);

#endif
