/* Inside the store: the connection, migrations, and how SQL is run. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include <sqlite3.h>

#include "server/store/store.h"

/* --- schema.c --- */

struct migration {
    int number; /* 1, 2, 3, ... */
    const char *name, *text;
    size_t size;
};
extern const struct migration migrations[]; /* made from migrations/ */
extern const size_t migrations_n;

/* Refuses a file that is not ours, changed, missing and newer migrations; applies those that are not yet applied. */
int schema_apply(sqlite3 *db, const struct migration *known, size_t n, struct err *err);

/* --- open.c --- */

/* store_open with a list of migrations of the caller's, for tests. */
int store_open_with(const char *dir, const struct migration *known, size_t n, struct store **ret_store, struct err *err);

/* --- store.c --- */

enum { STATEMENTS_MAX = 96, WAL_PAGES_MAX = 1000 };

struct statement {
    const char *sql; /* by address: every SQL text is a constant */
    sqlite3_stmt *stmt;
};

struct store {
    sqlite3 *db;
    int lock_fd;
    int statements_n;
    struct statement statements[STATEMENTS_MAX];
    bool in_turn;     /* a transaction was begun since the last commit */
    struct err lost;  /* why the turn's transaction is undone already */
    int64_t newest;   /* id of the newest committed event */
    int wal_pages;    /* in the log file after the last commit */
    int64_t arrivals; /* how often a job became queued */
};

/* --- query.c: types is one letter per argument: 's' const char * (NULL allowed), 'i' int64_t, 'd' int, 'r' double --- */

/* A prepared statement with its arguments bound; NULL on failure. Arguments must live until query_end. */
sqlite3_stmt *query_start(struct store *store, struct err *err, const char *sql, const char *types, ...);
/* 1: a row; 0: no more; -1: failure. */
int query_step(struct store *store, sqlite3_stmt *stmt, struct err *err);
void query_end(sqlite3_stmt *stmt);

/* Begins the turn's transaction where needed and runs a writing statement to its end. Returns the number of changed rows, or -1:
 * then the whole turn is lost, since a half of a change must not be committed. */
int query_write(struct store *store, struct err *err, const char *sql, const char *types, ...);

/* The first column of the first row as a number. */
int query_number(struct store *store, struct err *err, int64_t *ret_number, const char *sql, const char *types, ...);

/* Sets err from SQLite's last failure. Returns -1. */
int query_fail(sqlite3 *db, struct err *err, const char *tried);

/* The text of a column, "" for NULL, valid until the next step. */
const char *query_text(sqlite3_stmt *stmt, int column);

/* A column's text as a copy, which the caller frees; NULL stays NULL. */
int query_dup(sqlite3_stmt *stmt, int column, char **ret_text, struct err *err);

int store_begin(struct store *store, struct err *err);

/* --- job.c --- */

/* For the daemon itself, which acts for nobody. */
extern const struct viewer viewer_daemon;

/* A prefix ("job_") and 22 characters of base62 from the kernel's random numbers. */
int id_make(const char *prefix, char ret_id[JOB_ID_MAX], struct err *err);

/* The queued jobs, oldest first. */
int job_walk_queued(struct store *store, store_job_fn *fn, void *arg, struct err *err);

/* --- job_move.c --- */

/* Reads a job again and appends its event. ret_job may be NULL. */
int job_tell(struct store *store, const char *id, struct job *ret_job, struct err *err);

/* ERR_CONFLICT: why a change of a job in (from, attempt) found no row; ERR_NOT_FOUND. Returns -1. */
int job_explain(struct store *store, const char *id, enum job_state from, int attempt, struct err *err);

/* --- verify.c --- */

bool verify_result_parse(const char *name, enum verify_result *ret_result);

/* Marks both sides of a verification that begins. */
int verify_begin(struct store *store, const char *verifier, const char *verified, struct err *err);

/* What a verifying job's move means for a verification without an answer: its end leaves it unfinished, another try takes it up
 * again. */
int verify_follow(struct store *store, const struct job *verifier, struct err *err);

/* ERR_CONFLICT while a job that has not ended verifies this one. */
int verify_check_unused(struct store *store, const char *id, struct err *err);

/* --- event.c --- */

/* Appends a "job" event of a job's present state. */
int event_add_job(struct store *store, const struct job *job, struct err *err);

/* Appends an event whose owner is known. */
int event_add_owned(struct store *store, const char *job, int64_t owner, const char *type, const char *body, struct err *err);

#endif
