/* What archives and directories have in common: see source.h. */
#include "server/train/import/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/train/import/names.h"

static int open_kind(int fd, const struct stat *st, struct source *source, struct err *err) {
    if (S_ISDIR(st->st_mode)) {
        source->kind = &folder_kind;
        return folder_open(fd, source->guard, &source->self, err);
    }
    source->guard->progress.total_bytes = (uint64_t)st->st_size;
    source->kind = &archive_kind;
    return archive_open(fd, source->guard, &source->self, err);
}

int source_open(const char *path, struct guard *guard, struct source *ret_source, struct err *err) {
    struct stat st;
    struct source source = {.guard = guard};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_DATA, "%s is neither a file nor a directory", path);
    }
    if (open_kind(fd, &st, &source, err) != 0)
        return -1;
    *ret_source = source;
    return 0;
}

void source_close(struct source *source) {
    if (source->kind != NULL)
        source->kind->close(source->self);
    *source = (struct source){0};
}

static int read_raw(struct source *source, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    size_t got = 0, n;
    do {
        if (source->kind->read(source->self, to + got, size - got, &n, err) != 0 || guard_bytes(source->guard, n, err) != 0)
            return -1;
        got += n;
    } while (n > 0 && got < size);
    *ret_n = got;
    return 0;
}

int source_read(struct source *source, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    size_t kept = source->head_n - source->head_at, first = kept < size ? kept : size, rest = 0;
    memcpy(to, source->head + source->head_at, first);
    source->head_at += first;
    if (first < size && source->head_n == SOURCE_HEAD && read_raw(source, to + first, size - first, &rest, err) != 0)
        return -1;
    *ret_n = first + rest;
    return 0;
}

/* What is left of an entry is read, not skipped, so that it is counted, too. */
static int drain(struct source *source, struct err *err) {
    uint8_t bytes[1 << 14];
    size_t n = sizeof bytes;
    while (source->name != NULL && n == sizeof bytes)
        if (source_read(source, bytes, sizeof bytes, &n, err) != 0)
            return -1;
    return 0;
}

int source_next(struct source *source, struct err *err) {
    if (drain(source, err) != 0 || source->kind->next(source->self, &source->name, err) != 0)
        return -1;
    source->head_n = source->head_at = 0;
    if (source->name == NULL)
        return 0;
    if (name_check(source->name, err) != 0)
        return -1;
    return read_raw(source, source->head, sizeof source->head, &source->head_n, err);
}
