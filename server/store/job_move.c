/* Moves of a job between states, by compare-and-set on (state, attempt), and small changes beside the state. */
#include <stddef.h>
#include <string.h>

#include "common/loop.h"
#include "server/store/private.h"

/* Which columns a move changes and how; what the CASE expressions of the statement read. */
struct effect {
    int attempt_add, tries_keep, tries_add;
    int started; /* 1: now, unless it is set; -1: back to none */
    int64_t ended_us;
    int cancel_keep; /* 0: the request to cancel is forgotten */
    const char *reason, *reason_text;
};

static struct effect effect_of(enum job_state from, enum job_state to, const struct job_change *change) {
    struct effect effect = {.tries_keep = 1, .cancel_keep = 1, .reason = change->reason, .reason_text = change->reason_text};
    bool by_person = job_state_ended(from);
    if (to == JOB_STARTING)
        effect.attempt_add = effect.tries_add = effect.started = 1;
    if (to == JOB_QUEUED && by_person) {
        effect.tries_keep = effect.cancel_keep = 0;
        effect.started = -1;
    }
    if (to == JOB_QUEUED && change->uncounted)
        effect.tries_add = -1;
    if (job_state_ended(to))
        effect.ended_us = clock_unix_us();
    if (effect.reason == NULL && (by_person || job_state_ended(to)))
        effect.reason = "";
    return effect;
}

static const char move_sql[] =
    "UPDATE job SET state = ?4, attempt = attempt + ?5, tries = max(0, tries * ?6 + ?7), "
    "started_us = CASE ?8 WHEN 1 THEN iif(started_us = 0, ?9, started_us) WHEN -1 THEN 0 ELSE started_us END, ended_us = ?10, "
    "cancel_requested_us = cancel_requested_us * ?11, reason = coalesce(?12, reason), "
    "reason_text = iif(?12 IS NULL, reason_text, ?13), device = coalesce(?14, device), stopped_early = ?15, "
    "best_epoch = iif(?16 > 0, ?16, best_epoch) "
    "WHERE id = ?1 AND state = ?2 AND attempt = ?3";

int job_explain(struct store *store, const char *id, enum job_state from, int attempt, struct err *err) {
    struct job job;
    if (store_job_get(store, &viewer_daemon, id, &job, err) != 0)
        return -1;
    err_set(err, ERR_CONFLICT, "job %s is %s in attempt %d, no longer %s in attempt %d", id, job_state_name(job.state),
            job.attempt, job_state_name(from), attempt);
    job_done(&job);
    return -1;
}

int job_tell(struct store *store, const char *id, struct job *ret_job, struct err *err) {
    struct job job;
    if (store_job_get(store, &viewer_daemon, id, &job, err) != 0)
        return -1;
    int rc = event_add_job(store, &job, err);
    if (rc == 0 && ret_job != NULL)
        *ret_job = job;
    else
        job_done(&job);
    return rc;
}

/* Tells of a job that has moved. */
static int moved(struct store *store, const char *id, struct job *ret_job, struct err *err) {
    struct job job;
    if (job_tell(store, id, &job, err) != 0)
        return -1;
    int rc = verify_follow(store, &job, err);
    job_done(&job);
    return rc == 0 && ret_job != NULL ? store_job_get(store, &viewer_daemon, id, ret_job, err) : rc;
}

int store_job_move(struct store *store, const char *id, enum job_state from, int attempt, enum job_state to,
                   const struct job_change *change, struct job *ret_job, struct err *err) {
    if (!job_state_may(from, to))
        return err_set(err, ERR_INTERNAL, "a job cannot go from %s to %s", job_state_name(from), job_state_name(to));
    struct job_change none = {0};
    change = change != NULL ? change : &none;
    struct effect effect = effect_of(from, to, change);
    int changed = query_write(store, err, move_sql, "ssdsddddiidsssdd", id, job_state_name(from), attempt, job_state_name(to),
                              effect.attempt_add, effect.tries_keep, effect.tries_add, effect.started, clock_unix_us(),
                              effect.ended_us, effect.cancel_keep, effect.reason, effect.reason_text, change->device,
                              (int)change->stopped_early, change->best_epoch);
    if (changed < 0)
        return -1;
    store->arrivals += changed > 0 && to == JOB_QUEUED;
    return changed == 0 ? job_explain(store, id, from, attempt, err) : moved(store, id, ret_job, err);
}

/* The first job of a walk that fits. */
struct choice {
    const struct job_claim *claim;
    char id[JOB_ID_MAX]; /* "": none yet */
    int attempt;
};

static int choose(void *arg, const struct job *job) {
    struct choice *choice = arg;
    if (!choice->claim->fits(choice->claim->arg, job))
        return 0;
    memcpy(choice->id, job->id, sizeof choice->id);
    choice->attempt = job->attempt;
    return 1;
}

int store_job_claim(struct store *store, const struct job_claim *claim, struct job *ret_job, bool *ret_found, struct err *err) {
    struct choice choice = {.claim = claim};
    struct job_change change = {.device = claim->device};
    if (job_walk_queued(store, choose, &choice, err) != 0)
        return -1;
    bool found = choice.id[0] != '\0';
    if (found && store_job_move(store, choice.id, JOB_QUEUED, choice.attempt, JOB_STARTING, &change, ret_job, err) != 0)
        return -1;
    *ret_found = found;
    return 0;
}

int store_job_cancel_requested(struct store *store, const char *id, struct err *err) {
    static const char sql[] = "UPDATE job SET cancel_requested_us = ?2 WHERE id = ?1 AND cancel_requested_us = 0 AND state IN "
                              "('queued', 'starting', 'running')";
    int changed = query_write(store, err, sql, "si", id, clock_unix_us());
    if (changed < 0)
        return -1;
    return changed == 0 ? 0 : job_tell(store, id, NULL, err); /* asked before, or too late: nothing to tell */
}
