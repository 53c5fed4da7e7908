/* When to stop: end of file on standard input, SIGTERM or SIGINT. Asked between steps. */
#ifndef TRAIN_STOP_H
#define TRAIN_STOP_H

#include <stdbool.h>

/* Installs the signal handlers; a broken pipe becomes an error of write. */
void stop_init(void);

/* Whether to stop. Waits for a reason at most wait_ms milliseconds (0: only looks). */
bool stop_asked(int wait_ms);

#endif
