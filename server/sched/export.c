/* Files that a short worker writes for one answer: in DIR/exports, gone as soon as they are open. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "server/sched/private.h"

static int path_of(const struct sched *sched, const char *name, char ret_path[PATH_MAX], struct err *err) {
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/exports%s%s", sched->data_dir, name[0] != '\0' ? "/" : "", name) >= PATH_MAX)
        return err_set(err, ERR_IO, "the path of an exported file is longer than %d bytes", PATH_MAX);
    return 0;
}

void exports_clear(const struct sched *sched) {
    char path[PATH_MAX];
    struct err why = {0};
    if (path_of(sched, "", path, &why) == 0 && access(path, F_OK) == 0 && file_remove_tree(path, &why) != 0)
        log_line("warning", "exports-kept", "reason", why.text, (char *)NULL);
}

int sched_export_path(const struct sched *sched, const char *name, char ret_path[PATH_MAX], struct err *err) {
    char dir[PATH_MAX];
    if (path_of(sched, "", dir, err) != 0 || file_mkdirs(dir, err) != 0)
        return -1;
    return path_of(sched, name, ret_path, err);
}

int sched_export_open(const struct sched *sched, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err) {
    char path[PATH_MAX];
    struct stat st;
    if (path_of(sched, name, path, err) != 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, ERR_IO, errno, "cannot open what a worker exported, %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_IO, "what a worker exported, %s, is not a regular file", path);
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

void sched_export_drop(const struct sched *sched, const char *name) {
    char path[PATH_MAX];
    struct err why = {0};
    if (path_of(sched, name, path, &why) == 0)
        unlink(path);
}
