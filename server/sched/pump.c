/* Pipe reader: see pump.h. The buffer grows to the longest line seen and is given back when nothing is pending. */
#include "server/sched/pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* PER_TURN keeps one talkative child from holding up the loop; DRAIN_MAX is well over what a pipe can hold. */
enum { CHUNK = 16384, PER_TURN = 16 * CHUNK, DRAIN_MAX = 4 << 20 };

struct pump {
    struct pump_options options;
    struct loop_fd *watch; /* NULL: at the end */
    char *buffer;
    size_t used, size;
    bool ended;
};

static void end(struct pump *pump) {
    loop_fd_remove(pump->watch);
    pump->watch = NULL;
    pump->ended = true;
}

static void forget(struct pump *pump, size_t bytes) {
    pump->used -= bytes;
    if (pump->used > 0) {
        memmove(pump->buffer, pump->buffer + bytes, pump->used);
        return;
    }
    free(pump->buffer);
    pump->buffer = NULL;
    pump->size = 0;
}

/* Hands over the whole lines of the buffer; the first `seen` bytes hold no newline. */
static void hand_over(struct pump *pump, size_t seen) {
    size_t start = 0;
    const char *newline;
    while (!pump->ended && (newline = memchr(pump->buffer + seen, '\n', pump->used - seen)) != NULL) {
        size_t at = (size_t)(newline - pump->buffer);
        if (at + 1 - start > pump->options.line_max) {
            pump->options.oversize(pump->options.arg);
            end(pump);
        } else if (pump->options.fn(pump->options.arg, pump->buffer + start, at - start) != 0) {
            end(pump);
        }
        start = seen = at + 1;
    }
    if (!pump->ended && pump->used - start >= pump->options.line_max) {
        pump->options.oversize(pump->options.arg);
        end(pump);
    }
    if (start > 0)
        forget(pump, start);
}

static int take(struct pump *pump, const char *data, size_t bytes) {
    if (pump->options.line_max == 0) {
        if (pump->options.fn(pump->options.arg, data, bytes) != 0)
            end(pump);
        return 0;
    }
    if (pump->used + bytes > pump->size) {
        size_t size = (pump->used + bytes) * 2;
        char *larger = realloc(pump->buffer, size);
        if (larger == NULL)
            return -1;
        pump->buffer = larger;
        pump->size = size;
    }
    memcpy(pump->buffer + pump->used, data, bytes);
    size_t seen = pump->used;
    pump->used += bytes;
    hand_over(pump, seen);
    return 0;
}

static void read_some(struct pump *pump, size_t limit) {
    char chunk[CHUNK];
    for (size_t total = 0; total < limit && !pump->ended;) {
        ssize_t n = read(pump->options.fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) { /* the end, or a pipe that cannot be read: the child's end will tell */
            end(pump);
            return;
        }
        if (take(pump, chunk, (size_t)n) != 0) { /* out of memory: this line is lost, which its successor's seq will show */
            forget(pump, pump->used);
            return;
        }
        total += (size_t)n;
    }
}

static void readable(void *arg, uint32_t epoll_events) {
    (void)epoll_events;
    read_some(arg, PER_TURN);
}

struct pump *pump_new(const struct pump_options *options, struct err *err) {
    struct pump *pump = calloc(1, sizeof *pump);
    if (pump == NULL) {
        err_set(err, ERR_MEMORY, "out of memory while starting to read a worker's output");
        return NULL;
    }
    pump->options = *options;
    pump->watch = loop_fd_add(options->loop, options->fd, EPOLLIN, readable, pump, err);
    if (pump->watch == NULL) {
        free(pump);
        return NULL;
    }
    return pump;
}

void pump_drain(struct pump *pump) {
    read_some(pump, DRAIN_MAX);
}

bool pump_is_cut(const struct pump *pump) {
    return pump->used > 0;
}

void pump_free(struct pump *pump) {
    if (pump == NULL)
        return;
    loop_fd_remove(pump->watch);
    free(pump->buffer);
    free(pump);
}
