/* Runs short workers: see errand.h. They may crash, hang or lie; the answer is not looked into here. */
#include "server/sched/errand.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "server/sched/private.h"

enum { COMPLAINT_MAX = 400, SAID_MAX = 300 };

struct errand {
    struct errand_options options;
    struct proc proc;
    struct pump *out, *err;
    struct loop_fd *exit_watch;
    struct loop_timer *timer;
    char *answer;
    size_t used, room;
    char complaint[COMPLAINT_MAX]; /* the end of what it wrote to standard error */
    size_t complaint_used;
    bool timed_out, oversize;
};

static int heard(void *arg, const char *data, size_t size) {
    struct errand *errand = arg;
    if (errand->used + size > errand->options.answer_max) {
        errand->oversize = true;
        return -1;
    }
    if (errand->used + size > errand->room) {
        size_t room = 2 * (errand->used + size);
        char *larger = realloc(errand->answer, room);
        if (larger == NULL) {
            errand->oversize = true;
            return -1;
        }
        errand->answer = larger;
        errand->room = room;
    }
    memcpy(errand->answer + errand->used, data, size);
    errand->used += size;
    return 0;
}

static int heard_line(void *arg, const char *line, size_t size) {
    struct errand *errand = arg;
    errand->options.line(errand->options.arg, line, size);
    return 0;
}

static void heard_oversize(void *arg) {
    struct errand *errand = arg;
    errand->oversize = true;
    proc_kill(&errand->proc);
}

static int complained(void *arg, const char *data, size_t size) {
    struct errand *errand = arg;
    size_t room = sizeof errand->complaint - 1;
    if (size > room) {
        data += size - room;
        size = room;
    }
    size_t keep = errand->complaint_used + size <= room ? errand->complaint_used : room - size;
    memmove(errand->complaint, errand->complaint + errand->complaint_used - keep, keep);
    memcpy(errand->complaint + keep, data, size);
    errand->complaint_used = keep + size;
    errand->complaint[errand->complaint_used] = '\0';
    return 0;
}

static void explain(const struct errand *errand, const struct proc_end *end, struct err *ret_why) {
    const char *what = errand->options.what;
    bool complained_of = errand->complaint[0] != '\0'; /* else what it answered may tell */
    const char *said = complained_of ? errand->complaint : errand->answer;
    int said_size = (int)(complained_of ? errand->complaint_used : errand->used);
    char how[96];
    proc_describe(end, how, sizeof how);
    if (errand->timed_out)
        err_set(ret_why, ERR_WORKER, "%s did not answer within %lld ms and was killed", what,
                (long long)errand->options.timeout_ms);
    else if (errand->oversize)
        err_set(ret_why, ERR_PROTOCOL, "%s answered with more than %zu bytes", what, errand->options.answer_max);
    else if (end->by_signal || end->code != 0)
        err_set(ret_why, !end->by_signal && end->code == WORKER_EXIT_USAGE ? ERR_UNSUPPORTED : ERR_WORKER, "%s ended: %s%s%.*s",
                what, how, said_size > 0 ? "; it said: " : "", said_size < SAID_MAX ? said_size : SAID_MAX,
                said_size > 0 ? said : "");
}

static void release(struct errand *errand) {
    loop_fd_remove(errand->exit_watch);
    errand->exit_watch = NULL;
    pump_free(errand->out);
    pump_free(errand->err);
    errand->out = errand->err = NULL;
    proc_done(&errand->proc);
    loop_timer_remove(errand->timer);
    errand->timer = NULL;
}

static void ended(void *arg, uint32_t epoll_events) {
    struct errand *errand = arg;
    struct proc_end end;
    struct err why = {0};
    (void)epoll_events;
    proc_kill(&errand->proc); /* whatever it started */
    if (!proc_reap(&errand->proc, &end))
        return;
    pump_drain(errand->out);
    pump_drain(errand->err);
    explain(errand, &end, &why);
    release(errand);
    char *answer = errand->answer; /* the errand may be gone after the call */
    errand->answer = NULL;
    errand->options.fn(errand->options.arg, why.code == ERR_NONE ? (answer != NULL ? answer : "") : NULL, errand->used, &why);
    free(answer);
}

static void too_late(void *arg) {
    struct errand *errand = arg;
    errand->timed_out = true;
    proc_kill(&errand->proc);
}

static int watch(struct errand *errand, struct err *err) {
    struct loop *loop = errand->options.sched->options.loop;
    bool lines = errand->options.line != NULL;
    struct pump_options out = {.loop = loop,
                               .fd = errand->proc.out,
                               .line_max = lines ? errand->options.answer_max : 0,
                               .fn = lines ? heard_line : heard,
                               .oversize = heard_oversize,
                               .arg = errand};
    struct pump_options complaints = {.loop = loop, .fd = errand->proc.err, .fn = complained, .arg = errand};
    errand->timer = loop_timer_add(loop, too_late, errand, err);
    errand->out = errand->timer != NULL ? pump_new(&out, err) : NULL;
    errand->err = errand->out != NULL ? pump_new(&complaints, err) : NULL;
    errand->exit_watch = errand->err != NULL ? loop_fd_add(loop, errand->proc.pidfd, EPOLLIN, ended, errand, err) : NULL;
    return errand->exit_watch != NULL ? 0 : -1;
}

static int start(struct errand *errand, struct err *err) {
    struct launch launch = {.args = errand->options.args,
                            .dir = errand->options.sched->data_dir,
                            .nice = errand->options.nice,
                            .env = errand->options.env};
    if (launch_worker(errand->options.sched, &launch, &errand->proc, err) != 0 || watch(errand, err) != 0)
        return -1;
    if (errand->options.question != NULL && proc_tell(&errand->proc, errand->options.question, err) != 0)
        return -1;
    if (!errand->options.holds_input)
        proc_close_in(&errand->proc);
    errand->options.question = NULL; /* the caller's, as the others */
    errand->options.args = NULL;
    errand->options.env = NULL;
    loop_timer_arm(errand->timer, errand->options.timeout_ms);
    return 0;
}

int errand_new(const struct errand_options *options, struct errand **ret_errand, struct err *err) {
    struct errand *errand = calloc(1, sizeof *errand);
    if (errand == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", options->what);
    *errand = (struct errand){.options = *options, .proc = PROC_NONE};
    if (start(errand, err) != 0) {
        errand_free(errand);
        return -1;
    }
    *ret_errand = errand;
    return 0;
}

void errand_free(struct errand *errand) {
    if (errand == NULL)
        return;
    release(errand);
    free(errand->answer);
    free(errand);
}
