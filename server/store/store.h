/* Door of the store: jobs, epochs and events in one SQLite file. One thread, one connection; nobody else opens the file.
 *
 * Durability: the first write of a loop turn opens a transaction; store_commit ends it with one fsync (WAL, synchronous=FULL).
 * What a function wrote is a promise only after store_commit returned 0: answer, stream and launch after that.
 *
 * States (drawn):
 *   queued -> starting -> running -> succeeded | failed | cancelled
 *     ^  |________|__________|______________________ cancelled
 *     |___________|__________|   (worker died and attempts are left, drained, daemon restarted)
 *   failed, cancelled -> queued (retry: the attempt count of the automatic retries starts again)
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/json.h"

#define JOB_STATES(X)             \
    X(JOB_QUEUED, "queued")       \
    X(JOB_STARTING, "starting")   \
    X(JOB_RUNNING, "running")     \
    X(JOB_SUCCEEDED, "succeeded") \
    X(JOB_FAILED, "failed")       \
    X(JOB_CANCELLED, "cancelled")

enum job_state {
#define JOB_ENUM(name, text) name,
    JOB_STATES(JOB_ENUM)
#undef JOB_ENUM
};
enum { JOB_STATES_N = JOB_CANCELLED + 1, JOB_ID_MAX = 32, DEVICE_ID_MAX = 64, WEIGHTS_SHA256_MAX = 65, DATASET_NAME_MAX = 33 };

const char *job_state_name(enum job_state state);
bool job_state_parse(const char *name, enum job_state *ret_state);
bool job_state_ended(enum job_state state);
bool job_state_may(enum job_state from, enum job_state to); /* the const table */

struct store;

/* --- schema.c, store.c --- */

/* Takes DIR/residuum.lock (a lock of the process), opens DIR/residuum.db, applies missing migrations each in a transaction and
 * checks the name and SHA-256 of applied ones: a changed, missing or newer one refuses with a sentence. Jobs left starting or
 * running by a daemon that died go back to queued (committed). DIR exists. */
int store_open(const char *dir, struct store **ret_store, struct err *err);
void store_close(struct store *store); /* commits nothing; accepts NULL */

/* Ends the turn's transaction, if there is one. On failure (disk full: ERR_FULL; else ERR_STORE) everything since the last commit
 * is undone, and a write that failed within the turn fails its commit as well. ret_wrote, when not NULL, tells whether there was
 * anything, also on failure. ERR_STORE is fatal: log and exit, do not try again (a kernel may drop what it could not sync). */
int store_commit(struct store *store, bool *ret_wrote, struct err *err);

/* Whether this turn has written: then what is read now may still be undone, and an answer that shows it waits for the commit. */
bool store_pending(const struct store *store);

/* For an idle moment, outside a turn's transaction: moves the log file's content into the database file and empties it. */
int store_tidy(struct store *store, struct err *err);

/* The version of the database library, for people. */
const char *store_engine(void);

/* A savepoint inside the turn, so that one request's failure does not undo another's writes. */
int store_savepoint(struct store *store, struct err *err);
int store_release(struct store *store, struct err *err);
void store_rollback(struct store *store);

/* --- account.c --- */

/* Who asks. Comes from the credential, never from a request field. */
struct viewer {
    int64_t account;
    char name[65];
    bool sees_all;
};

/* The one local account, until there are more. */
int store_viewer_local(struct store *store, struct viewer *ret_viewer, struct err *err);

/* The one visibility rule, used by every list and stream. Rows that fail it do not exist for the viewer (404, not 403). */
bool store_visible(const struct viewer *viewer, int64_t owner_account);

/* --- job.c --- */

/* Whether a job that was run again came out the same. Pending while the verifying job has not ended; unfinished when it ended
 * without an answer, until it is tried again. */
#define VERIFY_RESULTS(X)            \
    X(VERIFY_NONE, "")               \
    X(VERIFY_PENDING, "pending")     \
    X(VERIFY_IDENTICAL, "identical") \
    X(VERIFY_DIFFERS, "differs")     \
    X(VERIFY_UNFINISHED, "unfinished")

enum verify_result {
#define VERIFY_ENUM(name, text) name,
    VERIFY_RESULTS(VERIFY_ENUM)
#undef VERIFY_ENUM
};
enum { VERIFY_RESULTS_N = VERIFY_UNFINISHED + 1 };

const char *verify_result_name(enum verify_result result);

struct job {
    int64_t seq;         /* internal key and order of submission */
    char id[JOB_ID_MAX]; /* "job_" + 22 characters of base62 */
    int64_t owner_account;
    char owner[65];
    enum job_state state;
    int attempt; /* attempts started, all in all; the fence of compare-and-set */
    int tries;   /* attempts since submission or the last retry by a person; the limit of automatic retries counts these */
    int epochs_done, epochs;
    int best_epoch;                /* by the validation set; 0: none */
    bool stopped_early;            /* succeeded with fewer epochs than asked for */
    double test_accuracy;          /* of the newest epoch; NAN before the first */
    char *spec;                    /* canonical JSON */
    char *hello;                   /* the worker's hello of the last attempt, JSON, or NULL */
    char device[DEVICE_ID_MAX];    /* "" before the first start */
    char reason[32], *reason_text; /* err_name and sentence of a failure or of the last interruption; "" and NULL if none */
    int64_t created_us, started_us, ended_us; /* 0: not yet */
    int64_t cancel_requested_us;              /* 0: no */
    char dataset[JOB_ID_MAX];                 /* the imported data set that it trains on; "": a built-in one */
    char verifies[JOB_ID_MAX];                /* the job that this one runs again; "" */
    struct {                                  /* the newest verification, of this job or by it */
        enum verify_result result;
        char job[JOB_ID_MAX]; /* the other side; "" */
        int epoch;            /* the first that differs; 0: none */
    } verification;
};

void job_done(struct job *job); /* frees what it holds; accepts zeroed memory */

/* The job as the API shows it, without "position", "cursor" and "links"; also the data of "job" events. New reference; NULL when
 * out of memory. */
json_t *job_to_json(const struct job *job);

struct job_change {                   /* what a move records beside the state; zeroed: nothing */
    const char *reason, *reason_text; /* NULL: an end or a retry by a person clears them, another move keeps them */
    const char *device;
    bool uncounted;     /* back to queued: the attempt that ends here does not count among the tries */
    bool stopped_early; /* to succeeded: with fewer epochs than asked for */
    int best_epoch;     /* 0: keeps what the epochs said */
};

struct job_new {
    const char *spec; /* canonical JSON */
    int epochs;
    const char *dataset;  /* NULL, or the id of the imported data set that it trains on */
    const char *verifies; /* NULL, or the job that this one runs again: both are marked with a pending verification */
};

/* Inserts a queued job (id, created_us are made here) and its first event. *ret_job is filled. */
int store_job_add(struct store *store, const struct viewer *owner, const struct job_new *new, struct job *ret_job,
                  struct err *err);
int store_job_get(struct store *store, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err);

typedef int store_job_fn(void *arg, const struct job *job); /* job is borrowed; non-zero ends the walk */

/* Newest first, seq < before (0: from the newest), at most limit; states is a bit set of 1 << state, 0: all. */
int store_job_list(struct store *store, const struct viewer *viewer, unsigned states, int64_t before, int limit, store_job_fn *fn,
                   void *arg, struct err *err);

/* Moves a job by compare-and-set on (from, attempt), and appends its "job" event. ERR_CONFLICT when the row is not in (from,
 * attempt) any more, ERR_INTERNAL when the table forbids the move. Moving to JOB_STARTING raises attempt and tries by one. A
 * retry (failed or cancelled -> queued) sets tries to 0. *ret_job, when not NULL, is the job after the move. */
int store_job_move(struct store *store, const char *id, enum job_state from, int attempt, enum job_state to,
                   const struct job_change *change, struct job *ret_job, struct err *err);

/* Who claims: a device, and whether it may run a job. */
struct job_claim {
    const char *device;
    bool (*fits)(void *arg, const struct job *job); /* the job is borrowed */
    void *arg;
};

/* The oldest queued job that fits, moved to starting on the device. *ret_found tells whether there was one. */
int store_job_claim(struct store *store, const struct job_claim *claim, struct job *ret_job, bool *ret_found, struct err *err);

/* How often a job became queued since the store was opened: while it stays the same, a device that found nothing to claim need
 * not look again. */
int64_t store_job_arrivals(const struct store *store);

int store_job_cancel_requested(struct store *store, const char *id, struct err *err);

/* Deletes an ended job with its epochs and events; a "job" event {"id", "state": "deleted"} stays. ERR_CONFLICT when it has not
 * ended, or is being verified by a job that has not. */
int store_job_delete(struct store *store, const struct viewer *viewer, const char *id, struct err *err);

/* Number of jobs per state. */
int store_job_counts(struct store *store, int64_t ret_counts[JOB_STATES_N], struct err *err);

/* How many queued jobs stand before this one. */
int store_job_position(struct store *store, int64_t seq, int64_t *ret_position, struct err *err);

/* --- attempt.c --- */

/* What the worker of an attempt says of itself (JSON): kept with the attempt, and as the job's newest. */
int store_job_hello(struct store *store, const char *id, int attempt, const char *hello, struct err *err);

/* The attempts whose workers said something, first to last. Pointers are borrowed; non-zero ends the walk. */
typedef int store_attempt_fn(void *arg, int attempt, const char *hello);
int store_attempt_list(struct store *store, int64_t job_seq, store_attempt_fn *fn, void *arg, struct err *err);

/* --- verify.c --- */

/* The result of a verifying job, told on both sides; on the verified one only while this is its newest verification. epoch: the
 * first that differs, else 0. */
int store_verify_set(struct store *store, const char *verifier, enum verify_result result, int epoch, struct err *err);

/* --- epoch.c --- */

struct epoch_new {
    int epoch;
    const char *body; /* the JSON of the API's epoch without "job" */
    double test_accuracy;
    bool best;                   /* the best one up to now, by the validation set */
    const char *weights_sha256;  /* 64 digits */
    const char *exported_sha256; /* 64 digits: of what the weights file holds */
};

/* Stores an epoch and its event, if (attempt) is current and the epoch is the next one; an epoch that is already there is ignored
 * and *ret_new is false. */
int store_epoch_add(struct store *store, const char *job, int attempt, const struct epoch_new *new, bool *ret_new,
                    struct err *err);

/* The weights after an epoch; "" where a hash was not recorded. */
struct store_weights {
    int epoch, attempt;
    const char *weights_sha256, *exported_sha256;
};

/* Those of each epoch, in order. */
typedef int store_weights_fn(void *arg, const struct store_weights *weights);
int store_weights_list(struct store *store, int64_t job_seq, store_weights_fn *fn, void *arg, struct err *err);

/* The weights_sha256 of one epoch of a job; "" when there is none. */
int store_weights_get(struct store *store, const char *job, int epoch, char ret_sha256[WEIGHTS_SHA256_MAX], struct err *err);

typedef int store_epoch_fn(void *arg, int epoch, const char *body);
int store_epoch_list(struct store *store, const struct viewer *viewer, const char *job, int after, int limit, store_epoch_fn *fn,
                     void *arg, struct err *err);

/* --- event.c --- */

/* type is "job", "progress" or "epoch"; body is the JSON sent as data. */
int store_event_add(struct store *store, const char *job, const char *type, const char *body, struct err *err);

struct event {
    int64_t id;
    const char *job, *type, *body;
};
typedef int store_event_fn(void *arg, const struct event *event); /* non-zero ends the walk */

/* Committed events with id > after, oldest first, of one job or (NULL) of all, that the viewer may see; at most limit rows are
 * looked at. *ret_scanned is the id up to which nothing more has to be looked at: pass it as the next after; when it equals
 * store_event_newest, there is nothing more. Pointers in the event are borrowed. */
int store_event_list(struct store *store, const struct viewer *viewer, const char *job, int64_t after, int limit,
                     store_event_fn *fn, void *arg, int64_t *ret_scanned, struct err *err);

/* The id of the newest committed event. No disk access. */
int64_t store_event_newest(const struct store *store);

/* Deletes progress events of jobs that ended before older_than_us, some thousand at a time; *ret_more tells whether there are
 * more. Only progress is ever dropped: job and epoch events stay as long as their job. */
int store_event_prune(struct store *store, int64_t older_than_us, bool *ret_more, struct err *err);

/* --- dataset.c: imported data sets --- */

#define DATASET_STATES(X)             \
    X(DATASET_UPLOADING, "uploading") \
    X(DATASET_QUEUED, "queued")       \
    X(DATASET_READY, "ready")         \
    X(DATASET_FAILED, "failed")

enum dataset_state {
#define DATASET_ENUM(name, text) name,
    DATASET_STATES(DATASET_ENUM)
#undef DATASET_ENUM
};

const char *dataset_state_name(enum dataset_state state);

struct dataset {
    char id[JOB_ID_MAX]; /* "ds_" + 22 characters of base62 */
    char owner[65], name[DATASET_NAME_MAX];
    enum dataset_state state;
    int64_t archive_bytes;
    char archive_sha256[65];
    char *title;
    char *options;                 /* of the import, JSON (common/event.h) */
    char *card;                    /* JSON; NULL unless ready */
    char reason[32], *reason_text; /* of a failure; "" and NULL if none */
    char *entry;                   /* of the archive, which is to blame for it; "" */
    int64_t created_us;
    int64_t jobs; /* that train or trained on it */
};

void dataset_done(struct dataset *dataset); /* frees what it holds; accepts zeroed memory */

struct dataset_new {
    const char *name, *title, *archive_sha256, *options;
    int64_t archive_bytes;
};

/* Inserts one that waits for its upload. ERR_CONFLICT when the owner has one of that name. */
int store_dataset_add(struct store *store, const struct viewer *owner, const struct dataset_new *new, struct dataset *ret_dataset,
                      struct err *err);

/* By id, also the id of one that turned out to hold the same as this one; or by name. ERR_NOT_FOUND. */
int store_dataset_get(struct store *store, const struct viewer *viewer, const char *id, struct dataset *ret_dataset,
                      struct err *err);
int store_dataset_named(struct store *store, const struct viewer *viewer, const char *name, struct dataset *ret_dataset,
                        struct err *err);

typedef int store_dataset_fn(void *arg, const struct dataset *dataset); /* borrowed; non-zero ends the walk */

/* All that the viewer may see, oldest first. */
int store_dataset_list(struct store *store, const struct viewer *viewer, store_dataset_fn *fn, void *arg, struct err *err);

/* uploading <-> queued: the upload is there whole, or was lost. ERR_CONFLICT from another state. */
int store_dataset_queue(struct store *store, const char *id, struct err *err);
int store_dataset_unqueue(struct store *store, const char *id, struct err *err);

/* Ends an import. ready: content is the digest of what it holds; when its owner has another one with the same, this one becomes a
 * second id of that one and *ret_same is true. One that was deleted meanwhile is ERR_NOT_FOUND. */
int store_dataset_ready(struct store *store, const char *id, const char *card, const char *content, bool *ret_same,
                        struct err *err);
int store_dataset_failed(struct store *store, const char *id, const struct err *why, const char *entry, struct err *err);

/* ERR_CONFLICT when jobs use it. */
int store_dataset_delete(struct store *store, const struct viewer *viewer, const char *id, struct err *err);

/* Gives it another name. ERR_CONFLICT when the owner has one of that name. */
int store_dataset_rename(struct store *store, const char *id, const char *name, const char *title, struct err *err);

/* --- idempotency.c --- */

/* Looks a key up: *ret_job_id is "" when it is new. ERR_IDEMPOTENCY when it was used with another body (its SHA-256 in hex). Keys
 * live 24 h. */
int store_idempotency_get(struct store *store, const struct viewer *viewer, const char *key, const char *body_sha256,
                          char ret_job_id[JOB_ID_MAX], struct err *err);
int store_idempotency_put(struct store *store, const struct viewer *viewer, const char *key, const char *body_sha256,
                          const char *job_id, struct err *err);

#endif
