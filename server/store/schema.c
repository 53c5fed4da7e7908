/* Migrations: numbered SQL files, each applied once in a transaction of its own, remembered by name and SHA-256. */
#include <stdio.h>
#include <string.h>

#include "common/loop.h"
#include "common/sha256.h"
#include "server/store/private.h"

enum { APPLICATION_ID = 0x52534432 }; /* set by the first migration */

static int run(sqlite3 *db, const char *sql, const char *tried, struct err *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : query_fail(db, err, tried);
}

static int number(sqlite3 *db, const char *sql, int64_t *ret_number, struct err *err) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return query_fail(db, err, "read its schema");
    int rc = 0;
    if (sqlite3_step(stmt) == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(stmt, 0);
    else
        rc = query_fail(db, err, "read its schema");
    sqlite3_finalize(stmt);
    return rc;
}

/* An empty file becomes ours; one with tables of somebody else's is refused. */
static int check_owner(sqlite3 *db, struct err *err) {
    int64_t id = 0, tables = 0;
    if (number(db, "PRAGMA application_id", &id, err) != 0 || number(db, "SELECT count(*) FROM sqlite_schema", &tables, err) != 0)
        return -1;
    if (tables > 0 && id != APPLICATION_ID)
        return err_set(err, ERR_STORE,
                       "residuum.db is a database of another program (application id 0x%08x, expected 0x%08x); choose another "
                       "data directory",
                       (unsigned)id, (unsigned)APPLICATION_ID);
    return 0;
}

/* Compares one recorded migration with the known ones. */
static int check_applied(const struct migration *known, size_t n, int expected, int found, const char *name, const char *sha256,
                         struct err *err) {
    if (found != expected)
        return err_set(err, ERR_STORE,
                       "the database lacks migration %d though %d was applied: it was damaged or edited; restore "
                       "it from a backup",
                       expected, found);
    if ((size_t)found > n)
        return err_set(
            err, ERR_STORE,
            "the database was written by a newer residuumd (migration %d, %s; this one knows %zu): start the newer one", found,
            name, n);
    const struct migration *mine = &known[found - 1];
    char mine_sha256[65];
    sha256_hex(mine->text, mine->size, mine_sha256);
    if (strcmp(name, mine->name) != 0 || strcmp(sha256, mine_sha256) != 0)
        return err_set(err, ERR_STORE,
                       "migration %d changed after it was applied (%s, SHA-256 %.12s; now %s, %.12s): start the residuumd that "
                       "wrote this database, or restore the file",
                       found, name, sha256, mine->name, mine_sha256);
    return 0;
}

static int check_all_applied(sqlite3 *db, const struct migration *known, size_t n, int *ret_applied, struct err *err) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, "SELECT number, name, sha256 FROM migration ORDER BY number", -1, &stmt, NULL) != SQLITE_OK)
        return query_fail(db, err, "read its migrations");
    int applied = 0, step = SQLITE_DONE, rc = 0;
    while (rc == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        applied++;
        rc = check_applied(known, n, applied, sqlite3_column_int(stmt, 0), query_text(stmt, 1), query_text(stmt, 2), err);
    }
    if (rc == 0 && step != SQLITE_DONE)
        rc = query_fail(db, err, "read its migrations");
    sqlite3_finalize(stmt);
    int64_t version = 0;
    if (rc == 0)
        rc = number(db, "PRAGMA user_version", &version, err);
    if (rc == 0 && version != applied)
        rc = err_set(
            err, ERR_STORE,
            "the database says version %lld but records %d migrations: it was damaged or edited; restore it from a backup",
            (long long)version, applied);
    if (rc == 0)
        *ret_applied = applied;
    return rc;
}

static int record(sqlite3 *db, const struct migration *migration, struct err *err) {
    char sha256[65], version[48];
    sha256_hex(migration->text, migration->size, sha256);
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, "INSERT INTO migration (number, name, sha256, applied_us) VALUES (?, ?, ?, ?)", -1, &stmt, NULL) !=
        SQLITE_OK)
        return query_fail(db, err, "record a migration");
    sqlite3_bind_int(stmt, 1, migration->number);
    sqlite3_bind_text(stmt, 2, migration->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, sha256, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, clock_unix_us());
    int rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : query_fail(db, err, "record a migration");
    sqlite3_finalize(stmt);
    snprintf(version, sizeof version, "PRAGMA user_version = %d", migration->number);
    return rc == 0 ? run(db, version, "raise its version", err) : rc;
}

/* The list of migrations itself comes with the first of them, in its transaction. */
static const char bootstrap_sql[] = "CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
                                    "sha256 TEXT NOT NULL CHECK (length(sha256) = 64), applied_us INTEGER NOT NULL) STRICT";

static int apply_inside(sqlite3 *db, const struct migration *migration, struct err *err) {
    int64_t broken = 0;
    if (migration->number == 1 && run(db, bootstrap_sql, "make its list of migrations", err) != 0)
        return -1;
    if (run(db, migration->text, "apply a migration", err) != 0 || record(db, migration, err) != 0 ||
        number(db, "SELECT count(*) FROM pragma_foreign_key_check", &broken, err) != 0)
        return -1;
    if (broken > 0)
        return err_set(err, ERR_STORE, "migration %s would leave %lld rows without the row they refer to; nothing was changed",
                       migration->name, (long long)broken);
    return run(db, "COMMIT", "commit a migration", err);
}

static int apply(sqlite3 *db, const struct migration *migration, struct err *err) {
    if (run(db, "BEGIN IMMEDIATE", "begin a migration", err) != 0)
        return -1;
    if (apply_inside(db, migration, err) == 0)
        return 0;
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

int schema_apply(sqlite3 *db, const struct migration *known, size_t n, struct err *err) {
    int applied = 0;
    int64_t listed = 0;
    if (check_owner(db, err) != 0 || number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'migration'", &listed, err) != 0)
        return -1;
    if (listed > 0 && check_all_applied(db, known, n, &applied, err) != 0)
        return -1;
    for (size_t i = (size_t)applied; i < n; i++) {
        if (apply(db, &known[i], err) != 0)
            return -1;
    }
    return 0;
}
