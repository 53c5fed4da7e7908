/* Door of the scheduler: devices, one job per device slot, worker processes and what they say. */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/loop.h"
#include "server/store/store.h"

struct sched;

struct sched_options {
    struct loop *loop;
    struct store *store;
    const char *data_dir;       /* jobs lie in DATA_DIR/jobs/ID */
    const char *worker_path;    /* residuum-worker */
    int64_t probe_timeout_ms;   /* 60,000 */
    int64_t inspect_timeout_ms; /* 30,000 */
    int64_t import_timeout_ms;  /* of one data set: 3,600,000 */
    int64_t dataset_max_bytes;  /* of an archive, and of what is made of it */
    int64_t stop_timeout_ms;    /* from closing a worker's standard input to SIGKILL: 15,000 */
    int64_t silence_ms; /* a worker that says nothing for so long is killed: 1,800,000; until "hello" at most 120,000, on a GPU
                           900,000 */
    int tries_max;      /* 3 */
};

/* Starts the probe; jobs start when it has answered. Keeps copies of the strings. */
int sched_new(const struct sched_options *options, struct sched **ret_sched, struct err *err);
void sched_free(struct sched *sched); /* kills what still runs; accepts NULL */

/* To be called at the end of each turn, after store_commit, with its outcome: launches what was claimed, claims what may start,
 * tidies up after workers that ended. May write again; then calls loop_again. After a commit that failed, what it held is done
 * again. */
void sched_committed(struct sched *sched, bool committed);

/* Cancels a job: queued ones at once, others when their worker has stopped. Idempotent; ERR_NOT_FOUND, ERR_CONFLICT when it ended
 * otherwise. */
int sched_cancel(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err);

/* Queues a failed or cancelled job again, from its checkpoint. */
int sched_retry(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err);

/* Deletes an ended job, its rows now and its directory after the commit. */
int sched_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err);

/* Stops claiming, closes the standard input of all workers; their jobs go back to queued. done(arg) when none is left and the
 * last commit is through. Called again, it kills the workers that are left. */
void sched_drain(struct sched *sched, loop_fn *done, void *arg);

/* --- device.c --- */

/* What the probe said (common/event.h), as the API shows it: {"items": [{its fields, "state": "ready" | "busy" | "drained",
 * "job": id or null, "reason": null or text, "telemetry": null or as the running job last told it, "self_check": null or
 * {"passed", "at", "driver", "features"}}], "state": "probing" | "ready" | "failed", "reason": null or text}. A device is busy
 * without a job while it checks itself before its first one. New reference. */
json_t *sched_devices(const struct sched *sched);

/* Gives jobs to a drained device again, by the record of its last self-check as it is now. *ret_device, as in sched_devices, is a
 * new reference. ERR_NOT_FOUND, ERR_CONFLICT when it is not drained. */
int sched_device_resume(struct sched *sched, const char *id, json_t **ret_device, struct err *err);

/* --- fit.c: which devices a job may run on; devices are those of sched_devices --- */

struct sched_wish {
    const char *device, *backend, *precision; /* as in a canonical spec */
};

struct sched_wish sched_wish_of(const json_t *spec); /* borrows from spec */

bool sched_device_is_gpu(const json_t *device);
bool sched_device_is_drained(const json_t *device);

/* Whether a device, drained or not, has what is wished for. */
bool sched_device_offers(const json_t *device, const struct sched_wish *wish);

/* Whether a GPU that is not drained offers it. Then a job that leaves device and backend open ("auto") is for the GPUs, and waits
 * for one when all are busy; else it goes to the processor. */
bool sched_prefers_gpu(const json_t *devices, const struct sched_wish *wish);

/* Whether a GPU's memory is large enough for a job. */
typedef bool sched_room_fn(void *arg, const struct job *job, const json_t *device);

struct sched_fit {
    const json_t *devices; /* the items */
    const struct sched_wish *wish;
    const struct job *job;
    sched_room_fn *room; /* NULL: all have room */
    void *arg;
};

bool sched_device_takes(const struct sched_fit *fit, const json_t *device);

/* Who knows how much memory a network needs. To be told before the first turn; without it every GPU has room. */
void sched_ask_room(struct sched *sched, sched_room_fn *room, void *arg);

/* {"name": {"available": bool, "reason": null or text}, ...} of the probe; borrowed; NULL while it runs. */
const json_t *sched_datasets(const struct sched *sched);

/* Threads a job gets by default, and at most: the processor count. */
int sched_threads(const struct sched *sched);

/* The last bytes of a job's log, at most limit, cut at a line start. Caller frees. Empty when there is none yet. */
int sched_log(struct sched *sched, const char *id, size_t limit, char **ret_text, size_t *ret_size, struct err *err);

/* --- weights.c --- */

enum { WEIGHTS_NEWEST = 0, WEIGHTS_NONE = -1 };

struct sched_weights {
    int epoch;
    char path[PATH_MAX];
};

/* The file of a kept epoch's weights, or of the newest kept one. ERR_NOT_FOUND says which epochs there are. */
int sched_weights_find(const struct sched *sched, const char *id, int epoch, struct sched_weights *ret_weights, struct err *err);

struct sched_kept {
    int epoch;
    int64_t bytes;
};

/* The epochs whose weights are kept, rising: weights/epoch-N.safetensors. The caller frees; NULL and 0 when there are none. */
int sched_weights_list(const struct sched *sched, const char *id, struct sched_kept **ret_list, size_t *ret_n, struct err *err);

/* --- inspect.c: looking into a network while it trains or afterwards --- */

struct inspection;

/* The answer, one line as common/event.h says, borrowed; or NULL and why there is none. Called once, in a later turn. */
typedef void sched_inspect_fn(void *arg, const char *answer, size_t size, const struct err *why);

struct sched_question {
    const struct job *job;
    int epoch;          /* whose weights; also WEIGHTS_NEWEST, WEIGHTS_NONE */
    json_t *steal_want; /* what is asked (common/event.h); consumed on failure too */
    sched_inspect_fn *fn;
    void *arg;
};

/* Asks a short worker of low priority. ERR_NOT_FOUND when the epoch's weights are not kept, ERR_LIMIT when too many wait already,
 * ERR_UNAVAILABLE while draining. */
int sched_inspect(struct sched *sched, const struct sched_question *question, struct inspection **ret_inspection,
                  struct err *err);

/* Nobody wants the answer any more: fn is not called. To be used before it was. */
void sched_inspect_abandon(struct inspection *inspection);

/* --- export.c: files that a short worker writes for one answer --- */

/* Where it may write one of a name that nobody else uses; its folder is there. It is empty whenever the daemon starts. */
int sched_export_path(const struct sched *sched, const char *name, char ret_path[PATH_MAX], struct err *err);

/* Opens it for reading; the caller closes it, and drops the file. */
int sched_export_open(const struct sched *sched, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err);

/* Removes it, when there is one; no worker may write it any more. */
void sched_export_drop(const struct sched *sched, const char *name);

/* --- files.c --- */

/* Opens a file of a job's directory for reading; the caller closes it. ERR_NOT_FOUND when there is none. */
int sched_file_open(struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err);

/* --- dataset.c: files of data sets: DATA/uploads/ID as far as it has come, DATA/datasets/ID when it is ready --- */

/* ERR_TOO_LARGE or ERR_FULL when so many bytes of an archive cannot be taken. */
int sched_upload_check(const struct sched *sched, int64_t bytes, struct err *err);

/* The file of an upload, for one writer at a time (ERR_CONFLICT: there is another); *ret_offset is how much is there. The caller
 * closes it. */
int sched_upload_open(const struct sched *sched, const struct dataset *dataset, int *ret_fd, int64_t *ret_offset,
                      struct err *err);

/* How much of an upload is there. */
int64_t sched_upload_offset(const struct sched *sched, const struct dataset *dataset);

/* All of it is there: it is imported after the commit. */
int sched_upload_done(struct sched *sched, const struct dataset *dataset, struct err *err);

/* Deletes a data set, its row now and its files after the commit. */
int sched_dataset_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err);

/* Opens a file of a data set that is ready; the caller closes it. */
int sched_dataset_file(const struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size,
                       struct err *err);

/* --- import.c --- */

/* What the import of a data set last told: {"phase", "entries", "images", "bytes", "total_bytes"}; borrowed. NULL: it does not
 * run.
 */
const json_t *sched_import_progress(const struct sched *sched, const char *id);

/* --- initial.c: what a job starts from --- */

enum initial_kind {
    INITIAL_WEIGHTS,    /* the kept weights of an epoch */
    INITIAL_CHECKPOINT, /* the checkpoint, the epochs before it and the best one's weights, to go on exactly */
    INITIAL_SAME        /* what the other job started from itself */
};

struct sched_initial {
    enum initial_kind kind;
    const char *job;
    int epoch; /* of INITIAL_WEIGHTS; of INITIAL_CHECKPOINT: the best one, whose weights go along, or 0 */
};

/* Links what a new job starts from into its directory, and syncs it; to be called before the turn's commit. When the commit
 * fails, nothing of it is left. ERR_FIELD at /from/... when the files are not there. */
int sched_initial_place(struct sched *sched, const struct sched_initial *initial, const char *to, struct err *err);

/* Takes it back within the turn, since the job is not queued after all. A job without anything placed is fine. */
void sched_initial_drop(struct sched *sched, const char *to);

struct sched_counters { /* since start; for /metrics */
    int64_t workers_started, workers_died, jobs_retried, events_received;
};
struct sched_counters sched_counters(const struct sched *sched);

#endif
