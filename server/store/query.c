/* Statements: cached by the address of their SQL text, bound by letters, stepped with errors turned into ours. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "server/store/private.h"

static enum err_code code_of(int sqlite_code) {
    switch (sqlite_code & 0xff) {
    case SQLITE_FULL:
        return ERR_FULL;
    case SQLITE_CONSTRAINT: /* a CHECK caught a bug of ours; the file is fine */
        return ERR_INTERNAL;
    case SQLITE_NOMEM:
        return ERR_MEMORY;
    default:
        return ERR_STORE;
    }
}

int query_fail(sqlite3 *db, struct err *err, const char *tried) {
    int code = sqlite3_extended_errcode(db);
    return err_set(err, code_of(code), "the store cannot %s: %s (SQLite code %d)", tried, sqlite3_errmsg(db), code);
}

const char *query_text(sqlite3_stmt *stmt, int column) {
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return text != NULL ? (const char *)text : "";
}

int query_dup(sqlite3_stmt *stmt, int column, char **ret_text, struct err *err) {
    *ret_text = NULL;
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL)
        return 0;
    *ret_text = strdup(query_text(stmt, column));
    return *ret_text != NULL ? 0 : err_set(err, ERR_MEMORY, "out of memory while reading the store");
}

static sqlite3_stmt *prepare(struct store *store, const char *sql, struct err *err) {
    for (int i = 0; i < store->statements_n; i++) {
        if (store->statements[i].sql == sql)
            return store->statements[i].stmt;
    }
    if (store->statements_n == STATEMENTS_MAX) {
        err_set(err, ERR_INTERNAL, "the store has more than %d statements", STATEMENTS_MAX);
        return NULL;
    }
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
        query_fail(store->db, err, "prepare a statement");
        return NULL;
    }
    store->statements[store->statements_n++] = (struct statement){sql, stmt};
    return stmt;
}

static int bind(sqlite3_stmt *stmt, const char *types, va_list *args) {
    for (int i = 0; types[i] != '\0'; i++) {
        int rc;
        if (types[i] == 's')
            rc = sqlite3_bind_text(stmt, i + 1, va_arg(*args, const char *), -1, SQLITE_STATIC);
        else if (types[i] == 'i')
            rc = sqlite3_bind_int64(stmt, i + 1, va_arg(*args, int64_t));
        else if (types[i] == 'r')
            rc = sqlite3_bind_double(stmt, i + 1, va_arg(*args, double));
        else
            rc = sqlite3_bind_int(stmt, i + 1, va_arg(*args, int));
        if (rc != SQLITE_OK)
            return -1;
    }
    return 0;
}

static sqlite3_stmt *start(struct store *store, struct err *err, const char *sql, const char *types, va_list *args) {
    sqlite3_stmt *stmt = prepare(store, sql, err);
    if (stmt == NULL)
        return NULL;
    if (sqlite3_stmt_busy(stmt)) {
        err_set(err, ERR_INTERNAL, "a list of the store was read again from within its own callback");
        return NULL;
    }
    if (bind(stmt, types, args) != 0) {
        query_fail(store->db, err, "bind an argument");
        query_end(stmt);
        return NULL;
    }
    return stmt;
}

sqlite3_stmt *query_start(struct store *store, struct err *err, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = start(store, err, sql, types, &args);
    va_end(args);
    return stmt;
}

int query_step(struct store *store, sqlite3_stmt *stmt, struct err *err) {
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : query_fail(store->db, err, "run a statement");
}

void query_end(sqlite3_stmt *stmt) {
    sqlite3_reset(stmt); /* repeats the failure of the last step, which was reported there */
    sqlite3_clear_bindings(stmt);
}

int query_write(struct store *store, struct err *err, const char *sql, const char *types, ...) {
    if (store_begin(store, err) != 0)
        return -1;
    struct err why = {0};
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = start(store, &why, sql, types, &args);
    va_end(args);
    int rc = stmt != NULL ? query_step(store, stmt, &why) : -1;
    int changed = sqlite3_changes(store->db);
    if (stmt != NULL)
        query_end(stmt);
    if (rc >= 0)
        return changed;
    if (!sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL); /* SQLite may have done it itself */
    store->lost = why;
    return err_set(err, why.code, "%s", why.text);
}

int query_number(struct store *store, struct err *err, int64_t *ret_number, const char *sql, const char *types, ...) {
    va_list args;
    va_start(args, types);
    sqlite3_stmt *stmt = start(store, err, sql, types, &args);
    va_end(args);
    if (stmt == NULL)
        return -1;
    int rc = query_step(store, stmt, err);
    if (rc > 0)
        *ret_number = sqlite3_column_int64(stmt, 0);
    else if (rc == 0)
        err_set(err, ERR_INTERNAL, "a statement of the store gave no row where one was expected");
    query_end(stmt);
    return rc > 0 ? 0 : -1;
}
