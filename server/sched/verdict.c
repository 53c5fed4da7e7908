/* What becomes of a job whose attempt ended: it succeeded, failed, was cancelled, or is queued again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/sched/private.h"

enum { LOG_LINES_BYTES = 2048, REASON_MAX = LOG_LINES_BYTES + 1024 };

/* Where the job goes. RETRY is queued, or failed when no try is left. */
enum outcome { SUCCEED, FAIL, CANCEL, RETRY, RESUME };

struct verdict {
    enum outcome outcome;
    enum err_code code;
    char text[640];
};

static void explain(struct verdict *verdict, enum outcome outcome, enum err_code code, const char *text) {
    verdict->outcome = outcome;
    verdict->code = code;
    snprintf(verdict->text, sizeof verdict->text, "%s", text);
}

static bool exited(const struct attempt *attempt, enum worker_exit code) {
    return attempt->end.code == (int)code && !attempt->end.by_signal;
}

/* Whether the worker went because we asked it to. */
static bool obeyed(const struct attempt *attempt) {
    return attempt->stop != STOP_NONE && (attempt->killed || exited(attempt, WORKER_EXIT_STOPPED));
}

static void explain_difference(const struct job *job, struct verdict *verdict) {
    char text[160];
    snprintf(text, sizeof text, "its weights differ from those of job %s after epoch %d; the rest would tell nothing new",
             job->verifies, job->verification.epoch);
    explain(verdict, CANCEL, ERR_CONFLICT, text);
}

static void judge_stop(enum attempt_stop stop, const struct job *job, struct verdict *verdict) {
    switch (stop) {
    case STOP_CANCEL:
        explain(verdict, CANCEL, ERR_NONE, "");
        return;
    case STOP_DRAIN:
    case STOP_NONE:
        explain(verdict, RESUME, ERR_UNAVAILABLE, "residuumd was stopped; the job goes on from its last checkpoint");
        return;
    case STOP_DIFFERS:
        explain_difference(job, verdict);
        return;
    case STOP_STORAGE:
        explain(verdict, RESUME, ERR_FULL, "the store could not be written; the job goes on from its last checkpoint");
        return;
    }
}

static void judge_death(const struct attempt *attempt, struct verdict *verdict) {
    char how[96], text[160];
    proc_describe(&attempt->end, how, sizeof how);
    snprintf(text, sizeof text, "the worker ended: %s", how);
    explain(verdict, RETRY, ERR_WORKER, text);
}

bool attempt_device_failed(const struct attempt *attempt) {
    return exited(attempt, WORKER_EXIT_DEVICE);
}

/* Not the job's fault, so that it goes on elsewhere; but one under which two devices in a row fail may be what breaks them. */
static void judge_device(const struct attempt *attempt, const struct job *job, struct verdict *verdict) {
    const char *said = attempt->said.code != ERR_NONE ? attempt->said.text : "its worker gave no reason";
    bool again = strcmp(job->reason, err_name(ERR_DEVICE)) == 0;
    char text[sizeof verdict->text];
    snprintf(text, sizeof text,
             again ? "two devices in a row failed under this job, the last one, %s, so: %.480s" : "device %s failed: %.480s",
             attempt->job.device, said);
    explain(verdict, again ? FAIL : RESUME, ERR_DEVICE, text);
}

static struct verdict judge(const struct attempt *attempt, const struct job *job) {
    struct verdict verdict = {.outcome = SUCCEED};
    bool complete = attempt->finished && attempt->fault.code == ERR_NONE && exited(attempt, WORKER_EXIT_DONE);
    bool launched = attempt->seq > 0 || attempt->end.by_signal || attempt->end.code != 0 || attempt->fault.code != ERR_NONE;
    if (complete && job->state == JOB_RUNNING && job->epochs_done == attempt->job.epochs_done)
        return verdict;
    if (complete) /* but a commit failed, so the store has not all that was said */
        judge_stop(STOP_STORAGE, job, &verdict);
    else if (attempt->stop == STOP_CANCEL || attempt->stop == STOP_STORAGE || attempt->stop == STOP_DIFFERS || !launched ||
             obeyed(attempt))
        judge_stop(attempt->stop, job, &verdict);
    else if (attempt_device_failed(attempt))
        judge_device(attempt, job, &verdict);
    else if (attempt->fault.code != ERR_NONE)
        explain(&verdict, RETRY, attempt->fault.code, attempt->fault.text);
    else if (attempt->said.code != ERR_NONE && (exited(attempt, WORKER_EXIT_FAILED) || exited(attempt, WORKER_EXIT_RETRY)))
        explain(&verdict, exited(attempt, WORKER_EXIT_FAILED) ? FAIL : RETRY, attempt->said.code, attempt->said.text);
    else
        judge_death(attempt, &verdict);
    return verdict;
}

/* The sentence, for a job that was tried often enough with the number of tries and the last lines of its log. */
static char *reason_text(const struct attempt *attempt, const struct verdict *verdict, int tries) {
    char dir[PATH_MAX], *lines = NULL, *text = malloc(REASON_MAX);
    size_t size = 0;
    if (text == NULL)
        return NULL;
    if (tries == 0 || sched_job_dir(attempt->sched, attempt->job.id, dir, NULL) != 0 ||
        joblog_tail(dir, LOG_LINES_BYTES, &lines, &size, NULL) != 0)
        lines = NULL;
    if (tries == 0)
        snprintf(text, REASON_MAX, "%s", verdict->text);
    else
        snprintf(text, REASON_MAX, "%s (tried %d times)%s%s", verdict->text, tries, size > 0 ? "\nThe end of its log:\n" : "",
                 size > 0 ? lines : "");
    free(lines);
    return text;
}

static int move(struct attempt *attempt, const struct job *job, const struct verdict *verdict, struct err *err) {
    struct sched *sched = attempt->sched;
    bool given_up = verdict->outcome == RETRY && job->tries >= sched->options.tries_max;
    enum job_state to = verdict->outcome == SUCCEED            ? JOB_SUCCEEDED
                        : verdict->outcome == CANCEL           ? JOB_CANCELLED
                        : verdict->outcome == FAIL || given_up ? JOB_FAILED
                                                               : JOB_QUEUED;
    char *text = verdict->code != ERR_NONE ? reason_text(attempt, verdict, given_up ? job->tries : 0) : NULL;
    struct job_change change = {.reason = verdict->code != ERR_NONE ? err_name(verdict->code) : NULL,
                                .reason_text = text != NULL ? text : verdict->text,
                                .uncounted = verdict->outcome == RESUME,
                                .stopped_early = verdict->outcome == SUCCEED && attempt->stopped_early,
                                .best_epoch = verdict->outcome == SUCCEED ? attempt->best_epoch : 0};
    int rc = store_job_move(sched->options.store, job->id, job->state, job->attempt, to, &change, NULL, err);
    free(text);
    if (rc == 0 && to == JOB_QUEUED)
        sched->counters.jobs_retried++;
    if (rc == 0)
        log_line("info", "job-moved", "job", job->id, "state", job_state_name(to), "reason", change.reason, (char *)NULL);
    return rc;
}

/* Writes the move of a job that is still this attempt's; one that is not needs none. */
static int file(struct attempt *attempt, struct err *err) {
    struct store *store = attempt->sched->options.store;
    struct job job;
    if (store_job_get(store, &daemon_viewer, attempt->job.id, &job, err) != 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    int rc = 0;
    if (job.attempt == attempt->job.attempt && (job.state == JOB_STARTING || job.state == JOB_RUNNING)) {
        struct verdict verdict = judge(attempt, &job);
        if (verdict.outcome == SUCCEED)
            rc = attempt_verify_end(attempt, &job, err);
        if (rc == 0)
            rc = move(attempt, &job, &verdict, err);
    }
    job_done(&job);
    return rc;
}

void attempt_file(struct attempt *attempt) {
    struct err why = {0};
    if (file(attempt, &why) == 0) {
        attempt->phase = ATTEMPT_FILED;
        loop_again(attempt->sched->options.loop);
        return;
    }
    log_line("error", "job-not-filed", "job", attempt->job.id, "reason", why.text, (char *)NULL);
    if (attempt->sched->draining)
        attempt->phase = ATTEMPT_FILED; /* the next start finds the job running without a worker, and queues it */
    else
        sched_pause(attempt->sched);
}
