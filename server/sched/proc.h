/* A child process with three pipes, in a process group of its own. */
#ifndef SCHED_PROC_H
#define SCHED_PROC_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"

struct proc {
    pid_t pid;
    int pidfd;        /* readable when it has ended */
    int in, out, err; /* our ends of its standard streams, non-blocking; -1: none */
};

struct proc_options {
    const char *const *argv; /* argv[0] is the program's path; ended by NULL */
    const char *dir;         /* its working directory */
    int nice;
    char *const *env; /* "NAME=value" besides what it inherits, and instead of it; ended by NULL; NULL: none */
};

/* Starts it with a clean environment, default signals and nothing else open. A program that cannot be run is a failure here, not
 * an exit code later. */
int proc_spawn(const struct proc_options *options, struct proc *ret_proc, struct err *err);

/* Writes text to its standard input at once: the pipe is made large enough, up to what the system allows (1 MiB). A child that
 * has ended already is no failure: its end will tell. */
int proc_tell(const struct proc *proc, const char *text, struct err *err);

void proc_kill(const struct proc *proc); /* SIGKILL to the whole group */

/* How it ended. */
struct proc_end {
    bool by_signal;
    int code; /* exit code or signal */
};

/* Collects a child that has ended; false when it still runs. Afterwards pid is 0. */
bool proc_reap(struct proc *proc, struct proc_end *ret_end);

/* "killed by signal 9 (SIGKILL)", "exit code 5 (trying again may help)". */
void proc_describe(const struct proc_end *end, char *ret_text, size_t size);

void proc_close_in(struct proc *proc);

/* Kills and collects what still runs, closes the descriptors. Accepts an ended one and zeroed memory after PROC_NONE. */
void proc_done(struct proc *proc);

#define PROC_NONE ((struct proc){.pid = 0, .pidfd = -1, .in = -1, .out = -1, .err = -1})

#endif
