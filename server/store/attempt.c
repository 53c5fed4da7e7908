/* Attempts of a job: what each one's worker said of itself. */
#include "server/store/private.h"

int store_job_hello(struct store *store, const char *id, int attempt, const char *hello, struct err *err) {
    static const char newest_sql[] =
        "UPDATE job SET hello = ?3 WHERE id = ?1 AND attempt = ?2 AND state IN ('starting', 'running')";
    static const char sql[] = "INSERT INTO attempt (job, attempt, hello) SELECT seq, ?2, ?3 FROM job WHERE id = ?1";
    int changed = query_write(store, err, newest_sql, "sds", id, attempt, hello);
    if (changed < 0)
        return -1;
    if (changed == 0)
        return job_explain(store, id, JOB_STARTING, attempt, err);
    return query_write(store, err, sql, "sds", id, attempt, hello) < 0 ? -1 : 0;
}

int store_attempt_list(struct store *store, int64_t job_seq, store_attempt_fn *fn, void *arg, struct err *err) {
    sqlite3_stmt *stmt =
        query_start(store, err, "SELECT attempt, hello FROM attempt WHERE job = ?1 ORDER BY attempt", "i", job_seq);
    if (stmt == NULL)
        return -1;
    int row = 0, stop = 0;
    while (stop == 0 && (row = query_step(store, stmt, err)) > 0)
        stop = fn(arg, sqlite3_column_int(stmt, 0), query_text(stmt, 1));
    query_end(stmt);
    return row < 0 ? -1 : 0;
}
