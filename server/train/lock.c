/* Locks a job's directory: see lock.h. */
#include "server/train/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "server/train/stop.h"

/* The kernel can queue for a flock only by blocking; a stop must get through, so it is asked again and again. */
static enum lock_result wait_for(int fd, int wait_ms, struct err *err) {
    enum { STEP_MS = 50 };
    for (int waited_ms = 0;; waited_ms += STEP_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return LOCK_TAKEN;
        if (errno != EWOULDBLOCK && errno != EINTR) {
            err_errno(err, ERR_IO, errno, "cannot lock the job's directory");
            return LOCK_FAILED;
        }
        if (waited_ms >= wait_ms)
            return LOCK_BUSY;
        if (stop_asked(STEP_MS))
            return LOCK_STOPPED;
    }
}

enum lock_result lock_take(const char *dir, int wait_ms, int *ret_fd, struct err *err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int)sizeof path) {
        err_set(err, ERR_IO, "the path of the job's directory is longer than %zu bytes", sizeof path - 1);
        return LOCK_FAILED;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err_errno(err, ERR_IO, errno, "cannot open %s", path);
        return LOCK_FAILED;
    }
    enum lock_result result = wait_for(fd, wait_ms, err);
    if (result == LOCK_TAKEN)
        *ret_fd = fd;
    else
        close(fd);
    return result;
}
