/* The job's log: lines for people on standard error. */
#ifndef TRAIN_SAY_H
#define TRAIN_SAY_H

/* One line with the time of day (UTC) before it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
