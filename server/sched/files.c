/* Files that workers leave in their jobs' directories, for those who only read them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/sched/private.h"

int file_open(const char *path, int *ret_fd, uint64_t *ret_size, struct err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_IO, "%s is not a regular file", path);
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int sched_file_open(struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err) {
    char dir[PATH_MAX], path[PATH_MAX];
    struct err why = {0};
    if (sched_job_dir(sched, id, dir, err) != 0)
        return -1;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return err_set(err, ERR_IO, "the path of a job's file is longer than %d bytes", PATH_MAX);
    if (file_open(path, ret_fd, ret_size, &why) == 0)
        return 0;
    if (why.code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "job %s has no file %s", id, name);
    return err_set(err, why.code, "%s", why.text);
}
