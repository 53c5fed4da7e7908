/* Probes a backend module in a child process: see module.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/train/clock.h"
#include "server/train/module.h"

struct answer {
    int rc;
    struct backend_info info;
    struct err err;
};

/* Dies with the parent, has its own session of signals, and keeps nothing of the parent's descriptors but the pipe and standard
 * error: a hung child must not hold the job's lock. */
static void child(enum spec_backend backend, int index, int pipe_fd) {
    enum { PIPE_FD = 3 };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (dup2(pipe_fd, PIPE_FD) < 0 || close_range(PIPE_FD + 1, ~0U, 0) != 0)
        _exit(1);
    struct answer answer = {.rc = -1};
    const struct residuum_backend *api;
    if (module_open(backend, &api, &answer.err) == 0)
        answer.rc = api->probe(index, &answer.info, &answer.err);
    ssize_t n = write(PIPE_FD, &answer, sizeof answer);
    _exit(n == sizeof answer ? 0 : 1);
}

/* Reads until the answer is whole, the pipe ends or time is up (returns false). */
static bool read_answer(int fd, int timeout_ms, struct answer *answer, size_t *ret_got) {
    double end = clock_seconds() + (double)timeout_ms / 1000;
    for (*ret_got = 0; *ret_got < sizeof *answer;) {
        double left = end - clock_seconds();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left <= 0)
            return false;
        if (poll(&ready, 1, (int)(left * 1000) + 1) <= 0)
            continue;
        ssize_t n = read(fd, (char *)answer + *ret_got, sizeof *answer - *ret_got);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        if (n > 0)
            *ret_got += (size_t)n;
    }
    return true;
}

static int died(const char *name, int status, struct err *err) {
    if (WIFSIGNALED(status))
        return err_set(err, ERR_UNAVAILABLE, "probing the backend %s crashed with SIG%s (%s)", name,
                       sigabbrev_np(WTERMSIG(status)), sigdescr_np(WTERMSIG(status)));
    return err_set(err, ERR_UNAVAILABLE, "probing the backend %s ended with exit code %d and no answer", name,
                   WEXITSTATUS(status));
}

/* As common/event.h has them. */
static bool is_id(const char *text) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
    return text[0] != '.' && text[strspn(text, allowed)] == '\0';
}

/* Takes what the child said; it is not trusted to end its texts. */
static int accept_answer(const char *name, struct answer *answer, struct backend_info *ret_info, struct err *err) {
    struct backend_info *info = &answer->info;
    module_tidy(info);
    module_tidy_text(answer->err.text, sizeof answer->err.text);
    if (answer->rc == 0 && strcmp(info->name, name) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the module of the backend %s calls itself \"%s\"", name, info->name);
    if (!is_id(info->device_id))
        return err_set(err, ERR_UNAVAILABLE, "the module of the backend %s has a device of the impossible id \"%s\"", name,
                       info->device_id);
    *ret_info = *info;
    if (answer->rc != 0)
        return err_set(err, ERR_UNAVAILABLE, "%s", answer->err.text[0] != '\0' ? answer->err.text : "the probe failed");
    return 0;
}

static int wait_answer(const char *name, pid_t pid, int fd, int timeout_ms, struct backend_info *ret_info, struct err *err) {
    struct answer answer = {0};
    size_t got;
    int status = 0;
    bool in_time = read_answer(fd, timeout_ms, &answer, &got);
    if (!in_time || got == sizeof answer)
        kill(pid, SIGKILL); /* an answer is an answer: a library that hangs at exit does no harm */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!in_time)
        return err_set(err, ERR_UNAVAILABLE, "probing the backend %s did not end within %d ms", name, timeout_ms);
    if (got < sizeof answer)
        return died(name, status, err);
    return accept_answer(name, &answer, ret_info, err);
}

int module_probe(enum spec_backend backend, int index, int timeout_ms, struct backend_info *ret_info, struct err *err) {
    int ends[2];
    *ret_info = (struct backend_info){0};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, ERR_IO, errno, "cannot make a pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(backend, index, ends[1]);
    close(ends[1]);
    int rc = pid < 0
                 ? err_errno(err, ERR_MEMORY, errno, "cannot start a process to probe the backend %s", spec_backend_name(backend))
                 : wait_answer(spec_backend_name(backend), pid, ends[0], timeout_ms, ret_info, err);
    close(ends[0]);
    return rc;
}
