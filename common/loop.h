/* One thread's event loop over epoll: descriptors, timers, signals, and what runs at the end of a turn. */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct loop;
struct loop_fd;
struct loop_timer;

typedef void loop_fd_fn(void *arg, uint32_t epoll_events);
typedef void loop_fn(void *arg);
typedef void loop_signal_fn(void *arg, int signal);
/* Returns how long the loop may wait at most, in milliseconds; -1: as long as it likes. */
typedef int64_t loop_timeout_fn(void *arg);

struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);

/* Watches a descriptor (level-triggered; EPOLLIN and so on). The descriptor stays the caller's. A watch may be removed in any
 * callback, its own included; no event of this turn reaches it afterwards. */
struct loop_fd *loop_fd_add(struct loop *loop, int fd, uint32_t epoll_events, loop_fd_fn *fn, void *arg, struct err *err);
int loop_fd_change(struct loop_fd *watch, uint32_t epoll_events, struct err *err);
void loop_fd_remove(struct loop_fd *watch); /* accepts NULL */

/* A one-shot timer, unarmed at first; arming again replaces. Fires once, in at least delay_ms milliseconds. */
struct loop_timer *loop_timer_add(struct loop *loop, loop_fn *fn, void *arg, struct err *err);
void loop_timer_arm(struct loop_timer *timer, int64_t delay_ms);
void loop_timer_disarm(struct loop_timer *timer);
void loop_timer_remove(struct loop_timer *timer); /* accepts NULL */

/* Blocks the signals of a set for the process and reports them in the loop (signalfd). Once per loop. */
int loop_signals(struct loop *loop, const sigset_t *signals, loop_signal_fn *fn, void *arg, struct err *err);

/* Asked before each wait; several may be registered, the smallest answer counts. For libraries with timeouts of their own. */
int loop_timeout_add(struct loop *loop, loop_timeout_fn *fn, void *arg, struct err *err);

/* Runs after the callbacks of each turn, in the order registered. */
int loop_turn_end_add(struct loop *loop, loop_fn *fn, void *arg, struct err *err);

/* Makes the next wait return at once: there is more to do. */
void loop_again(struct loop *loop);

/* Runs until loop_stop. */
int loop_run(struct loop *loop, struct err *err);
void loop_stop(struct loop *loop);

/* Milliseconds of the monotonic clock; microseconds since 1970. */
int64_t clock_ms(void);
int64_t clock_unix_us(void);

#endif
