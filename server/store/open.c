/* Opening and closing the store: lock file, connection, settings, migrations, jobs that a dead daemon left behind. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/store/private.h"

/* Settings of the connection, each read back: a setting that does not stick refuses to start. */
static const struct setting {
    const char *set, *get, *expected;
} settings[] = {
    {"PRAGMA busy_timeout = 5000", "PRAGMA busy_timeout", "5000"},
    {"PRAGMA trusted_schema = OFF", "PRAGMA trusted_schema", "0"},
    {"PRAGMA cell_size_check = ON", "PRAGMA cell_size_check", "1"},
    {"PRAGMA mmap_size = 0", "PRAGMA mmap_size", "0"},
    {"PRAGMA cache_size = -2000", "PRAGMA cache_size", "-2000"}, /* 2 MB: the whole idle daemon stays small */
    {"PRAGMA temp_store = MEMORY", "PRAGMA temp_store", "2"},
    {"PRAGMA foreign_keys = ON", "PRAGMA foreign_keys", "1"},
    {"PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal"},
    {"PRAGMA synchronous = FULL", "PRAGMA synchronous", "2"}, /* a 202 is a promise, also when the power goes */
    {"PRAGMA journal_size_limit = 67108864", "PRAGMA journal_size_limit", "67108864"},
    {"PRAGMA wal_autocheckpoint = 0", "PRAGMA wal_autocheckpoint", "0"}, /* store_commit does it */
};

static int setting_apply(sqlite3 *db, const struct setting *setting, struct err *err) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_exec(db, setting->set, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, setting->get, -1, &stmt, NULL) != SQLITE_OK)
        return query_fail(db, err, setting->set);
    /* A pragma that this SQLite was built without gives no row: it cannot do what we would switch off. */
    int step = sqlite3_step(stmt), rc = 0;
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        rc = query_fail(db, err, setting->get);
    else if (step == SQLITE_ROW && strcmp(query_text(stmt, 0), setting->expected) != 0)
        rc = err_set(err, ERR_STORE, "%s did not stick: it is %s and should be %s", setting->set, query_text(stmt, 0),
                     setting->expected);
    sqlite3_finalize(stmt);
    return rc;
}

static int settings_apply(sqlite3 *db, struct err *err) {
    static const int config[][2] = {{SQLITE_DBCONFIG_DEFENSIVE, 1}, {SQLITE_DBCONFIG_DQS_DML, 0}, {SQLITE_DBCONFIG_DQS_DDL, 0}};
    for (size_t i = 0; i < sizeof config / sizeof config[0]; i++) {
        if (sqlite3_db_config(db, config[i][0], config[i][1], NULL) != SQLITE_OK)
            return query_fail(db, err, "set a connection option");
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (setting_apply(db, &settings[i], err) != 0)
            return -1;
    }
    return 0;
}

/* visible(owner, account, sees_all): store_visible for SQL, so that there is one rule. */
static void visible(sqlite3_context *context, int n, sqlite3_value **values) {
    (void)n;
    struct viewer viewer = {.account = sqlite3_value_int64(values[1]), .sees_all = sqlite3_value_int(values[2]) != 0};
    sqlite3_result_int(context, store_visible(&viewer, sqlite3_value_int64(values[0])));
}

static int wal_grew(void *arg, sqlite3 *db, const char *name, int pages) {
    struct store *store = arg;
    (void)db, (void)name;
    store->wal_pages = pages;
    return SQLITE_OK;
}

/* A lock of the process (fcntl), not of the descriptor (flock): a child between fork and exec does not hold it, so a daemon that
 * was killed can be started again at once. Nothing else in the process may open and close the file: that would drop the lock. */
static int lock(struct store *store, const char *dir, struct err *err) {
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/residuum.lock", dir) >= sizeof path)
        return err_set(err, ERR_STORE, "the data directory's path is longer than %zu bytes", sizeof path);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0)
        return err_errno(err, ERR_STORE, errno, "cannot open the lock file %s", path);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(store->lock_fd, F_SETLK, &whole) == 0)
        return 0;
    if (errno == EACCES || errno == EAGAIN)
        return err_set(err, ERR_STORE, "another residuumd uses the data directory %s: stop it, or choose another with --data",
                       dir);
    return err_errno(err, ERR_STORE, errno, "cannot lock %s", path);
}

/* The database's own name must be on disk too, before the first promise. */
static int sync_dir(const char *dir, struct err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);
    if (rc != 0)
        err_errno(err, ERR_STORE, errno, "cannot sync the data directory %s", dir);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int connect_db(struct store *store, const char *dir, struct err *err) {
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/residuum.db", dir) >= sizeof path)
        return err_set(err, ERR_STORE, "the data directory's path is longer than %zu bytes", sizeof path);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK)
        return store->db != NULL ? query_fail(store->db, err, "open residuum.db")
                                 : err_set(err, ERR_MEMORY, "out of memory while opening %s", path);
    if (settings_apply(store->db, err) != 0)
        return -1;
    sqlite3_wal_hook(store->db, wal_grew, store);
    if (sqlite3_create_function(store->db, "visible", 3, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL, visible,
                                NULL, NULL) != SQLITE_OK)
        return query_fail(store->db, err, "add a function");
    return sync_dir(dir, err);
}

/* One job that was starting or running when its daemon died; ret_found is false when there is none left. Its worker notices the
 * end of its input and stops; the attempt does not count, as the job is not to blame. */
static int recover_one(struct store *store, bool *ret_found, struct err *err) {
    static const char sql[] =
        "SELECT id, state, attempt, cancel_requested_us FROM job WHERE state IN ('starting', 'running') LIMIT 1";
    sqlite3_stmt *stmt = query_start(store, err, sql, "");
    if (stmt == NULL)
        return -1;
    int row = query_step(store, stmt, err);
    char id[JOB_ID_MAX];
    snprintf(id, sizeof id, "%s", row > 0 ? query_text(stmt, 0) : "");
    enum job_state state = JOB_STARTING;
    bool known = row > 0 && job_state_parse(query_text(stmt, 1), &state);
    int attempt = sqlite3_column_int(stmt, 2);
    bool cancel = sqlite3_column_int64(stmt, 3) != 0;
    query_end(stmt);
    *ret_found = known;
    if (!known)
        return row < 0 ? -1 : 0;
    struct job_change change = {.reason = err_name(ERR_UNAVAILABLE),
                                .reason_text = "residuumd ended while the job ran; it goes on from its last checkpoint",
                                .uncounted = true};
    struct job_change none = {0};
    return store_job_move(store, id, state, attempt, cancel ? JOB_CANCELLED : JOB_QUEUED, cancel ? &none : &change, NULL, err);
}

static int recover(struct store *store, struct err *err) {
    bool found = true;
    while (found) {
        if (recover_one(store, &found, err) != 0)
            return -1;
    }
    /* An empty commit reads the newest event's id. */
    if (store_begin(store, err) != 0)
        return -1;
    return store_commit(store, NULL, err);
}

int store_open_with(const char *dir, const struct migration *known, size_t n, struct store **ret_store, struct err *err) {
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while opening the store");
    store->lock_fd = -1;
    if (lock(store, dir, err) != 0 || connect_db(store, dir, err) != 0 || schema_apply(store->db, known, n, err) != 0 ||
        recover(store, err) != 0) {
        store_close(store);
        return -1;
    }
    *ret_store = store;
    return 0;
}

int store_open(const char *dir, struct store **ret_store, struct err *err) {
    return store_open_with(dir, migrations, migrations_n, ret_store, err);
}

void store_close(struct store *store) {
    if (store == NULL)
        return;
    for (int i = 0; i < store->statements_n; i++)
        sqlite3_finalize(store->statements[i].stmt);
    if (store->db != NULL && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(store->db); /* the last connection moves the log into the database file and removes it */
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store);
}
