/* Inside the scheduler: the probe, attempts, and how they are launched. */
#ifndef SCHED_PRIVATE_H
#define SCHED_PRIVATE_H

#include <limits.h>

#include "common/event.h"
#include "server/sched/errand.h"
#include "server/sched/joblog.h"
#include "server/sched/message.h"
#include "server/sched/proc.h"
#include "server/sched/pump.h"
#include "server/sched/sched.h"

/* --- launch.c --- */

enum { LAUNCH_ARGS_MAX = 8, LAUNCH_ENV_MAX = 8, WORKER_NICE = 10 };

struct launch_env { /* "NAME=value", ended by NULL */
    char *entries[LAUNCH_ENV_MAX + 1];
};

struct launch {
    const char *const *args; /* of the worker, ended by NULL; NULL: it trains the job whose line comes */
    const char *dir;         /* where it runs */
    int nice;
    const struct launch_env *env; /* besides what the daemon has, and instead of it; NULL: nothing */
};
int launch_worker(const struct sched *sched, const struct launch *launch, struct proc *ret_proc, struct err *err);

/* What a worker on this device finds in its environment: of a GPU, that it is the only one, and what is known of it. */
int launch_env_make(const struct sched *sched, const char *device, struct launch_env *ret_env, struct err *err);
void launch_env_done(struct launch_env *env); /* accepts zeroed memory */

/* The text of a line for a worker, with its newline. Caller frees; NULL when out of memory. */
char *launch_line(json_t *steal);

/* The line that tells a worker its job. Caller frees; NULL when out of memory or the spec is damaged. */
char *launch_start_line(const struct sched *sched, const struct job *job, const char *dir);

/* The "dataset" of such a line. New reference; NULL when out of memory. */
json_t *launch_dataset(const struct sched *sched, const struct job *job);

/* --- device.c: what is known of a device besides what the probe said --- */

struct device {
    struct device *next;
    struct sched *sched;
    char id[DEVICE_ID_MAX];
    char drained[sizeof((struct err *)0)->text]; /* why it gets no jobs; "": it does */
    bool examined;                               /* its self-check's record was looked at when it was found */
    struct errand *check;                        /* its short self-check, while that runs */
    bool check_due;                              /* it waits for its turn to make one */
    json_t *record;                              /* of its last self-check; NULL: there is none */
    int64_t recorded_us;                         /* when that was written */
};

/* The probe has answered: all its devices become known, and new GPUs without a fitting self-check make one. */
void devices_found(struct sched *sched);
void devices_free(struct sched *sched);

struct device *device_find(const struct sched *sched, const char *id); /* NULL: unknown */
const json_t *device_card(const struct sched *sched, const char *id);  /* what the probe said of it; NULL: nothing */

/* No job is given to it until a person, or a restart, takes it back. Nothing is done to the device itself.
 * The end of what drains it, an attempt or a self-check, has all devices look for jobs. */
void device_drain(struct sched *sched, const char *id, const char *reason);

/* --- check.c: self-checks of GPUs --- */

/* Reads DATA/self-check/ID.json. */
void check_read(struct device *device);

/* Whether the record is of a device with this driver and backend, by a worker of our version, and passed. */
bool check_holds(const struct device *device, const json_t *card);

/* A GPU was found: without a fitting record a short self-check is due; when a whole one failed, it gets no jobs. */
void check_found(struct device *device, const json_t *card);

/* Starts the next check that is due. They run one after another: each computes on the processor, too, and many at once would slow
 * each other down until their time is over. */
void checks_start(struct sched *sched);

/* {"passed", "at", "driver", "features"} of the record, or null. New reference. */
json_t *check_json(const struct device *device);

/* --- probe.c --- */

struct probe;

/* Runs the probe as soon as the loop runs and, when it fails or lacks something, again and again with growing pauses. */
int probe_new(struct sched *sched, struct probe **ret_probe, struct err *err);
void probe_free(struct probe *probe); /* accepts NULL */

/* The "devices" of its last answer, and its "datasets" keyed by their names; borrowed; NULL before the first one. */
const json_t *probe_devices(const struct probe *probe);
const json_t *probe_datasets(const struct probe *probe);
bool probe_failed(const struct probe *probe);        /* and is not being tried again just now */
const char *probe_reason(const struct probe *probe); /* why it failed; "" */

/* --- export.c --- */

/* Removes what an earlier daemon left. */
void exports_clear(const struct sched *sched);

/* --- inspect.c --- */

/* Answers all questions with "unavailable"; or forgets them. */
void inspections_drain(struct sched *sched);
void inspections_free(struct sched *sched);

/* --- files.c --- */

/* Opens a regular file for reading. ERR_NOT_FOUND when there is none. */
int file_open(const char *path, int *ret_fd, uint64_t *ret_size, struct err *err);

/* --- dataset.c --- */

/* DATA/FOLDER/ID; "datasets" or "uploads". */
int dataset_path(const struct sched *sched, const char *folder, const char *id, char ret_path[PATH_MAX], struct err *err);

/* Removes the files of a data set. */
void dataset_remove_upload(const struct sched *sched, const char *id);
void dataset_remove(const struct sched *sched, const char *id);

/* What a daemon that died left behind: files without a row, half an import; rows whose upload was lost. */
void datasets_sweep(struct sched *sched);

/* What was deleted goes after a commit. */
void datasets_committed(struct sched *sched, bool committed);

/* --- import.c: one data set after another becomes what jobs train on --- */

/* At the end of a turn: files what has ended, starts the next. */
void imports_committed(struct sched *sched, bool committed);

/* Ends the import of a data set, or (NULL) whichever runs, without a trace: it waits again. */
void imports_stop(struct sched *sched, const char *id);

/* --- attempt.c: one attempt of a job, from its claim until its end is committed --- */

enum attempt_phase {
    ATTEMPT_CLAIMED, /* the claim is written, not yet committed */
    ATTEMPT_RUNNING, /* its worker lives */
    ATTEMPT_ENDED,   /* the worker is gone; the job's move is still to be written */
    ATTEMPT_FILED,   /* the move is written, not yet committed */
};

enum attempt_stop { STOP_NONE, STOP_CANCEL, STOP_DRAIN, STOP_STORAGE, STOP_DIFFERS };

struct attempt {
    struct attempt *next;
    struct sched *sched;
    struct job job; /* as claimed; epochs_done is kept up to date */
    enum attempt_phase phase;
    enum attempt_stop stop; /* the first cause wins */
    bool stop_sent;
    struct proc proc;
    struct pump *out, *err;
    struct loop_fd *exit_watch;
    struct loop_timer *timer; /* silence; after a stop: the time until SIGKILL */
    struct joblog log;
    int64_t seq, progress_ms, window_ms;
    int window_lines;
    bool greeted, finished; /* said hello; said done */
    bool stopped_early;     /* what "done" said: fewer epochs than asked for are all; the best one, 0: none */
    int best_epoch;
    bool killed;       /* by us, for taking too long to stop */
    bool wrote;        /* in this turn */
    json_t *telemetry; /* of its device, as last told; NULL: nothing was */
    struct err said;   /* the worker's "error" line */
    struct err fault;  /* why we gave up on it: protocol, launch */
    struct proc_end end;
};

struct attempt *attempt_new(struct sched *sched, struct err *err);
void attempt_free(struct attempt *attempt); /* kills what runs; accepts NULL */

/* Starts the worker of a claimed attempt. A failure ends the attempt. */
void attempt_launch(struct attempt *attempt);

/* Asks the worker to stop: closes its standard input, and kills it when that takes too long. */
void attempt_stop(struct attempt *attempt, enum attempt_stop cause);
void attempt_kill(struct attempt *attempt);

/* --- listen.c: what a worker says --- */

int attempt_hear(void *attempt, const char *line, size_t size);
void attempt_hear_oversize(void *attempt);

/* Gives up on a worker: kills it, remembers why. */
void attempt_fault(struct attempt *attempt, const struct err *why);

/* A write of the attempt failed: an attempt that is not current any more is a fault, a full disk stops the worker. */
void attempt_write_failed(struct attempt *attempt, const struct err *why);

/* --- verify.c --- */

/* Compares a new epoch of a verifying job with the verified one's. The first difference is written and ends the attempt. */
int attempt_verify_epoch(struct attempt *attempt, int epoch, const char *sha256, struct err *err);

/* Writes the answer of a verifying job that is about to succeed. */
int attempt_verify_end(struct attempt *attempt, const struct job *job, struct err *err);

/* ERR_CONFLICT when another try of a verifying job could tell nothing. */
int verify_check_retry(const struct sched *sched, const struct job *job, struct err *err);

/* --- verdict.c --- */

/* Whether its worker ended because the device failed. */
bool attempt_device_failed(const struct attempt *attempt);

/* Writes what has become of the job of an ended attempt. Phase FILED on success; else it stays ENDED, to be tried again. */
void attempt_file(struct attempt *attempt);

/* --- sched.c --- */

/* For the daemon itself, which acts for nobody. */
extern const struct viewer daemon_viewer;

struct named { /* a job or a data set in a list */
    struct named *next;
    char id[JOB_ID_MAX];
};

struct sched {
    struct sched_options options;
    char *data_dir, *worker_path;
    struct probe *probe;
    struct device *devices;
    sched_room_fn *room; /* NULL: nobody knows */
    void *room_arg;
    int64_t arrivals_seen; /* the store's, when devices last looked for jobs */
    bool look;             /* they look again, though nothing has arrived */
    struct attempt *attempts;
    struct inspection *inspections;
    struct importing *importing; /* NULL: nothing is imported */
    bool look_imports;           /* a data set may wait for its import */
    struct named *doomed_sets;   /* data sets whose files go after a commit */
    struct named *doomed;        /* jobs whose directories go after a commit */
    struct named *placed;        /* new ones with files in theirs, which go when the commit fails */
    struct loop_timer *pause;    /* armed: nothing is claimed or written again until it fires */
    bool paused, draining;
    loop_fn *drained;
    void *drained_arg;
    struct sched_counters counters;
};

/* The attempt that runs on a device; NULL: none. */
const struct attempt *sched_attempt_on(const struct sched *sched, const char *device);

/* What a device may take has changed: all look for jobs at the end of the turn. */
void sched_look(struct sched *sched);

/* Claims nothing and writes no job's end for some seconds: the store is full or short of memory. */
void sched_pause(struct sched *sched);

/* Removes a job's directory; what cannot be removed is logged. */
void sched_remove_dir(const struct sched *sched, const char *id);

/* Puts an id in front of a list. */
int named_add(struct named **list, const char *id, struct err *err);
void named_clear(struct named **list);

/* DATA/jobs/ID. */
int sched_job_dir(const struct sched *sched, const char *id, char ret_path[PATH_MAX], struct err *err);

#endif
