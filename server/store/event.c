/* The events table: the only source of the stream, written by every change and read by replay and live alike. */
#include <stdlib.h>

#include "common/loop.h"
#include "server/store/private.h"

enum { PRUNE_ROWS = 5000 };

int event_add_owned(struct store *store, const char *job, int64_t owner, const char *type, const char *body, struct err *err) {
    static const char sql[] = "INSERT INTO event (job, owner, type, created_us, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    return query_write(store, err, sql, "sisis", job, owner, type, clock_unix_us(), body) < 0 ? -1 : 0;
}

int event_add_job(struct store *store, const struct job *job, struct err *err) {
    json_t *value = job_to_json(job);
    char *body = value != NULL ? json_text(value) : NULL;
    json_decref(value);
    if (body == NULL) { /* the move before it must not be committed without its event */
        err_set(&store->lost, ERR_MEMORY, "out of memory while writing an event");
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return err_set(err, ERR_MEMORY, "out of memory while writing an event");
    }
    int rc = event_add_owned(store, job->id, job->owner_account, "job", body, err);
    free(body);
    return rc;
}

int store_event_add(struct store *store, const char *job, const char *type, const char *body, struct err *err) {
    static const char sql[] =
        "INSERT INTO event (job, owner, type, created_us, body) SELECT id, owner, ?2, ?3, ?4 FROM job WHERE id "
        "= ?1";
    int changed = query_write(store, err, sql, "ssis", job, type, clock_unix_us(), body);
    return changed == 0 ? err_set(err, ERR_NOT_FOUND, "there is no job %.40s", job) : changed < 0 ? -1 : 0;
}

static const char list_sql[] = "SELECT id, job, type, body, owner FROM event WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
static const char list_job_sql[] =
    "SELECT id, job, type, body, owner FROM event WHERE id > ?1 AND id <= ?2 AND job = ?4 ORDER BY id LIMIT ?3";

/* Never past the newest committed one: what this turn wrote may still be undone. */
static sqlite3_stmt *list_start(struct store *store, const char *job, int64_t after, int limit, struct err *err) {
    if (job == NULL)
        return query_start(store, err, list_sql, "iid", after, store->newest, limit);
    return query_start(store, err, list_job_sql, "iids", after, store->newest, limit, job);
}

int store_event_list(struct store *store, const struct viewer *viewer, const char *job, int64_t after, int limit,
                     store_event_fn *fn, void *arg, int64_t *ret_scanned, struct err *err) {
    sqlite3_stmt *stmt = list_start(store, job, after, limit, err);
    if (stmt == NULL)
        return -1;
    int64_t scanned = after;
    int row = 0, rows = 0, stop = 0;
    while (stop == 0 && (row = query_step(store, stmt, err)) > 0) {
        struct event event = {sqlite3_column_int64(stmt, 0), query_text(stmt, 1), query_text(stmt, 2), query_text(stmt, 3)};
        rows++;
        if (store_visible(viewer, sqlite3_column_int64(stmt, 4)))
            stop = fn(arg, &event);
        scanned = event.id; /* a walk that ends early has seen its last event */
    }
    query_end(stmt);
    if (row < 0)
        return -1;
    if (stop == 0 && rows < limit && scanned < store->newest)
        scanned = store->newest;
    *ret_scanned = scanned;
    return 0;
}

int store_event_prune(struct store *store, int64_t older_than_us, bool *ret_more, struct err *err) {
    static const char sql[] = "DELETE FROM event WHERE id IN (SELECT event.id FROM job JOIN event ON event.job = job.id WHERE "
                              "event.type = 'progress' AND "
                              "job.ended_us > 0 AND job.ended_us < ?1 LIMIT ?2)";
    int changed = query_write(store, err, sql, "id", older_than_us, (int)PRUNE_ROWS);
    if (changed < 0)
        return -1;
    *ret_more = changed == PRUNE_ROWS;
    return 0;
}
