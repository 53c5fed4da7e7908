/* Idempotency keys of submissions: a repeated request finds the job of the first one. */
#include <stdio.h>
#include <string.h>

#include "common/loop.h"
#include "server/store/private.h"

static const int64_t life_us = 24 * INT64_C(3600) * 1000000;

int store_idempotency_get(struct store *store, const struct viewer *viewer, const char *key, const char *body_sha256,
                          char ret_job_id[JOB_ID_MAX], struct err *err) {
    static const char sql[] = "SELECT body_sha256, job FROM idempotency WHERE account = ?1 AND key = ?2 AND created_us > ?3";
    sqlite3_stmt *stmt = query_start(store, err, sql, "isi", viewer->account, key, clock_unix_us() - life_us);
    if (stmt == NULL)
        return -1;
    int rc = query_step(store, stmt, err);
    if (rc > 0 && strcmp(query_text(stmt, 0), body_sha256) != 0)
        rc = err_set(err, ERR_IDEMPOTENCY, "this Idempotency-Key was used with another body; choose a new key for a new request");
    if (rc >= 0)
        snprintf(ret_job_id, JOB_ID_MAX, "%s", rc > 0 ? query_text(stmt, 1) : "");
    query_end(stmt);
    return rc < 0 ? -1 : 0;
}

int store_idempotency_put(struct store *store, const struct viewer *viewer, const char *key, const char *body_sha256,
                          const char *job_id, struct err *err) {
    static const char forget_sql[] = "DELETE FROM idempotency WHERE created_us <= ?1";
    static const char sql[] = "INSERT INTO idempotency (account, key, body_sha256, job, created_us) VALUES (?1, ?2, ?3, ?4, ?5)";
    int64_t now_us = clock_unix_us();
    if (query_write(store, err, forget_sql, "i", now_us - life_us) < 0)
        return -1;
    return query_write(store, err, sql, "isssi", viewer->account, key, body_sha256, job_id, now_us) < 0 ? -1 : 0;
}
