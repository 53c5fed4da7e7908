/* Keeps the finished epochs' events in DIR/epochs.ndjson, one a line: see private.h. The file may hold one epoch more than the
 * checkpoint, or a part of it: that is cut off before training goes on. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "server/train/private.h"

static const char file_name[] = "epochs.ndjson", initial_name[] = "initial-epochs.ndjson";

static int history_path(const char *dir, const char *name, char ret_path[PATH_MAX], struct err *err) {
    if (snprintf(ret_path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return err_set(err, ERR_IO, "the path of the job's directory is longer than %d bytes", PATH_MAX - 1);
    return 0;
}

static enum err_code io_code(int errno_value) {
    return errno_value == ENOSPC || errno_value == EDQUOT ? ERR_FULL : ERR_IO;
}

static int write_synced(int fd, const char *text, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        }
    }
    return fsync(fd);
}

static int append_text(const char *dir, char *text, struct err *err) {
    char path[PATH_MAX];
    if (history_path(dir, file_name, path, err) != 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, io_code(errno), errno, "cannot open %s", path);
    size_t size = strlen(text);
    text[size] = '\n'; /* in the place of the NUL */
    int rc = write_synced(fd, text, size + 1), saved = errno;
    close(fd);
    return rc == 0 ? 0 : err_errno(err, io_code(saved), saved, "cannot write %s", path);
}

int history_append(const char *dir, const json_t *epoch, struct err *err) {
    char *text = json_text(epoch);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while storing an epoch");
    int rc = append_text(dir, text, err);
    free(text);
    return rc;
}

/* Returns the next line as the given epoch, NULL when it is missing, cut or something else. */
static json_t *read_epoch(FILE *file, char **line, size_t *capacity, int epoch) {
    ssize_t size = getline(line, capacity, file);
    if (size <= 1 || size > EVENT_LINE_MAX || (*line)[size - 1] != '\n')
        return NULL;
    json_t *value = json_parse(*line, (size_t)size - 1, NULL);
    if (value != NULL && json_integer_value(json_object_get(value, "epoch")) == epoch)
        return value;
    json_decref(value);
    return NULL;
}

typedef int epoch_fn(void *arg, int epoch, json_t *value, struct err *err); /* takes the reference */

/* Reads the first n epochs, or all when n is negative. Returns 0, 1 when there are fewer, or -1. *ret_end is the place behind. */
static int read_epochs(FILE *file, int n, epoch_fn *fn, void *arg, long *ret_end, struct err *err) {
    char *line = NULL;
    size_t capacity = 0;
    int rc = 0;
    for (int epoch = 1; rc == 0 && (n < 0 || epoch <= n); epoch++) {
        json_t *value = read_epoch(file, &line, &capacity, epoch);
        if (value == NULL && n < 0)
            break;
        rc = value == NULL ? 1 : fn(arg, epoch, value, err);
    }
    *ret_end = ftell(file);
    free(line);
    return rc;
}

static int drop(void *arg, int epoch, json_t *value, struct err *err) {
    (void)arg, (void)epoch, (void)err;
    json_decref(value);
    return 0;
}

/* Where the first n epochs end in a file. Returns 0, 1 when it does not hold them, or -1. */
static int find_end(const char *path, int n, long *ret_end, struct err *err) {
    FILE *file = fopen(path, "re");
    *ret_end = 0;
    if (file == NULL)
        return errno == ENOENT ? n > 0 : err_errno(err, ERR_IO, errno, "cannot open %s", path);
    int rc = read_epochs(file, n, drop, NULL, ret_end, err);
    fclose(file);
    return rc;
}

/* A new file takes the place of the old one, which another job may share by a link to go on from. */
static int write_first(const char *dir, const char *path, long size, struct err *err) {
    char *text = NULL;
    size_t whole = 0;
    if (size > 0 && file_read(path, SIZE_MAX, &text, &whole, err) != 0)
        return -1;
    struct iovec part = {text, (size_t)size};
    int rc = file_write(dir, file_name, &part, 1, err);
    free(text);
    return rc;
}

/* Makes the first n epochs of DIR/NAME the whole history. Returns 0, 1 when it does not hold them, or -1. */
static int keep_first(const char *dir, const char *name, int n, struct err *err) {
    char path[PATH_MAX];
    long end;
    if (history_path(dir, name, path, err) != 0)
        return -1;
    int rc = find_end(path, n, &end, err);
    return rc == 0 ? write_first(dir, path, end, err) : rc;
}

int history_cut(const char *dir, int n, struct err *err) {
    return keep_first(dir, file_name, n, err);
}

int history_import(const char *dir, int n, struct err *err) {
    int rc = keep_first(dir, initial_name, n, err);
    return rc > 0 ? err_set(err, ERR_DATA, "%s does not hold the %d epochs of the source", initial_name, n) : rc;
}

struct sending {
    int known;
    struct emit *emit;
};

static int send_new(void *arg, int epoch, json_t *value, struct err *err) {
    const struct sending *sending = arg;
    if (epoch > sending->known)
        return emit_event(sending->emit, EVENT_EPOCH, value, err);
    json_decref(value);
    return 0;
}

int history_send(const char *dir, int known, struct emit *emit, struct err *err) {
    char path[PATH_MAX];
    if (history_path(dir, file_name, path, err) != 0)
        return -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? 0 : err_errno(err, ERR_IO, errno, "cannot open %s", path);
    struct sending sending = {known, emit};
    long end;
    int rc = read_epochs(file, -1, send_new, &sending, &end, err);
    fclose(file);
    return rc;
}
