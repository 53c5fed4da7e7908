/* The log of a job: see joblog.h. */
#include "server/sched/joblog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/loop.h"

static int path_of(const char *dir, char ret_path[PATH_MAX], struct err *err) {
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/log.txt", dir) >= PATH_MAX)
        return err_set(err, ERR_IO, "the path of a job's log is longer than %d bytes", PATH_MAX);
    return 0;
}

int joblog_open(const char *dir, struct joblog *ret_log, struct err *err) {
    char path[PATH_MAX];
    if (path_of(dir, path, err) != 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, ERR_IO, errno, "cannot open the log %s", path);
    struct stat st = {0};
    fstat(fd, &st);
    *ret_log = (struct joblog){.fd = fd, .bytes = (size_t)st.st_size};
    return 0;
}

static void put(struct joblog *log, const char *data, size_t size) {
    if (size == 0 || log->fd < 0)
        return;
    ssize_t n = write(log->fd, data, size);
    if (n <= 0)
        return;
    log->bytes += (size_t)n;
    log->line_open = data[n - 1] != '\n';
}

void joblog_append(struct joblog *log, const char *data, size_t size) {
    if (log->bytes >= JOBLOG_MAX)
        return;
    size_t room = JOBLOG_MAX - log->bytes;
    put(log, data, size < room ? size : room);
    if (log->bytes >= JOBLOG_MAX)
        joblog_note(log, "the log is cut here: it has reached %d bytes", JOBLOG_MAX);
}

void joblog_note(struct joblog *log, const char *format, ...) {
    char line[1024], now[LOG_TIME_SIZE];
    if (log->fd < 0 || log->bytes >= JOBLOG_MAX + JOBLOG_RESERVE)
        return;
    if (log->line_open)
        put(log, "\n", 1);
    log_time(clock_unix_us(), now);
    int used = snprintf(line, sizeof line, "%s residuumd: ", now);
    va_list args;
    va_start(args, format);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, args);
    va_end(args);
    if ((size_t)used > sizeof line - 2)
        used = (int)sizeof line - 2;
    line[used] = '\n';
    put(log, line, (size_t)used + 1);
}

void joblog_close(struct joblog *log) {
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}

/* Bytes of the UTF-8 character at text (RFC 3629), 0 when there is none. */
static size_t character(const unsigned char *text, size_t size) {
    unsigned char first = text[0];
    size_t n = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : 4;
    if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool outside = (first == 0xed && text[1] > 0x9f) || (first == 0xf4 && text[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

/* Workers may print anything: what is no text becomes '?', so that the log can be shown and put into JSON. A carriage return of a
 * progress bar becomes a newline. */
static void clean(char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t n = character((const unsigned char *)text + i, size - i);
        if (text[i] == '\r')
            text[i] = '\n';
        else if (n == 0 || ((unsigned char)text[i] < ' ' && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7f)
            text[i] = '?';
        i += n > 0 ? n : 1;
    }
}

/* Reads size bytes from an offset on; what is missing meanwhile is left out. */
static int read_at(int fd, off_t offset, char *buffer, size_t *size, struct err *err) {
    size_t got = 0;
    while (got < *size) {
        ssize_t n = pread(fd, buffer + got, *size - got, offset + (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, ERR_IO, errno, "cannot read a job's log");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *size = got;
    return 0;
}

static int tail(int fd, size_t limit, char **ret_text, size_t *ret_size, struct err *err) {
    struct stat st = {0};
    fstat(fd, &st);
    size_t all = (size_t)st.st_size, size = all < limit ? all : limit;
    char *text = malloc(size + 1);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while reading a job's log");
    if (read_at(fd, (off_t)(all - size), text, &size, err) != 0) {
        free(text);
        return -1;
    }
    const char *newline = size < all ? memchr(text, '\n', size) : NULL;
    size_t skip = newline != NULL ? (size_t)(newline - text) + 1 : 0;
    memmove(text, text + skip, size - skip);
    text[size - skip] = '\0';
    clean(text, size - skip);
    *ret_text = text;
    *ret_size = size - skip;
    return 0;
}

int joblog_tail(const char *dir, size_t limit, char **ret_text, size_t *ret_size, struct err *err) {
    char path[PATH_MAX];
    if (path_of(dir, path, err) != 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return err_errno(err, ERR_IO, errno, "cannot open the log %s", path);
    if (fd < 0) {
        *ret_text = calloc(1, 1);
        *ret_size = 0;
        return *ret_text != NULL ? 0 : err_set(err, ERR_MEMORY, "out of memory while reading a job's log");
    }
    int rc = tail(fd, limit, ret_text, ret_size, err);
    close(fd);
    return rc;
}
