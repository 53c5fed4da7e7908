/* Imported data sets: announced, uploaded, imported, renamed, deleted. Their files are the scheduler's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "server/store/private.h"

#define DATASET_SELECT                                                                                                         \
    "SELECT dataset.id, account.name, dataset.name, dataset.title, dataset.state, dataset.archive_bytes, "                     \
    "dataset.archive_sha256, dataset.options, dataset.card, dataset.reason, dataset.reason_text, dataset.entry, "              \
    "dataset.created_us, (SELECT count(*) FROM job WHERE job.dataset = dataset.id) FROM dataset JOIN account ON account.id = " \
    "dataset.owner "

static const char *const state_names[] = {
#define STATE_TEXT(name, text) [name] = text,
    DATASET_STATES(STATE_TEXT)
#undef STATE_TEXT
};

const char *dataset_state_name(enum dataset_state state) {
    return state_names[state];
}

static bool state_parse(const char *name, enum dataset_state *ret_state) {
    for (size_t i = 0; i < sizeof state_names / sizeof state_names[0]; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *ret_state = (enum dataset_state)i;
            return true;
        }
    }
    return false;
}

void dataset_done(struct dataset *dataset) {
    free(dataset->title);
    free(dataset->options);
    free(dataset->card);
    free(dataset->reason_text);
    free(dataset->entry);
    *dataset = (struct dataset){0};
}

/* Fills a data set from a row of DATASET_SELECT. */
static int load(sqlite3_stmt *stmt, struct dataset *ret_dataset, struct err *err) {
    struct dataset dataset = {.archive_bytes = sqlite3_column_int64(stmt, 5),
                              .created_us = sqlite3_column_int64(stmt, 12),
                              .jobs = sqlite3_column_int64(stmt, 13)};
    snprintf(dataset.id, sizeof dataset.id, "%s", query_text(stmt, 0));
    snprintf(dataset.owner, sizeof dataset.owner, "%s", query_text(stmt, 1));
    snprintf(dataset.name, sizeof dataset.name, "%s", query_text(stmt, 2));
    snprintf(dataset.archive_sha256, sizeof dataset.archive_sha256, "%s", query_text(stmt, 6));
    snprintf(dataset.reason, sizeof dataset.reason, "%s", query_text(stmt, 9));
    if (!state_parse(query_text(stmt, 4), &dataset.state))
        return err_set(err, ERR_STORE, "data set %s is in the unknown state '%s'", dataset.id, query_text(stmt, 4));
    if (query_dup(stmt, 3, &dataset.title, err) != 0 || query_dup(stmt, 7, &dataset.options, err) != 0 ||
        query_dup(stmt, 8, &dataset.card, err) != 0 || query_dup(stmt, 10, &dataset.reason_text, err) != 0 ||
        query_dup(stmt, 11, &dataset.entry, err) != 0) {
        dataset_done(&dataset);
        return -1;
    }
    *ret_dataset = dataset;
    return 0;
}

/* The one row of a statement; name is what was looked for. */
static int get(struct store *store, sqlite3_stmt *stmt, const char *name, struct dataset *ret_dataset, struct err *err) {
    if (stmt == NULL)
        return -1;
    int rc = query_step(store, stmt, err);
    if (rc == 0)
        rc = err_set(err, ERR_NOT_FOUND, "there is no data set \"%.40s\"", name);
    else if (rc > 0)
        rc = load(stmt, ret_dataset, err);
    query_end(stmt);
    return rc;
}

int store_dataset_get(struct store *store, const struct viewer *viewer, const char *id, struct dataset *ret_dataset,
                      struct err *err) {
    static const char sql[] =
        DATASET_SELECT "WHERE dataset.id = coalesce((SELECT dataset FROM dataset_alias WHERE dataset_alias.id = ?1), ?1) "
                       "AND visible(dataset.owner, ?2, ?3)";
    return get(store, query_start(store, err, sql, "sid", id, viewer->account, (int)viewer->sees_all), id, ret_dataset, err);
}

int store_dataset_named(struct store *store, const struct viewer *viewer, const char *name, struct dataset *ret_dataset,
                        struct err *err) {
    static const char sql[] = DATASET_SELECT "WHERE dataset.name = ?1 AND dataset.owner = ?2";
    return get(store, query_start(store, err, sql, "si", name, viewer->account), name, ret_dataset, err);
}

int store_dataset_list(struct store *store, const struct viewer *viewer, store_dataset_fn *fn, void *arg, struct err *err) {
    static const char sql[] = DATASET_SELECT "WHERE visible(dataset.owner, ?1, ?2) ORDER BY dataset.seq";
    sqlite3_stmt *stmt = query_start(store, err, sql, "id", viewer->account, (int)viewer->sees_all);
    if (stmt == NULL)
        return -1;
    int row, stop = 0, rc = 0;
    while (stop == 0 && rc == 0 && (row = query_step(store, stmt, err)) != 0) {
        struct dataset dataset = {0};
        rc = row < 0 ? -1 : load(stmt, &dataset, err);
        if (rc == 0)
            stop = fn(arg, &dataset);
        dataset_done(&dataset);
    }
    query_end(stmt);
    return rc;
}

static int check_name_free(struct store *store, int64_t owner, const char *name, struct err *err) {
    int64_t n = 0;
    if (query_number(store, err, &n, "SELECT count(*) FROM dataset WHERE owner = ?1 AND name = ?2", "is", owner, name) != 0)
        return -1;
    return n == 0 ? 0
                  : err_at(err, ERR_CONFLICT, "/name", "you have a data set \"%s\" already; choose another name, or delete it",
                           name);
}

int store_dataset_add(struct store *store, const struct viewer *owner, const struct dataset_new *new, struct dataset *ret_dataset,
                      struct err *err) {
    static const char sql[] = "INSERT INTO dataset (id, owner, name, title, archive_bytes, archive_sha256, options, created_us) "
                              "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    char id[JOB_ID_MAX];
    if (check_name_free(store, owner->account, new->name, err) != 0 || id_make("ds_", id, err) != 0 ||
        query_write(store, err, sql, "sississi", id, owner->account, new->name, new->title, new->archive_bytes,
                    new->archive_sha256, new->options, clock_unix_us()) < 0)
        return -1;
    return store_dataset_get(store, &viewer_daemon, id, ret_dataset, err);
}

static int move(struct store *store, const char *id, enum dataset_state from, enum dataset_state to, struct err *err) {
    static const char sql[] = "UPDATE dataset SET state = ?3 WHERE id = ?1 AND state = ?2";
    int changed = query_write(store, err, sql, "sss", id, state_names[from], state_names[to]);
    if (changed == 0)
        err_set(err, ERR_CONFLICT, "data set %s is not %s any more", id, state_names[from]);
    return changed > 0 ? 0 : -1;
}

int store_dataset_queue(struct store *store, const char *id, struct err *err) {
    return move(store, id, DATASET_UPLOADING, DATASET_QUEUED, err);
}

int store_dataset_unqueue(struct store *store, const char *id, struct err *err) {
    return move(store, id, DATASET_QUEUED, DATASET_UPLOADING, err);
}

/* The data set of the same owner with this content; "" when there is none. */
static int find_same(struct store *store, const char *id, const char *content, char ret_same[JOB_ID_MAX], struct err *err) {
    static const char sql[] = "SELECT other.id FROM dataset JOIN dataset AS other ON other.owner = dataset.owner "
                              "WHERE dataset.id = ?1 AND other.content = ?2";
    sqlite3_stmt *stmt = query_start(store, err, sql, "ss", id, content);
    if (stmt == NULL)
        return -1;
    int row = query_step(store, stmt, err);
    snprintf(ret_same, JOB_ID_MAX, "%s", row > 0 ? query_text(stmt, 0) : "");
    query_end(stmt);
    return row < 0 ? -1 : 0;
}

static int merge(struct store *store, const char *id, const char *same, struct err *err) {
    return query_write(store, err, "DELETE FROM dataset WHERE id = ?1", "s", id) < 0 ||
                   query_write(store, err, "INSERT INTO dataset_alias (id, dataset) VALUES (?1, ?2)", "ss", id, same) < 0
               ? -1
               : 0;
}

/* Of an UPDATE of a queued data set. */
static int changed_one(int changed, const char *id, struct err *err) {
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "data set %s is not queued any more", id);
    return changed < 0 ? -1 : 0;
}

int store_dataset_ready(struct store *store, const char *id, const char *card, const char *content, bool *ret_same,
                        struct err *err) {
    static const char sql[] = "UPDATE dataset SET state = 'ready', card = ?2, content = ?3 WHERE id = ?1 AND state = 'queued'";
    char same[JOB_ID_MAX];
    if (find_same(store, id, content, same, err) != 0)
        return -1;
    *ret_same = same[0] != '\0';
    if (*ret_same)
        return merge(store, id, same, err);
    return changed_one(query_write(store, err, sql, "sss", id, card, content), id, err);
}

int store_dataset_failed(struct store *store, const char *id, const struct err *why, const char *entry, struct err *err) {
    static const char sql[] = "UPDATE dataset SET state = 'failed', reason = ?2, reason_text = ?3, entry = ?4 WHERE id = ?1 AND "
                              "state = 'queued'";
    return changed_one(query_write(store, err, sql, "ssss", id, err_name(why->code), why->text, entry), id, err);
}

int store_dataset_delete(struct store *store, const struct viewer *viewer, const char *id, struct err *err) {
    struct dataset dataset;
    if (store_dataset_get(store, viewer, id, &dataset, err) != 0)
        return -1;
    int rc;
    if (dataset.jobs > 0)
        rc = err_set(err, ERR_CONFLICT, "data set \"%s\" is kept: %lld job%s it; delete %s first", dataset.name,
                     (long long)dataset.jobs, dataset.jobs == 1 ? " uses" : "s use", dataset.jobs == 1 ? "that" : "those");
    else
        rc = query_write(store, err, "DELETE FROM dataset WHERE id = ?1", "s", dataset.id) < 0 ? -1 : 0;
    dataset_done(&dataset);
    return rc;
}

int store_dataset_rename(struct store *store, const char *id, const char *name, const char *title, struct err *err) {
    static const char clash_sql[] = "SELECT count(*) FROM dataset JOIN dataset AS other ON other.owner = dataset.owner AND "
                                    "other.id <> dataset.id WHERE dataset.id = ?1 AND other.name = ?2";
    static const char sql[] = "UPDATE dataset SET name = ?2, title = ?3 WHERE id = ?1";
    int64_t clashes = 0;
    if (query_number(store, err, &clashes, clash_sql, "ss", id, name) != 0)
        return -1;
    if (clashes > 0)
        return err_at(err, ERR_CONFLICT, "/name", "you have another data set \"%s\"; choose another name, or delete that", name);
    return query_write(store, err, sql, "sss", id, name, title) < 0 ? -1 : 0;
}
