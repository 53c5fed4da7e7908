/* Files that are there whole or not at all: see file.h. */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS_AT_ONCE = 256 };

static int join(char *ret_path, size_t size, const char *dir, const char *name, const char *suffix, struct err *err) {
    int n = snprintf(ret_path, size, "%s/%s%s", dir, name, suffix);
    if (n < 0 || (size_t)n >= size)
        return err_set(err, ERR_IO, "the path %s/%s%s is longer than %zu bytes", dir, name, suffix, size - 1);
    return 0;
}

/* Writes what is left of the first of n parts, from at on, and as many of the others as one call takes. */
static ssize_t write_some(int fd, const struct iovec *parts, int n, size_t at) {
    struct iovec now[PARTS_AT_ONCE];
    int taken = n < PARTS_AT_ONCE ? n : PARTS_AT_ONCE;
    memcpy(now, parts, (size_t)taken * sizeof *now);
    now[0].iov_base = (char *)now[0].iov_base + at;
    now[0].iov_len -= at;
    return writev(fd, now, taken);
}

static int write_all(int fd, const struct iovec *parts, int n) {
    for (size_t at = 0; n > 0;) {
        ssize_t written = write_some(fd, parts, n, at);
        if (written < 0 && errno != EINTR)
            return -1;
        for (at += written > 0 ? (size_t)written : 0; n > 0 && at >= parts->iov_len; parts++, n--)
            at -= parts->iov_len;
    }
    return 0;
}

/* A full disk is told apart: the caller may wait for space, anything else is a broken disk. */
static enum err_code io_code(int errno_value) {
    return errno_value == ENOSPC || errno_value == EDQUOT ? ERR_FULL : ERR_IO;
}

static int write_aside(const char *path, const struct iovec *parts, int parts_n, struct err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, io_code(errno), errno, "cannot create %s", path);
    int rc = write_all(fd, parts, parts_n);
    if (rc == 0)
        rc = fsync(fd);
    int saved = errno;
    if (close(fd) != 0 && rc == 0) {
        rc = -1;
        saved = errno;
    }
    if (rc != 0)
        return err_errno(err, io_code(saved), saved, "cannot write %s", path);
    return 0;
}

int file_sync_dir(const char *dir, struct err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, ERR_IO, errno, "cannot open the directory %s", dir);
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    return rc == 0 ? 0 : err_errno(err, io_code(saved), saved, "cannot sync the directory %s", dir);
}

int file_write(const char *dir, const char *name, const struct iovec *parts, int parts_n, struct err *err) {
    char aside[PATH_MAX], final[PATH_MAX];
    if (join(aside, sizeof aside, dir, name, ".part", err) != 0 || join(final, sizeof final, dir, name, "", err) != 0)
        return -1;
    if (write_aside(aside, parts, parts_n, err) != 0) {
        unlink(aside);
        return -1;
    }
    if (rename(aside, final) != 0)
        return err_errno(err, ERR_IO, errno, "cannot rename %s to %s", aside, final);
    return file_sync_dir(dir, err);
}

static int read_open(const char *path, int fd, size_t limit, char **ret_data, size_t *ret_size, struct err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(err, ERR_IO, errno, "cannot look at %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "%s is not a regular file", path);
    if ((uintmax_t)st.st_size > limit)
        return err_set(err, ERR_TOO_LARGE, "%s has %jd bytes; at most %zu are read", path, (intmax_t)st.st_size, limit);
    size_t size = (size_t)st.st_size, got = 0;
    char *data = malloc(size + 1);
    if (data == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while reading %s", path);
    while (got < size) {
        ssize_t n = read(fd, data + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(err, ERR_IO, errno, "cannot read %s", path);
            free(data);
            return -1;
        }
        if (n == 0)
            break; /* it was cut meanwhile: what is there counts */
        got += (size_t)n;
    }
    data[got] = '\0';
    *ret_data = data;
    *ret_size = got;
    return 0;
}

int file_read(const char *path, size_t limit, char **ret_data, size_t *ret_size, struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
    int rc = read_open(path, fd, limit, ret_data, ret_size, err);
    close(fd);
    return rc;
}

int file_mkdirs(const char *path, struct err *err) {
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof partial)
        return err_set(err, ERR_IO, "a directory path has %zu bytes; 1 to %zu are possible", length, sizeof partial - 1);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        partial[i] = '\0';
        if (mkdir(partial, 0700) != 0 && errno != EEXIST)
            return err_errno(err, io_code(errno), errno, "cannot make the directory %s", partial);
        partial[i] = path[i];
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s is there but is not a directory", path);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

int file_remove_tree(const char *path, struct err *err) {
    enum { OPEN_DIRS = 8 };
    if (nftw(path, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return err_errno(err, ERR_IO, errno, "cannot remove %s", path);
    return 0;
}

int file_exe_dir(char *ret_path, size_t size, struct err *err) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        return err_errno(err, ERR_IO, errno, "cannot read /proc/self/exe");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL || (size_t)(slash - path) >= size)
        return err_set(err, ERR_IO, "the program's path %s has no directory that fits", path);
    memcpy(ret_path, path, (size_t)(slash - path));
    ret_path[slash - path] = '\0';
    return 0;
}
