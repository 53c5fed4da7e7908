/* Jobs: added, read, listed, counted, deleted. Moves between states are in job_move.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/loop.h"
#include "server/store/private.h"

#define JOB_SELECT                                                                                                      \
    "SELECT job.seq, job.id, job.owner, account.name, job.state, job.attempt, job.tries, job.epochs_done, job.epochs, " \
    "job.spec, job.hello, job.device, job.reason, job.reason_text, job.created_us, job.started_us, job.ended_us, "      \
    "job.cancel_requested_us, job.best_epoch, job.stopped_early, job.test_accuracy, job.verifies, job.verify_job, "     \
    "job.verify_result, job.verify_epoch, job.dataset FROM job JOIN account ON account.id = job.owner "

void job_done(struct job *job) {
    free(job->spec);
    free(job->hello);
    free(job->reason_text);
    *job = (struct job){0};
}

/* Fills a job from a row of JOB_SELECT. */
static int load(sqlite3_stmt *stmt, struct job *ret_job, struct err *err) {
    struct job job = {
        .seq = sqlite3_column_int64(stmt, 0),
        .owner_account = sqlite3_column_int64(stmt, 2),
        .attempt = sqlite3_column_int(stmt, 5),
        .tries = sqlite3_column_int(stmt, 6),
        .epochs_done = sqlite3_column_int(stmt, 7),
        .epochs = sqlite3_column_int(stmt, 8),
        .created_us = sqlite3_column_int64(stmt, 14),
        .started_us = sqlite3_column_int64(stmt, 15),
        .ended_us = sqlite3_column_int64(stmt, 16),
        .cancel_requested_us = sqlite3_column_int64(stmt, 17),
        .best_epoch = sqlite3_column_int(stmt, 18),
        .stopped_early = sqlite3_column_int(stmt, 19) != 0,
        .test_accuracy = sqlite3_column_type(stmt, 20) == SQLITE_NULL ? NAN : sqlite3_column_double(stmt, 20),
        .verification.epoch = sqlite3_column_int(stmt, 24),
    };
    snprintf(job.id, sizeof job.id, "%s", query_text(stmt, 1));
    snprintf(job.owner, sizeof job.owner, "%s", query_text(stmt, 3));
    snprintf(job.device, sizeof job.device, "%s", query_text(stmt, 11));
    snprintf(job.reason, sizeof job.reason, "%s", query_text(stmt, 12));
    snprintf(job.verifies, sizeof job.verifies, "%s", query_text(stmt, 21));
    snprintf(job.dataset, sizeof job.dataset, "%s", query_text(stmt, 25));
    snprintf(job.verification.job, sizeof job.verification.job, "%s", query_text(stmt, 22));
    if (!job_state_parse(query_text(stmt, 4), &job.state) || !verify_result_parse(query_text(stmt, 23), &job.verification.result))
        return err_set(err, ERR_STORE, "job %s is in the unknown state '%s', its verification '%s'", job.id, query_text(stmt, 4),
                       query_text(stmt, 23));
    if (query_dup(stmt, 9, &job.spec, err) != 0 || query_dup(stmt, 10, &job.hello, err) != 0 ||
        query_dup(stmt, 13, &job.reason_text, err) != 0) {
        job_done(&job);
        return -1;
    }
    *ret_job = job;
    return 0;
}

int id_make(const char *prefix, char ret_id[JOB_ID_MAX], struct err *err) {
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    enum { LENGTH = 22, BASE = 62, FAIR = 256 / BASE * BASE }; /* bytes from FAIR on would favour the first digits */
    char id[JOB_ID_MAX] = "";
    size_t used = strlen(prefix), end = used + LENGTH;
    memcpy(id, prefix, used);
    while (used < end) {
        unsigned char bytes[32];
        if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
            return err_set(err, ERR_INTERNAL, "the kernel gave no random numbers for an id");
        for (size_t i = 0; i < sizeof bytes && used < end; i++) {
            if (bytes[i] < FAIR)
                id[used++] = digits[bytes[i] % BASE];
        }
    }
    memcpy(ret_id, id, sizeof id);
    return 0;
}

int store_job_get(struct store *store, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err) {
    static const char sql[] = JOB_SELECT "WHERE job.id = ?1 AND visible(job.owner, ?2, ?3)";
    sqlite3_stmt *stmt = query_start(store, err, sql, "sid", id, viewer->account, (int)viewer->sees_all);
    if (stmt == NULL)
        return -1;
    int rc = query_step(store, stmt, err);
    if (rc == 0)
        rc = err_set(err, ERR_NOT_FOUND, "there is no job %.40s", id);
    else if (rc > 0)
        rc = load(stmt, ret_job, err);
    query_end(stmt);
    return rc;
}

int store_job_add(struct store *store, const struct viewer *owner, const struct job_new *new, struct job *ret_job,
                  struct err *err) {
    static const char sql[] =
        "INSERT INTO job (id, owner, epochs, spec, created_us, verifies, dataset) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    char id[JOB_ID_MAX];
    if (id_make("job_", id, err) != 0 ||
        query_write(store, err, sql, "sidsiss", id, owner->account, new->epochs, new->spec, clock_unix_us(),
                    new->verifies != NULL ? new->verifies : "", new->dataset) < 0)
        return -1;
    if (new->verifies != NULL && verify_begin(store, id, new->verifies, err) != 0)
        return -1;
    store->arrivals++;
    return job_tell(store, id, ret_job, err);
}

static int walk(struct store *store, sqlite3_stmt *stmt, store_job_fn *fn, void *arg, struct err *err) {
    if (stmt == NULL)
        return -1;
    int row, stop = 0, rc = 0;
    while (stop == 0 && rc == 0 && (row = query_step(store, stmt, err)) != 0) {
        struct job job = {0};
        rc = row < 0 ? -1 : load(stmt, &job, err);
        if (rc == 0)
            stop = fn(arg, &job);
        job_done(&job);
    }
    query_end(stmt);
    return rc;
}

int store_job_list(struct store *store, const struct viewer *viewer, unsigned states, int64_t before, int limit, store_job_fn *fn,
                   void *arg, struct err *err) {
    static const char all_sql[] = JOB_SELECT "WHERE job.seq < ?1 AND visible(job.owner, ?2, ?3) ORDER BY job.seq DESC LIMIT ?4";
    static const char some_sql[] =
        JOB_SELECT "WHERE job.seq < ?1 AND visible(job.owner, ?2, ?3) AND job.state IN (?5, ?6, ?7, ?8, "
                   "?9, ?10) ORDER BY job.seq DESC LIMIT ?4";
    if (before == 0)
        before = INT64_MAX;
    int sees_all = viewer->sees_all;
    if (states == 0)
        return walk(store, query_start(store, err, all_sql, "iidd", before, viewer->account, sees_all, limit), fn, arg, err);
    const char *names[JOB_STATES_N];
    for (int i = 0; i < JOB_STATES_N; i++) /* NULL is in no list */
        names[i] = states & 1U << i ? job_state_name((enum job_state)i) : NULL;
    sqlite3_stmt *stmt = query_start(store, err, some_sql, "iiddssssss", before, viewer->account, sees_all, limit, names[0],
                                     names[1], names[2], names[3], names[4], names[5]);
    return walk(store, stmt, fn, arg, err);
}

int job_walk_queued(struct store *store, store_job_fn *fn, void *arg, struct err *err) {
    static const char sql[] = JOB_SELECT "WHERE job.state = 'queued' ORDER BY job.seq";
    return walk(store, query_start(store, err, sql, ""), fn, arg, err);
}

int64_t store_job_arrivals(const struct store *store) {
    return store->arrivals;
}

int store_job_counts(struct store *store, int64_t ret_counts[JOB_STATES_N], struct err *err) {
    sqlite3_stmt *stmt = query_start(store, err, "SELECT state, count(*) FROM job GROUP BY state", "");
    if (stmt == NULL)
        return -1;
    int64_t counts[JOB_STATES_N] = {0};
    int row;
    while ((row = query_step(store, stmt, err)) > 0) {
        enum job_state state;
        if (job_state_parse(query_text(stmt, 0), &state))
            counts[state] = sqlite3_column_int64(stmt, 1);
    }
    query_end(stmt);
    if (row == 0)
        memcpy(ret_counts, counts, sizeof counts);
    return row;
}

int store_job_position(struct store *store, int64_t seq, int64_t *ret_position, struct err *err) {
    return query_number(store, err, ret_position, "SELECT count(*) FROM job WHERE state = 'queued' AND seq < ?1", "i", seq);
}

static int delete_rows(struct store *store, const struct job *job, struct err *err) {
    char body[96];
    snprintf(body, sizeof body, "{\"id\":\"%s\",\"state\":\"deleted\"}", job->id);
    if (query_write(store, err, "DELETE FROM event WHERE job = ?1", "s", job->id) < 0 ||
        query_write(store, err, "DELETE FROM job WHERE seq = ?1", "i", job->seq) < 0) /* its epochs follow */
        return -1;
    return event_add_owned(store, job->id, job->owner_account, "job", body, err);
}

int store_job_delete(struct store *store, const struct viewer *viewer, const char *id, struct err *err) {
    struct job job;
    if (store_job_get(store, viewer, id, &job, err) != 0)
        return -1;
    int rc;
    if (job_state_ended(job.state))
        rc = verify_check_unused(store, id, err) == 0 ? delete_rows(store, &job, err) : -1;
    else
        rc = err_set(err, ERR_CONFLICT, "job %s is %s; only a job that has ended can be deleted: cancel it first", job.id,
                     job_state_name(job.state));
    job_done(&job);
    return rc;
}
