/* The lock of a job's directory, so that two attempts never run at once. */
#ifndef TRAIN_LOCK_H
#define TRAIN_LOCK_H

#include "common/err.h"

enum lock_result { LOCK_TAKEN, LOCK_BUSY, LOCK_STOPPED, LOCK_FAILED };

/* Takes an exclusive flock on DIR/lock, waiting at most wait_ms and giving up when asked to stop. *ret_fd holds it until closed.
 */
enum lock_result lock_take(const char *dir, int wait_ms, int *ret_fd, struct err *err);

#endif
