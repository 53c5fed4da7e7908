/* One attempt of a job: its worker's life from launch to exit. What the worker says is heard in listen.c; what becomes of the job
 * is decided in verdict.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "server/sched/private.h"

static void timer(void *arg);

struct attempt *attempt_new(struct sched *sched, struct err *err) {
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        err_set(err, ERR_MEMORY, "out of memory while starting a job");
        return NULL;
    }
    *attempt = (struct attempt){.sched = sched, .proc = PROC_NONE, .log = {.fd = -1}, .phase = ATTEMPT_CLAIMED};
    attempt->timer = loop_timer_add(sched->options.loop, timer, attempt, err);
    if (attempt->timer == NULL) {
        free(attempt);
        return NULL;
    }
    return attempt;
}

static void release(struct attempt *attempt) {
    loop_fd_remove(attempt->exit_watch);
    attempt->exit_watch = NULL;
    pump_free(attempt->out);
    pump_free(attempt->err);
    attempt->out = attempt->err = NULL;
    proc_done(&attempt->proc);
    joblog_close(&attempt->log);
    loop_timer_disarm(attempt->timer);
}

void attempt_free(struct attempt *attempt) {
    if (attempt == NULL)
        return;
    release(attempt);
    loop_timer_remove(attempt->timer);
    job_done(&attempt->job);
    json_decref(attempt->telemetry);
    free(attempt);
}

static void log_end(struct attempt *attempt) {
    char how[96], number[16];
    proc_describe(&attempt->end, how, sizeof how);
    snprintf(number, sizeof number, "%d", attempt->job.attempt);
    log_line("info", "worker-ended", "job", attempt->job.id, "attempt", number, "how", how, "fault",
             attempt->fault.code != ERR_NONE ? attempt->fault.text : NULL, (char *)NULL);
    if (attempt->fault.code != ERR_NONE)
        joblog_note(&attempt->log, "attempt %d ended: %s; %s", attempt->job.attempt, how, attempt->fault.text);
    else
        joblog_note(&attempt->log, "attempt %d ended: %s", attempt->job.attempt, how);
}

/* The worker is gone: hear what it still said, then decide. */
static void ended(void *arg, uint32_t epoll_events) {
    struct attempt *attempt = arg;
    (void)epoll_events;
    proc_kill(&attempt->proc); /* whatever it started goes with it */
    if (!proc_reap(&attempt->proc, &attempt->end))
        return;
    pump_drain(attempt->out);
    pump_drain(attempt->err);
    bool clean = !attempt->end.by_signal && attempt->end.code == WORKER_EXIT_DONE && attempt->fault.code == ERR_NONE;
    bool believed = attempt->stop != STOP_STORAGE; /* else its last words were not heard */
    if (clean && believed && (!attempt->finished || pump_is_cut(attempt->out)))
        err_set(&attempt->fault, ERR_PROTOCOL, "the worker ended with exit code 0 without saying \"done\"");
    if (attempt->end.by_signal || attempt->end.code != WORKER_EXIT_DONE)
        attempt->sched->counters.workers_died++;
    if (attempt_device_failed(attempt))
        device_drain(attempt->sched, attempt->job.device, attempt->said.text);
    log_end(attempt);
    release(attempt);
    attempt->phase = ATTEMPT_ENDED;
    attempt_file(attempt);
}

static int watch(struct attempt *attempt, struct err *err);

static int instruct(struct attempt *attempt, const char *dir, struct err *err) {
    char *line = launch_start_line(attempt->sched, &attempt->job, dir);
    if (line == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting a job");
    int rc = proc_tell(&attempt->proc, line, err);
    free(line);
    return rc;
}

static int hear_log(void *arg, const char *data, size_t size) {
    struct attempt *attempt = arg;
    joblog_append(&attempt->log, data, size);
    return 0;
}

static int watch(struct attempt *attempt, struct err *err) {
    struct loop *loop = attempt->sched->options.loop;
    struct pump_options out = {.loop = loop,
                               .fd = attempt->proc.out,
                               .line_max = EVENT_LINE_MAX,
                               .fn = attempt_hear,
                               .oversize = attempt_hear_oversize,
                               .arg = attempt};
    struct pump_options log = {.loop = loop, .fd = attempt->proc.err, .fn = hear_log, .arg = attempt};
    attempt->out = pump_new(&out, err);
    attempt->err = attempt->out != NULL ? pump_new(&log, err) : NULL;
    attempt->exit_watch = attempt->err != NULL ? loop_fd_add(loop, attempt->proc.pidfd, EPOLLIN, ended, attempt, err) : NULL;
    return attempt->exit_watch != NULL ? 0 : -1;
}

static int spawn(struct attempt *attempt, const char *dir, struct err *err) {
    struct launch_env env = {0};
    if (launch_env_make(attempt->sched, attempt->job.device, &env, err) != 0)
        return -1;
    struct launch options = {.dir = dir, .nice = WORKER_NICE, .env = &env};
    int rc = launch_worker(attempt->sched, &options, &attempt->proc, err);
    launch_env_done(&env);
    return rc;
}

static int launch(struct attempt *attempt, struct err *err) {
    char dir[PATH_MAX], number[16];
    struct sched *sched = attempt->sched;
    if (sched_job_dir(sched, attempt->job.id, dir, err) != 0 || file_mkdirs(dir, err) != 0 ||
        joblog_open(dir, &attempt->log, err) != 0)
        return -1;
    joblog_note(&attempt->log, "attempt %d starts on %s after %d of %d epochs", attempt->job.attempt, attempt->job.device,
                attempt->job.epochs_done, attempt->job.epochs);
    if (spawn(attempt, dir, err) != 0)
        return -1;
    sched->counters.workers_started++;
    snprintf(number, sizeof number, "%d", attempt->job.attempt);
    log_line("info", "worker-started", "job", attempt->job.id, "attempt", number, "device", attempt->job.device, (char *)NULL);
    if (watch(attempt, err) != 0)
        return -1;
    return instruct(attempt, dir, err);
}

/* What a GPU's worker does before it says hello, compiling for one, it watches itself, for ten minutes: it is to find a device
 * that hangs before we find a worker that is silent. */
static int64_t patience(const struct attempt *attempt) {
    enum { HELLO_MS = 120000, HELLO_GPU_MS = 900000 };
    bool gpu = sched_device_is_gpu(device_card(attempt->sched, attempt->job.device));
    int64_t silence = attempt->sched->options.silence_ms, hello = gpu ? HELLO_GPU_MS : HELLO_MS;
    return !attempt->greeted && silence > hello ? hello : silence;
}

void attempt_launch(struct attempt *attempt) {
    struct err why = {0};
    if (attempt->stop == STOP_NONE && launch(attempt, &why) == 0) {
        attempt->phase = ATTEMPT_RUNNING;
        loop_timer_arm(attempt->timer, patience(attempt));
        return;
    }
    attempt->fault = why; /* none: it was stopped before it began */
    if (why.code != ERR_NONE) {
        log_line("error", "launch-failed", "job", attempt->job.id, "reason", why.text, (char *)NULL);
        joblog_note(&attempt->log, "attempt %d could not be started: %s", attempt->job.attempt, why.text);
    }
    release(attempt);
    attempt->phase = ATTEMPT_ENDED;
    attempt_file(attempt);
}

void attempt_kill(struct attempt *attempt) {
    if (attempt->phase != ATTEMPT_RUNNING)
        return;
    attempt->killed = true;
    proc_kill(&attempt->proc);
}

void attempt_stop(struct attempt *attempt, enum attempt_stop cause) {
    if (attempt->stop == STOP_NONE)
        attempt->stop = cause;
    if (attempt->stop_sent || attempt->phase != ATTEMPT_RUNNING)
        return;
    attempt->stop_sent = true;
    proc_close_in(&attempt->proc);
    loop_timer_arm(attempt->timer, attempt->sched->options.stop_timeout_ms);
}

void attempt_fault(struct attempt *attempt, const struct err *why) {
    if (attempt->fault.code == ERR_NONE)
        attempt->fault = *why;
    if (attempt->phase == ATTEMPT_RUNNING)
        proc_kill(&attempt->proc);
}

static void timer(void *arg) {
    struct attempt *attempt = arg;
    if (attempt->stop_sent) {
        attempt_kill(attempt);
        return;
    }
    struct err why = {0};
    err_set(&why, ERR_WORKER, "the worker said nothing for %lld seconds and was killed", (long long)patience(attempt) / 1000);
    attempt_fault(attempt, &why);
}
