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

/* Of one device, as it comes through the pipe. */
struct answer {
    int rc;
    struct backend_info info;
    struct err err;
};

/* A module that is asked for its devices below found; the first one tells how many there are. */
struct asking {
    enum spec_backend backend;
    int found, most;
    int timeout_ms;
    double end; /* clock */
};

static void count_found(struct asking *asking, int index, const struct backend_info *info) {
    if (index == 0 && info->devices > asking->found)
        asking->found = info->devices < asking->most ? info->devices : asking->most;
}

/* --- the child --- */

/* Dies with the parent, has its own session of signals, and keeps nothing of the parent's descriptors but the pipe and standard
 * error: a hung child must not hold the job's lock. Libraries are loaded and devices initialized once, for all of them. */
_Noreturn static void child(struct asking *asking, int first, int pipe_fd) {
    enum { PIPE_FD = 3 };
    struct err reason = {0};
    const struct residuum_backend *api = NULL;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (dup2(pipe_fd, PIPE_FD) < 0 || close_range(PIPE_FD + 1, ~0U, 0) != 0)
        _exit(1);
    int opened = module_open(asking->backend, &api, &reason);
    for (int index = first; index < asking->found; index++) {
        struct answer answer = {.rc = -1, .err = reason};
        if (opened == 0)
            answer.rc = api->probe(index, &answer.info, &answer.err);
        count_found(asking, index, &answer.info);
        if (write(PIPE_FD, &answer, sizeof answer) != sizeof answer)
            _exit(1);
    }
    _exit(0);
}

/* --- the parent --- */

enum heard { HEARD_ANSWER, HEARD_END, HEARD_LATE };

/* Reads until an answer is whole, the pipe ends or time is up. */
static enum heard read_answer(int fd, double end, struct answer *answer) {
    for (size_t got = 0; got < sizeof *answer;) {
        double left = end - clock_seconds();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left <= 0)
            return HEARD_LATE;
        if (poll(&ready, 1, (int)(left * 1000) + 1) <= 0)
            continue;
        ssize_t n = read(fd, (char *)answer + got, sizeof *answer - got);
        if (n == 0 || (n < 0 && errno != EINTR))
            return HEARD_END;
        if (n > 0)
            got += (size_t)n;
    }
    return HEARD_ANSWER;
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

/* One device after another from number first on, until all are known or there is no answer for one. Returns how many reports it
 * made. */
static int hear(struct asking *asking, int fd, int first, struct module_report *ret_reports, enum heard *ret_heard) {
    int n = 0;
    *ret_heard = HEARD_ANSWER;
    while (first + n < asking->found && *ret_heard == HEARD_ANSWER) {
        struct answer answer = {0};
        struct module_report *report = &ret_reports[n++];
        *report = (struct module_report){0};
        *ret_heard = read_answer(fd, asking->end, &answer);
        if (*ret_heard != HEARD_ANSWER)
            break;
        accept_answer(spec_backend_name(asking->backend), &answer, &report->info, &report->reason);
        count_found(asking, first + n - 1, &report->info);
    }
    return n;
}

/* Why the last device has no answer; the child is gone after it. */
static void finish(const struct asking *asking, pid_t pid, enum heard heard, struct module_report *last) {
    const char *name = spec_backend_name(asking->backend);
    int status = 0;
    if (heard != HEARD_END)
        kill(pid, SIGKILL); /* an answer is an answer: a library that hangs at exit does no harm */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    last->again = heard != HEARD_ANSWER;
    if (heard == HEARD_LATE)
        err_set(&last->reason, ERR_UNAVAILABLE, "probing the backend %s did not end within %d ms", name, asking->timeout_ms);
    else if (heard == HEARD_END)
        died(name, status, &last->reason);
}

static int start(struct asking *asking, int first, pid_t *ret_pid, int *ret_fd, struct err *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, ERR_IO, errno, "cannot make a pipe");
    fflush(NULL);
    *ret_pid = fork();
    if (*ret_pid == 0)
        child(asking, first, ends[1]);
    close(ends[1]);
    *ret_fd = ends[0];
    if (*ret_pid > 0)
        return 0;
    close(ends[0]);
    return err_errno(err, ERR_MEMORY, errno, "cannot start a process to probe the backend %s",
                     spec_backend_name(asking->backend));
}

/* Asks one child for the devices from number first on. Returns how many reports it made, 1 at least. */
static int ask(struct asking *asking, int first, struct module_report *ret_reports) {
    int fd = -1;
    pid_t pid = -1;
    enum heard heard;
    *ret_reports = (struct module_report){.again = true};
    if (start(asking, first, &pid, &fd, &ret_reports->reason) != 0)
        return 1;
    int n = hear(asking, fd, first, ret_reports, &heard);
    finish(asking, pid, heard, &ret_reports[n - 1]);
    close(fd);
    return n;
}

static struct asking asking_of(enum spec_backend backend, int found, int most, int timeout_ms) {
    return (struct asking){backend, found, most, timeout_ms, clock_seconds() + timeout_ms / 1000.0};
}

int module_describe(enum spec_backend backend, int most, int timeout_ms, struct module_report *ret_reports) {
    struct asking asking = asking_of(backend, 1, most, timeout_ms);
    int n = ask(&asking, 0, ret_reports);
    while (n < asking.found && clock_seconds() < asking.end) /* the one before crashed: the others may not */
        n += ask(&asking, n, ret_reports + n);
    return n;
}

int module_probe(enum spec_backend backend, int index, int timeout_ms, struct backend_info *ret_info, struct err *err) {
    struct module_report report;
    struct asking asking = asking_of(backend, index + 1, index + 1, timeout_ms);
    ask(&asking, index, &report);
    *ret_info = report.info;
    if (report.reason.code == ERR_NONE)
        return 0;
    *err = report.reason;
    return -1;
}
