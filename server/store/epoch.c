/* Epochs of a job: each stored once, in order, with its event. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "server/store/private.h"

/* Why an epoch is not the next one: known already (0, not new), or wrong. */
static int explain(struct store *store, const char *id, int attempt, int epoch, bool *ret_new, struct err *err) {
    struct job job;
    if (store_job_get(store, &viewer_daemon, id, &job, err) != 0)
        return -1;
    int rc = 0;
    if (job.attempt != attempt || job.state != JOB_RUNNING)
        rc = err_set(err, ERR_CONFLICT, "job %s is %s in attempt %d; epoch %d came from attempt %d", id,
                     job_state_name(job.state), job.attempt, epoch, attempt);
    else if (epoch < 1 || epoch > job.epochs_done)
        rc = err_set(err, ERR_CONFLICT, "epoch %d of job %s cannot be stored: %d of %d are there", epoch, id, job.epochs_done,
                     job.epochs);
    else
        *ret_new = false;
    job_done(&job);
    return rc;
}

/* The event's data is the body with "job" before the rest. */
static int add_event(struct store *store, const char *job, const char *body, struct err *err) {
    size_t size = strlen(job) + strlen(body) + sizeof "{\"job\":\"\",";
    char *data = malloc(size);
    if (data == NULL) {
        err_set(&store->lost, ERR_MEMORY, "out of memory while writing an event");
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return err_set(err, ERR_MEMORY, "out of memory while writing an event");
    }
    snprintf(data, size, "{\"job\":\"%s\",%s", job, body + 1);
    int rc = store_event_add(store, job, "epoch", data, err);
    free(data);
    return rc;
}

static int insert(struct store *store, const char *job, int attempt, const struct epoch_new *new, struct err *err) {
    static const char sql[] = "INSERT INTO epoch (job, epoch, attempt, created_us, weights_sha256, exported_sha256, body) "
                              "SELECT seq, ?2, ?3, ?4, ?5, ?6, ?7 FROM job WHERE id = ?1";
    if (query_write(store, err, sql, "sddisss", job, new->epoch, attempt, clock_unix_us(), new->weights_sha256,
                    new->exported_sha256, new->body) < 0)
        return -1;
    return add_event(store, job, new->body, err);
}

int store_epoch_add(struct store *store, const char *job, int attempt, const struct epoch_new *new, bool *ret_new,
                    struct err *err) {
    static const char sql[] = "UPDATE job SET epochs_done = ?3, test_accuracy = ?4, best_epoch = iif(?5, ?3, best_epoch) WHERE "
                              "id = ?1 AND attempt = ?2 "
                              "AND state = 'running' AND epochs_done = ?3 - 1 AND ?3 <= epochs";
    if (new->body[0] != '{' || new->body[1] == '}')
        return err_set(err, ERR_INTERNAL, "an epoch's body must be a JSON object with members");
    int changed = query_write(store, err, sql, "sddrd", job, attempt, new->epoch, new->test_accuracy, (int)new->best);
    if (changed < 0)
        return -1;
    if (changed == 0)
        return explain(store, job, attempt, new->epoch, ret_new, err);
    if (insert(store, job, attempt, new, err) != 0)
        return -1;
    *ret_new = true;
    return 0;
}

static int walk(struct store *store, int64_t seq, int after, int limit, store_epoch_fn *fn, void *arg, struct err *err) {
    static const char sql[] = "SELECT epoch, body FROM epoch WHERE job = ?1 AND epoch > ?2 ORDER BY epoch LIMIT ?3";
    sqlite3_stmt *stmt = query_start(store, err, sql, "idd", seq, after, limit);
    if (stmt == NULL)
        return -1;
    int row = 0, stop = 0;
    while (stop == 0 && (row = query_step(store, stmt, err)) > 0)
        stop = fn(arg, sqlite3_column_int(stmt, 0), query_text(stmt, 1));
    query_end(stmt);
    return row < 0 ? -1 : 0;
}

int store_epoch_list(struct store *store, const struct viewer *viewer, const char *job, int after, int limit, store_epoch_fn *fn,
                     void *arg, struct err *err) {
    static const char sql[] = "SELECT coalesce(max(seq), 0) FROM job WHERE id = ?1 AND visible(owner, ?2, ?3)";
    int64_t seq = 0;
    if (query_number(store, err, &seq, sql, "sid", job, viewer->account, (int)viewer->sees_all) != 0)
        return -1;
    if (seq == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no job %.40s", job);
    return walk(store, seq, after, limit, fn, arg, err);
}

int store_weights_list(struct store *store, int64_t job_seq, store_weights_fn *fn, void *arg, struct err *err) {
    static const char sql[] = "SELECT epoch, attempt, weights_sha256, exported_sha256 FROM epoch WHERE job = ?1 ORDER BY epoch";
    sqlite3_stmt *stmt = query_start(store, err, sql, "i", job_seq);
    if (stmt == NULL)
        return -1;
    int row = 0, stop = 0;
    while (stop == 0 && (row = query_step(store, stmt, err)) > 0)
        stop = fn(arg, &(struct store_weights){.epoch = sqlite3_column_int(stmt, 0),
                                               .attempt = sqlite3_column_int(stmt, 1),
                                               .weights_sha256 = query_text(stmt, 2),
                                               .exported_sha256 = query_text(stmt, 3)});
    query_end(stmt);
    return row < 0 ? -1 : 0;
}

int store_weights_get(struct store *store, const char *job, int epoch, char ret_sha256[WEIGHTS_SHA256_MAX], struct err *err) {
    static const char sql[] =
        "SELECT epoch.weights_sha256 FROM epoch JOIN job ON job.seq = epoch.job WHERE job.id = ?1 AND epoch.epoch = ?2";
    sqlite3_stmt *stmt = query_start(store, err, sql, "sd", job, epoch);
    if (stmt == NULL)
        return -1;
    int row = query_step(store, stmt, err);
    if (row >= 0)
        snprintf(ret_sha256, WEIGHTS_SHA256_MAX, "%s", row > 0 ? query_text(stmt, 0) : "");
    query_end(stmt);
    return row < 0 ? -1 : 0;
}
