/* Verifications: a job that runs another one again marks both with what came out. */
#include <string.h>

#include "server/store/private.h"

static const char *const names[VERIFY_RESULTS_N] = {
#define VERIFY_NAME(name, text) [name] = text,
    VERIFY_RESULTS(VERIFY_NAME)
#undef VERIFY_NAME
};

const char *verify_result_name(enum verify_result result) {
    return names[result];
}

bool verify_result_parse(const char *name, enum verify_result *ret_result) {
    for (int i = 0; i < VERIFY_RESULTS_N; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        *ret_result = (enum verify_result)i;
        return true;
    }
    return false;
}

int verify_begin(struct store *store, const char *verifier, const char *verified, struct err *err) {
    static const char sql[] = "UPDATE job SET verify_job = ?2, verify_result = 'pending', verify_epoch = 0 WHERE id = ?1";
    if (query_write(store, err, sql, "ss", verifier, verified) < 0 || query_write(store, err, sql, "ss", verified, verifier) < 0)
        return -1;
    return job_tell(store, verified, NULL, err); /* the verifier's first event follows */
}

int store_verify_set(struct store *store, const char *verifier, enum verify_result result, int epoch, struct err *err) {
    static const char own_sql[] = "UPDATE job SET verify_result = ?2, verify_epoch = ?3 WHERE id = ?1 AND verifies <> ''";
    static const char other_sql[] = "UPDATE job SET verify_result = ?2, verify_epoch = ?3 WHERE verify_job = ?1 AND id = "
                                    "(SELECT verifies FROM job WHERE id = ?1)";
    struct job job;
    if (query_write(store, err, own_sql, "ssd", verifier, verify_result_name(result), epoch) < 0)
        return -1;
    int other = query_write(store, err, other_sql, "ssd", verifier, verify_result_name(result), epoch);
    if (other < 0 || job_tell(store, verifier, &job, err) != 0)
        return -1;
    int rc = other > 0 ? job_tell(store, job.verifies, NULL, err) : 0;
    job_done(&job);
    return rc;
}

int verify_follow(struct store *store, const struct job *verifier, struct err *err) {
    bool ended = verifier->state == JOB_FAILED || verifier->state == JOB_CANCELLED;
    if (verifier->verifies[0] == '\0')
        return 0;
    if (ended && verifier->verification.result == VERIFY_PENDING)
        return store_verify_set(store, verifier->id, VERIFY_UNFINISHED, 0, err);
    if (!job_state_ended(verifier->state) && verifier->verification.result == VERIFY_UNFINISHED)
        return store_verify_set(store, verifier->id, VERIFY_PENDING, 0, err);
    return 0;
}

int verify_check_unused(struct store *store, const char *id, struct err *err) {
    static const char sql[] =
        "SELECT count(*) FROM job WHERE verifies = ?1 AND verifies <> '' AND state IN ('queued', 'starting', 'running')";
    int64_t n = 0;
    if (query_number(store, err, &n, sql, "s", id) != 0)
        return -1;
    return n == 0 ? 0 : err_set(err, ERR_CONFLICT, "job %s is being verified; cancel the job that verifies it first", id);
}
