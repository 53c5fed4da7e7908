/* Child processes: see proc.h. fork and exec rather than posix_spawn, which cannot set a nice value, and libuv's way of telling a
 * failed exec: the child writes errno into a pipe that a successful exec closes. */
#include "server/sched/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/event.h"

extern char **environ;

enum { ENVIRONMENT_MAX = 64 };

/* What a worker may inherit: everything else of the daemon's environment is none of its business. */
static const char *const kept_names[] = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"};
static const char *const kept_prefixes[] = {"RESIDUUM_", "OMP_",    "GOMP_", "CUDA_",  "NVIDIA_", "CUDNN_",
                                            "DNNL_",     "ONEDNN_", "ASAN_", "UBSAN_", "LSAN_"};

static bool kept(const char *entry) {
    size_t length = strcspn(entry, "=");
    for (size_t i = 0; i < sizeof kept_names / sizeof kept_names[0]; i++) {
        if (strlen(kept_names[i]) == length && strncmp(kept_names[i], entry, length) == 0)
            return true;
    }
    for (size_t i = 0; i < sizeof kept_prefixes / sizeof kept_prefixes[0]; i++) {
        if (strncmp(kept_prefixes[i], entry, strlen(kept_prefixes[i])) == 0)
            return true;
    }
    return false;
}

/* Whether one of the entries sets the variable of this one. */
static bool is_set(char *const *entries, const char *entry) {
    size_t length = strcspn(entry, "=");
    for (; entries != NULL && *entries != NULL; entries++) {
        if (strncmp(*entries, entry, length) == 0 && (*entries)[length] == '=')
            return true;
    }
    return false;
}

static void environment(char *const *added, char *ret_entries[ENVIRONMENT_MAX + 1]) {
    int n = 0;
    for (char *const *entry = added; entry != NULL && *entry != NULL && n < ENVIRONMENT_MAX; entry++)
        ret_entries[n++] = *entry;
    for (char **entry = environ; entry != NULL && *entry != NULL && n < ENVIRONMENT_MAX; entry++) {
        if (kept(*entry) && !is_set(added, *entry))
            ret_entries[n++] = *entry;
    }
    ret_entries[n] = NULL;
}

struct pipes {
    int in[2], out[2], err[2], exec[2];
};

static void close_pair(int pair[2]) {
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            close(pair[i]);
    }
}

static void pipes_close(struct pipes *pipes) {
    close_pair(pipes->in);
    close_pair(pipes->out);
    close_pair(pipes->err);
    close_pair(pipes->exec);
}

static int pipes_open(struct pipes *pipes, struct err *err) {
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    if (pipe2(pipes->in, O_CLOEXEC) == 0 && pipe2(pipes->out, O_CLOEXEC) == 0 && pipe2(pipes->err, O_CLOEXEC) == 0 &&
        pipe2(pipes->exec, O_CLOEXEC) == 0 && fcntl(pipes->in[1], F_SETFL, O_NONBLOCK) == 0 &&
        fcntl(pipes->out[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(pipes->err[0], F_SETFL, O_NONBLOCK) == 0)
        return 0;
    err_errno(err, ERR_WORKER, errno, "cannot make the pipes of a worker");
    pipes_close(pipes);
    return -1;
}

static void signals_default(void) {
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* fails for SIGKILL and SIGSTOP, which have no other */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child: only calls that are safe after fork. Returns when something failed, errno saying what. */
static void become(const struct proc_options *options, const struct pipes *pipes, char *const *env) {
    signals_default();
    if (setpgid(0, 0) != 0 || dup2(pipes->in[0], 0) < 0 || dup2(pipes->out[1], 1) < 0 || dup2(pipes->err[1], 2) < 0)
        return;
    if (options->nice != 0 && setpriority(PRIO_PROCESS, 0, options->nice) != 0)
        return;
    if (chdir(options->dir) != 0)
        return;
    /* Whatever a library of the daemon left open without close-on-exec; a kernel that cannot do it leaves that to the flag. */
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(options->argv[0], (char *const *)options->argv, env);
}

/* In the parent: 0 when the child runs the program. */
static int exec_result(int fd) {
    int failed = 0;
    ssize_t n;
    do
        n = read(fd, &failed, sizeof failed);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof failed ? failed : 0;
}

static int adopt(pid_t pid, struct pipes *pipes, struct proc *ret_proc, struct err *err) {
    setpgid(pid, pid); /* the child does the same; whoever comes first */
    close(pipes->exec[1]);
    pipes->exec[1] = -1;
    int failed = exec_result(pipes->exec[0]);
    int pidfd = failed == 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0) {
        int cause = failed != 0 ? failed : errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_errno(err, ERR_WORKER, cause, "cannot run the worker program");
    }
    *ret_proc = (struct proc){.pid = pid, .pidfd = pidfd, .in = pipes->in[1], .out = pipes->out[0], .err = pipes->err[0]};
    pipes->in[1] = pipes->out[0] = pipes->err[0] = -1;
    return 0;
}

int proc_spawn(const struct proc_options *options, struct proc *ret_proc, struct err *err) {
    char *env[ENVIRONMENT_MAX + 1];
    struct pipes pipes;
    environment(options->env, env);
    if (pipes_open(&pipes, err) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        become(options, &pipes, env);
        int failed = errno;
        ssize_t n = write(pipes.exec[1], &failed, sizeof failed);
        _exit(n < 0 ? 126 : 127);
    }
    int rc = pid < 0 ? err_errno(err, ERR_WORKER, errno, "cannot start a worker process") : adopt(pid, &pipes, ret_proc, err);
    pipes_close(&pipes);
    return rc;
}

enum { PIPE_SIZE = 65536 }; /* of a new one (pipe(7)) */

int proc_tell(const struct proc *proc, const char *text, struct err *err) {
    size_t size = strlen(text);
    if (size > PIPE_SIZE)
        (void)fcntl(proc->in, F_SETPIPE_SZ, (int)size); /* if not, the write below is short */
    ssize_t n = write(proc->in, text, size);
    if (n == (ssize_t)size || (n < 0 && errno == EPIPE))
        return 0;
    return n < 0 ? err_errno(err, ERR_WORKER, errno, "cannot tell a worker what to do")
                 : err_set(err, ERR_WORKER, "what a worker is to do, %zu bytes, does not fit into a pipe", size);
}

void proc_kill(const struct proc *proc) {
    if (proc->pid > 0)
        kill(-proc->pid, SIGKILL);
}

bool proc_reap(struct proc *proc, struct proc_end *ret_end) {
    int status = 0;
    if (proc->pid <= 0 || waitpid(proc->pid, &status, WNOHANG) != proc->pid)
        return false;
    bool by_signal = WIFSIGNALED(status);
    *ret_end = (struct proc_end){by_signal, by_signal ? WTERMSIG(status) : WEXITSTATUS(status)};
    proc->pid = 0;
    return true;
}

static const char *exit_meaning(int code) {
    switch ((enum worker_exit)code) {
    case WORKER_EXIT_DONE:
        return "done";
    case WORKER_EXIT_FAILED:
        return "failed";
    case WORKER_EXIT_USAGE:
        return "wrong usage";
    case WORKER_EXIT_STOPPED:
        return "stopped";
    case WORKER_EXIT_BUSY:
        return "an older attempt still held the job";
    case WORKER_EXIT_RETRY:
        return "trying again may help";
    case WORKER_EXIT_DEVICE:
        return "its device failed";
    }
    return "not one of the worker's own";
}

void proc_describe(const struct proc_end *end, char *ret_text, size_t size) {
    const char *name = end->by_signal ? sigabbrev_np(end->code) : NULL;
    if (!end->by_signal)
        snprintf(ret_text, size, "exit code %d (%s)", end->code, exit_meaning(end->code));
    else if (name != NULL)
        snprintf(ret_text, size, "killed by signal %d (SIG%s)", end->code, name);
    else
        snprintf(ret_text, size, "killed by signal %d", end->code);
}

static void close_end(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void proc_close_in(struct proc *proc) {
    close_end(&proc->in);
}

void proc_done(struct proc *proc) {
    if (proc->pid > 0) {
        proc_kill(proc);
        waitpid(proc->pid, NULL, 0);
        proc->pid = 0;
    }
    close_end(&proc->in);
    close_end(&proc->out);
    close_end(&proc->err);
    close_end(&proc->pidfd);
}
