/* Transactions of the store: one per loop turn, begun by the first write, ended by store_commit with one sync. */
#include "server/store/private.h"

static int run(struct store *store, const char *sql, const char *tried, struct err *err) {
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : query_fail(store->db, err, tried);
}

int store_begin(struct store *store, struct err *err) {
    if (store->lost.code != ERR_NONE)
        return err_set(err, store->lost.code, "%s", store->lost.text);
    if (store->in_turn)
        return 0;
    if (run(store, "BEGIN IMMEDIATE", "begin a transaction", err) != 0)
        return -1;
    store->in_turn = true;
    return 0;
}

static int commit(struct store *store, struct err *err) {
    static const char newest_sql[] = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'";
    int64_t newest = 0;
    if (store->lost.code != ERR_NONE)
        return err_set(err, store->lost.code, "%s", store->lost.text);
    if (query_number(store, err, &newest, newest_sql, "") != 0)
        return -1;
    if (run(store, "COMMIT", "commit a transaction", err) != 0)
        return -1;
    store->newest = newest;
    return 0;
}

/* Keeps the log file short. A reader that holds it back (somebody's sqlite3 -readonly) is no failure. */
static int checkpoint(struct store *store, int mode, struct err *err) {
    int rc = sqlite3_wal_checkpoint_v2(store->db, NULL, mode, NULL, NULL);
    if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED || (rc & 0xff) == SQLITE_FULL)
        return 0;
    return query_fail(store->db, err, "move its log into the database file");
}

int store_commit(struct store *store, bool *ret_wrote, struct err *err) {
    bool wrote = store->in_turn || store->lost.code != ERR_NONE;
    if (ret_wrote != NULL)
        *ret_wrote = wrote;
    if (!wrote)
        return 0;
    int rc = commit(store, err);
    if (rc != 0 && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store->in_turn = false;
    store->lost = (struct err){0};
    if (rc == 0 && store->wal_pages > WAL_PAGES_MAX)
        rc = checkpoint(store, SQLITE_CHECKPOINT_PASSIVE, err);
    return rc;
}

bool store_pending(const struct store *store) {
    return store->in_turn;
}

int store_tidy(struct store *store, struct err *err) {
    if (store->in_turn || store->wal_pages == 0)
        return 0;
    if (checkpoint(store, SQLITE_CHECKPOINT_TRUNCATE, err) != 0)
        return -1;
    store->wal_pages = 0;
    return 0;
}

int store_savepoint(struct store *store, struct err *err) {
    if (store_begin(store, err) != 0)
        return -1;
    return run(store, "SAVEPOINT request", "set a savepoint", err);
}

int store_release(struct store *store, struct err *err) {
    if (store_begin(store, err) != 0) /* the turn was lost meanwhile */
        return -1;
    return run(store, "RELEASE request", "release a savepoint", err);
}

void store_rollback(struct store *store) {
    if (store->lost.code != ERR_NONE || !store->in_turn)
        return; /* undone already, the savepoint with it */
    if (run(store, "ROLLBACK TO request; RELEASE request", "undo a request", &store->lost) != 0)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

int64_t store_event_newest(const struct store *store) {
    return store->newest;
}

const char *store_engine(void) {
    return sqlite3_libversion();
}
