/* The event loop: see loop.h. Removed watches and timers keep their memory until the turn ends, so that a callback may remove any
 * of them, its own included. */
#include "common/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 64, HOOKS_MAX = 8 };

struct loop_fd {
    struct loop *loop;
    struct loop_fd *next; /* of the removed ones */
    int fd;
    bool removed;
    loop_fd_fn *fn;
    void *arg;
};

struct loop_timer {
    struct loop *loop;
    struct loop_timer *next;
    bool armed, removed;
    int64_t due_us;
    loop_fn *fn;
    void *arg;
};

struct hook {
    loop_fn *fn;
    void *arg;
};

struct timeout_hook {
    loop_timeout_fn *fn;
    void *arg;
};

struct loop {
    int epoll_fd, signal_fd;
    struct loop_fd *signal_watch;
    struct loop_fd *removed_watches;
    struct loop_timer *timers;
    struct timeout_hook timeouts[HOOKS_MAX];
    struct hook turn_ends[HOOKS_MAX];
    int timeouts_n, turn_ends_n;
    bool again, stopped, timers_removed;
    loop_signal_fn *signal_fn;
    void *signal_arg;
};

static int64_t clock_us(clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_ms(void) {
    return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_unix_us(void) {
    return clock_us(CLOCK_REALTIME);
}

struct loop *loop_new(struct err *err) {
    struct loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        err_set(err, ERR_MEMORY, "out of memory while making an event loop");
        return NULL;
    }
    loop->signal_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        err_errno(err, ERR_INTERNAL, errno, "cannot make an epoll descriptor");
        free(loop);
        return NULL;
    }
    return loop;
}

/* --- descriptors --- */

struct loop_fd *loop_fd_add(struct loop *loop, int fd, uint32_t epoll_events, loop_fd_fn *fn, void *arg, struct err *err) {
    struct loop_fd *watch = malloc(sizeof *watch);
    if (watch == NULL) {
        err_set(err, ERR_MEMORY, "out of memory while watching descriptor %d", fd);
        return NULL;
    }
    *watch = (struct loop_fd){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
    struct epoll_event event = {.events = epoll_events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        err_errno(err, ERR_INTERNAL, errno, "cannot watch descriptor %d", fd);
        free(watch);
        return NULL;
    }
    return watch;
}

int loop_fd_change(struct loop_fd *watch, uint32_t epoll_events, struct err *err) {
    struct epoll_event event = {.events = epoll_events, .data.ptr = watch};
    if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot change the watch on descriptor %d", watch->fd);
    return 0;
}

void loop_fd_remove(struct loop_fd *watch) {
    if (watch == NULL || watch->removed)
        return;
    epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL); /* fails when the caller closed it before: as good */
    watch->removed = true;
    watch->next = watch->loop->removed_watches;
    watch->loop->removed_watches = watch;
}

/* --- timers: few, so a list that is walked each turn --- */

struct loop_timer *loop_timer_add(struct loop *loop, loop_fn *fn, void *arg, struct err *err) {
    struct loop_timer *timer = malloc(sizeof *timer);
    if (timer == NULL) {
        err_set(err, ERR_MEMORY, "out of memory while making a timer");
        return NULL;
    }
    *timer = (struct loop_timer){.loop = loop, .next = loop->timers, .fn = fn, .arg = arg};
    loop->timers = timer;
    return timer;
}

void loop_timer_arm(struct loop_timer *timer, int64_t delay_ms) {
    timer->due_us = clock_us(CLOCK_MONOTONIC) + (delay_ms > 0 ? delay_ms : 0) * 1000;
    timer->armed = true;
}

void loop_timer_disarm(struct loop_timer *timer) {
    timer->armed = false;
}

void loop_timer_remove(struct loop_timer *timer) {
    if (timer == NULL)
        return;
    timer->armed = false;
    timer->removed = true;
    timer->loop->timers_removed = true;
}

static void timers_fire(struct loop *loop) {
    int64_t now_us = clock_us(CLOCK_MONOTONIC);
    /* A timer made by a callback goes to the head of the list, behind us. */
    for (struct loop_timer *timer = loop->timers; timer != NULL; timer = timer->next) {
        if (!timer->armed || timer->due_us > now_us)
            continue;
        timer->armed = false;
        timer->fn(timer->arg);
    }
}

/* --- signals --- */

static void signals_read(void *arg, uint32_t epoll_events) {
    struct loop *loop = arg;
    (void)epoll_events;
    struct signalfd_siginfo info;
    while (read(loop->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        loop->signal_fn(loop->signal_arg, (int)info.ssi_signo);
}

int loop_signals(struct loop *loop, const sigset_t *signals, loop_signal_fn *fn, void *arg, struct err *err) {
    if (sigprocmask(SIG_BLOCK, signals, NULL) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot block signals");
    loop->signal_fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (loop->signal_fd < 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot make a signal descriptor");
    loop->signal_fn = fn;
    loop->signal_arg = arg;
    loop->signal_watch = loop_fd_add(loop, loop->signal_fd, EPOLLIN, signals_read, loop, err);
    return loop->signal_watch != NULL ? 0 : -1;
}

/* --- hooks --- */

int loop_timeout_add(struct loop *loop, loop_timeout_fn *fn, void *arg, struct err *err) {
    if (loop->timeouts_n == HOOKS_MAX)
        return err_set(err, ERR_INTERNAL, "more than %d timeout hooks in one loop", HOOKS_MAX);
    loop->timeouts[loop->timeouts_n++] = (struct timeout_hook){fn, arg};
    return 0;
}

int loop_turn_end_add(struct loop *loop, loop_fn *fn, void *arg, struct err *err) {
    if (loop->turn_ends_n == HOOKS_MAX)
        return err_set(err, ERR_INTERNAL, "more than %d hooks at the end of a turn", HOOKS_MAX);
    loop->turn_ends[loop->turn_ends_n++] = (struct hook){fn, arg};
    return 0;
}

void loop_again(struct loop *loop) {
    loop->again = true;
}

void loop_stop(struct loop *loop) {
    loop->stopped = true;
}

/* --- turns --- */

static int64_t sooner(int64_t a_ms, int64_t b_ms) {
    if (a_ms < 0)
        return b_ms;
    return b_ms >= 0 && b_ms < a_ms ? b_ms : a_ms;
}

static int wait_ms(const struct loop *loop) {
    if (loop->again || loop->stopped)
        return 0;
    int64_t wait = -1, now_us = clock_us(CLOCK_MONOTONIC);
    for (const struct loop_timer *timer = loop->timers; timer != NULL; timer = timer->next) {
        if (timer->armed) /* rounded up: waking early would only spin */
            wait = sooner(wait, timer->due_us > now_us ? (timer->due_us - now_us + 999) / 1000 : 0);
    }
    for (int i = 0; i < loop->timeouts_n; i++)
        wait = sooner(wait, loop->timeouts[i].fn(loop->timeouts[i].arg));
    return wait > INT_MAX ? INT_MAX : (int)wait;
}

static void sweep(struct loop *loop) {
    while (loop->removed_watches != NULL) {
        struct loop_fd *watch = loop->removed_watches;
        loop->removed_watches = watch->next;
        free(watch);
    }
    if (!loop->timers_removed)
        return;
    loop->timers_removed = false;
    for (struct loop_timer **link = &loop->timers; *link != NULL;) {
        struct loop_timer *timer = *link;
        if (!timer->removed) {
            link = &timer->next;
            continue;
        }
        *link = timer->next;
        free(timer);
    }
}

static int turn(struct loop *loop, struct err *err) {
    struct epoll_event events[EVENTS_PER_WAIT];
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_WAIT, wait_ms(loop));
    if (n < 0 && errno != EINTR)
        return err_errno(err, ERR_INTERNAL, errno, "cannot wait for events");
    loop->again = false;
    for (int i = 0; i < n; i++) {
        struct loop_fd *watch = events[i].data.ptr;
        if (!watch->removed)
            watch->fn(watch->arg, events[i].events);
    }
    timers_fire(loop);
    for (int i = 0; i < loop->turn_ends_n; i++)
        loop->turn_ends[i].fn(loop->turn_ends[i].arg);
    sweep(loop);
    return 0;
}

int loop_run(struct loop *loop, struct err *err) {
    loop->stopped = false;
    while (!loop->stopped) {
        if (turn(loop, err) != 0)
            return -1;
    }
    return 0;
}

void loop_free(struct loop *loop) {
    if (loop == NULL)
        return;
    loop_fd_remove(loop->signal_watch);
    for (struct loop_timer *timer = loop->timers; timer != NULL; timer = timer->next)
        loop_timer_remove(timer);
    sweep(loop);
    if (loop->signal_fd >= 0)
        close(loop->signal_fd);
    close(loop->epoll_fd);
    free(loop);
}
