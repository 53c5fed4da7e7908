/* A job that runs another one again: its weights are compared after every epoch. */
#include <string.h>

#include "server/sched/private.h"

static int set(struct attempt *attempt, enum verify_result result, int epoch, struct err *err) {
    if (store_verify_set(attempt->sched->options.store, attempt->job.id, result, epoch, err) != 0)
        return -1;
    attempt->job.verification.result = result;
    return 0;
}

int attempt_verify_epoch(struct attempt *attempt, int epoch, const char *sha256, struct err *err) {
    char expected[WEIGHTS_SHA256_MAX];
    if (attempt->job.verifies[0] == '\0')
        return 0;
    if (attempt->job.verification.result == VERIFY_PENDING) {
        if (store_weights_get(attempt->sched->options.store, attempt->job.verifies, epoch, expected, err) != 0)
            return -1;
        if (strcmp(expected, sha256) != 0 && set(attempt, VERIFY_DIFFERS, epoch, err) != 0)
            return -1;
    }
    bool differs = attempt->job.verification.result == VERIFY_DIFFERS;
    if (differs && epoch < attempt->job.epochs && attempt->stop == STOP_NONE)
        attempt->stop = STOP_DIFFERS; /* sent after the commit */
    return 0;
}

int attempt_verify_end(struct attempt *attempt, const struct job *job, struct err *err) {
    struct job verified;
    if (job->verification.result != VERIFY_PENDING || job->verifies[0] == '\0')
        return 0;
    if (store_job_get(attempt->sched->options.store, &daemon_viewer, job->verifies, &verified, err) != 0)
        return -1;
    bool same = verified.epochs_done == job->epochs_done; /* or it did not stop early at the same place */
    job_done(&verified);
    return set(attempt, same ? VERIFY_IDENTICAL : VERIFY_DIFFERS, same ? 0 : job->epochs_done + 1, err);
}

int verify_check_retry(const struct sched *sched, const struct job *job, struct err *err) {
    struct job verified;
    struct err why = {0};
    if (job->verifies[0] == '\0')
        return 0;
    if (job->verification.result == VERIFY_DIFFERS)
        return err_set(err, ERR_CONFLICT, "job %s has its answer: it differs from job %s after epoch %d", job->id, job->verifies,
                       job->verification.epoch);
    if (store_job_get(sched->options.store, &daemon_viewer, job->verifies, &verified, &why) != 0)
        return err_set(err, why.code == ERR_NOT_FOUND ? ERR_CONFLICT : why.code, "job %s cannot go on verifying job %s: %s",
                       job->id, job->verifies, why.text);
    job_done(&verified);
    return 0;
}
