/* The scheduler: which job runs where, and the requests that change a running job. Nothing is launched before its claim is
 * committed, nothing is forgotten before its end is. */
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"
#include "server/sched/private.h"

/* After a commit that failed for want of space: how long until anything is tried again. */
enum { PAUSE_MS = 5000 };

const struct viewer daemon_viewer = {.sees_all = true};

int sched_job_dir(const struct sched *sched, const char *id, char ret_path[PATH_MAX], struct err *err) {
    if (strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz") != strlen(id) || id[0] == '\0')
        return err_set(err, ERR_NOT_FOUND, "there is no job %.40s", id);
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/jobs/%s", sched->data_dir, id) >= PATH_MAX)
        return err_set(err, ERR_IO, "the path of a job's directory is longer than %d bytes", PATH_MAX);
    return 0;
}

void sched_pause(struct sched *sched) {
    sched->paused = true;
    loop_timer_arm(sched->pause, PAUSE_MS);
}

static void resume(void *arg) {
    struct sched *sched = arg;
    sched->paused = false;
    sched_look(sched);
}

/* Directories of jobs that are no more: the daemon died between the commit of a delete and its end. */
static void sweep(const struct sched *sched) {
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/jobs", sched->data_dir) >= sizeof path)
        return;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return; /* there was no job yet */
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct err why = {0};
        struct job job = {0};
        if (strncmp(entry->d_name, "job_", 4) != 0 || sched_job_dir(sched, entry->d_name, path, &why) != 0)
            continue;
        if (store_job_get(sched->options.store, &daemon_viewer, entry->d_name, &job, &why) != 0 && why.code == ERR_NOT_FOUND)
            file_remove_tree(path, NULL);
        job_done(&job);
    }
    closedir(dir);
}

int named_add(struct named **list, const char *id, struct err *err) {
    struct named *named = calloc(1, sizeof *named);
    if (named == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while keeping the id %s", id);
    snprintf(named->id, sizeof named->id, "%s", id);
    named->next = *list;
    *list = named;
    return 0;
}

void named_clear(struct named **list) {
    while (*list != NULL) {
        struct named *named = *list;
        *list = named->next;
        free(named);
    }
}

int sched_new(const struct sched_options *options, struct sched **ret_sched, struct err *err) {
    struct sched *sched = calloc(1, sizeof *sched);
    if (sched == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting the scheduler");
    sched->options = *options;
    sched->data_dir = strdup(options->data_dir);
    sched->worker_path = strdup(options->worker_path);
    sched->pause = loop_timer_add(options->loop, resume, sched, err);
    int rc = sched->pause == NULL ? -1 : 0;
    if (rc == 0 && (sched->data_dir == NULL || sched->worker_path == NULL))
        rc = err_set(err, ERR_MEMORY, "out of memory while starting the scheduler");
    if (rc == 0)
        rc = probe_new(sched, &sched->probe, err);
    if (rc != 0) {
        sched_free(sched);
        return -1;
    }
    sweep(sched);
    datasets_sweep(sched);
    exports_clear(sched);
    *ret_sched = sched;
    return 0;
}

void sched_remove_dir(const struct sched *sched, const char *id) {
    char path[PATH_MAX];
    struct err why = {0};
    if (sched_job_dir(sched, id, path, &why) != 0 || file_remove_tree(path, &why) != 0)
        log_line("warning", "directory-kept", "job", id, "reason", why.text, (char *)NULL);
}

void sched_free(struct sched *sched) {
    if (sched == NULL)
        return;
    while (sched->attempts != NULL) {
        struct attempt *attempt = sched->attempts;
        sched->attempts = attempt->next;
        attempt_free(attempt);
    }
    inspections_free(sched);
    imports_stop(sched, NULL);
    named_clear(&sched->doomed);
    named_clear(&sched->doomed_sets);
    named_clear(&sched->placed);
    devices_free(sched);
    probe_free(sched->probe);
    loop_timer_remove(sched->pause);
    free(sched->data_dir);
    free(sched->worker_path);
    free(sched);
}

/* --- the end of a turn --- */

static struct attempt *find(const struct sched *sched, const char *id) {
    struct attempt *attempt = sched->attempts;
    while (attempt != NULL && strcmp(attempt->job.id, id) != 0)
        attempt = attempt->next;
    return attempt;
}

const struct attempt *sched_attempt_on(const struct sched *sched, const char *device) {
    const struct attempt *attempt = sched->attempts;
    while (attempt != NULL && strcmp(attempt->job.device, device) != 0)
        attempt = attempt->next;
    return attempt;
}

/* Directories follow the rows: what was deleted goes after the commit, what was placed for new jobs when it failed. */
static void settle_dirs(struct sched *sched, bool committed) {
    for (const struct named *job = committed ? sched->doomed : sched->placed; job != NULL; job = job->next)
        sched_remove_dir(sched, job->id);
    named_clear(&sched->doomed);
    named_clear(&sched->placed);
    datasets_committed(sched, committed);
}

/* What a lost commit means for an attempt: a claim never happened, a worker is stopped since the store lacks what it said, an end
 * is written again. Returns whether the attempt is gone. */
static bool lose(struct attempt *attempt) {
    switch (attempt->phase) {
    case ATTEMPT_CLAIMED:
        return true;
    case ATTEMPT_RUNNING:
        if (attempt->wrote && attempt->stop == STOP_DIFFERS) /* a difference that is not on disk was not found */
            attempt->stop = STOP_NONE;
        if (attempt->wrote)
            attempt_stop(attempt, STOP_STORAGE);
        return false;
    case ATTEMPT_FILED:
        attempt->phase = ATTEMPT_ENDED;
        return attempt->sched->draining; /* the next start will see to the job; a full disk must not hold up the end */
    case ATTEMPT_ENDED:
        return false;
    }
    return false;
}

/* What a commit means for an attempt. Returns whether it is gone. */
static bool keep(struct attempt *attempt) {
    switch (attempt->phase) {
    case ATTEMPT_CLAIMED:
        attempt_launch(attempt);
        return false;
    case ATTEMPT_RUNNING:
        if (attempt->stop != STOP_NONE)
            attempt_stop(attempt, attempt->stop);
        return false;
    case ATTEMPT_FILED:
        return true;
    case ATTEMPT_ENDED:
        if (!attempt->sched->paused)
            attempt_file(attempt);
        return false;
    }
    return false;
}

static void each_attempt(struct sched *sched, bool (*gone)(struct attempt *attempt)) {
    for (struct attempt **link = &sched->attempts; *link != NULL;) {
        struct attempt *attempt = *link;
        bool remove = gone(attempt);
        attempt->wrote = false;
        if (!remove) {
            link = &attempt->next;
            continue;
        }
        *link = attempt->next;
        attempt_free(attempt);
        sched->look = true; /* its device is free */
    }
}

void sched_look(struct sched *sched) {
    sched->look = true;
    loop_again(sched->options.loop);
}

/* A device that looks for a job. */
struct looking {
    const struct sched *sched;
    const json_t *devices, *device;
};

static bool fits(void *arg, const struct job *job) {
    const struct looking *looking = arg;
    json_t *spec = json_parse(job->spec, strlen(job->spec), NULL);
    struct sched_wish wish = sched_wish_of(spec);
    struct sched_fit fit = {
        .devices = looking->devices, .wish = &wish, .job = job, .room = looking->sched->room, .arg = looking->sched->room_arg};
    bool takes = sched_device_takes(&fit, looking->device);
    json_decref(spec);
    return takes;
}

static void claim(struct sched *sched, struct looking *looking) {
    struct err why = {0};
    bool found = false;
    const char *id = json_string_value(json_object_get(looking->device, "id"));
    struct job_claim claim = {.device = id, .fits = fits, .arg = looking};
    struct attempt *attempt = attempt_new(sched, &why);
    int rc = attempt == NULL ? -1 : store_job_claim(sched->options.store, &claim, &attempt->job, &found, &why);
    if (rc != 0) {
        log_line("error", "claim-failed", "device", id, "reason", why.text, (char *)NULL);
        sched_pause(sched);
    }
    if (rc != 0 || !found) {
        attempt_free(attempt);
        return;
    }
    attempt->next = sched->attempts;
    sched->attempts = attempt;
    loop_again(sched->options.loop);
}

static bool is_ready(const json_t *device) {
    const char *state = json_string_value(json_object_get(device, "state"));
    return state != NULL && strcmp(state, "ready") == 0 && json_array_size(json_object_get(device, "backends")) > 0;
}

/* Looking means reading the whole queue, so it is done only when something has changed. */
static void claim_all(struct sched *sched) {
    int64_t arrivals = store_job_arrivals(sched->options.store);
    if ((!sched->look && arrivals == sched->arrivals_seen) || probe_devices(sched->probe) == NULL)
        return;
    sched->look = false;
    sched->arrivals_seen = arrivals;
    json_t *shown = sched_devices(sched);
    struct looking looking = {.sched = sched, .devices = json_object_get(shown, "items")};
    size_t i;
    json_array_foreach(looking.devices, i, looking.device) {
        if (is_ready(looking.device))
            claim(sched, &looking);
    }
    json_decref(shown);
}

void sched_committed(struct sched *sched, bool committed) {
    settle_dirs(sched, committed);
    if (!committed) {
        sched->look = true; /* claims are undone */
        sched_pause(sched);
    }
    each_attempt(sched, committed ? keep : lose);
    imports_committed(sched, committed);
    if (committed && !sched->paused && !sched->draining)
        claim_all(sched);
    if (sched->draining && sched->attempts == NULL && sched->drained != NULL) {
        loop_fn *drained = sched->drained;
        sched->drained = NULL;
        drained(sched->drained_arg);
    }
}

/* --- requests --- */

static int cancel_running(struct sched *sched, const char *id, struct err *err) {
    struct attempt *attempt = find(sched, id);
    if (store_job_cancel_requested(sched->options.store, id, err) != 0)
        return -1;
    if (attempt != NULL && (attempt->stop == STOP_NONE || attempt->stop == STOP_DRAIN))
        attempt->stop = STOP_CANCEL; /* sent after the commit */
    return 0;
}

static int cancel(struct sched *sched, const struct job *job, struct err *err) {
    switch (job->state) {
    case JOB_QUEUED:
        return store_job_move(sched->options.store, job->id, JOB_QUEUED, job->attempt, JOB_CANCELLED, NULL, NULL, err);
    case JOB_STARTING:
    case JOB_RUNNING:
        return cancel_running(sched, job->id, err);
    case JOB_CANCELLED:
        return 0;
    case JOB_SUCCEEDED:
    case JOB_FAILED:
        return err_set(err, ERR_CONFLICT, "job %s has %s already; there is nothing to cancel", job->id,
                       job_state_name(job->state));
    }
    return 0;
}

int sched_cancel(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err) {
    struct job job;
    if (store_job_get(sched->options.store, viewer, id, &job, err) != 0)
        return -1;
    int rc = cancel(sched, &job, err);
    job_done(&job);
    return rc == 0 ? store_job_get(sched->options.store, viewer, id, ret_job, err) : -1;
}

int sched_retry(struct sched *sched, const struct viewer *viewer, const char *id, struct job *ret_job, struct err *err) {
    struct job job;
    if (store_job_get(sched->options.store, viewer, id, &job, err) != 0)
        return -1;
    int rc;
    if (job.state == JOB_FAILED || job.state == JOB_CANCELLED)
        rc = verify_check_retry(sched, &job, err) != 0
                 ? -1
                 : store_job_move(sched->options.store, id, job.state, job.attempt, JOB_QUEUED, NULL, ret_job, err);
    else
        rc = err_set(err, ERR_CONFLICT, "job %s is %s; only a failed or cancelled job can be tried again", job.id,
                     job_state_name(job.state));
    job_done(&job);
    return rc;
}

int sched_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err) {
    return store_job_delete(sched->options.store, viewer, id, err) != 0 ? -1 : named_add(&sched->doomed, id, err);
}

void sched_drain(struct sched *sched, loop_fn *done, void *arg) {
    bool again = sched->draining;
    sched->draining = true;
    sched->drained = done;
    sched->drained_arg = arg;
    inspections_drain(sched);
    imports_stop(sched, NULL);
    for (struct attempt *attempt = sched->attempts; attempt != NULL; attempt = attempt->next) {
        attempt_stop(attempt, STOP_DRAIN);
        if (again)
            attempt_kill(attempt);
    }
    loop_again(sched->options.loop);
}

/* --- what others may know --- */

void sched_ask_room(struct sched *sched, sched_room_fn *room, void *arg) {
    sched->room = room;
    sched->room_arg = arg;
}

const json_t *sched_datasets(const struct sched *sched) {
    return probe_datasets(sched->probe);
}

int sched_threads(const struct sched *sched) {
    (void)sched;
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int sched_log(struct sched *sched, const char *id, size_t limit, char **ret_text, size_t *ret_size, struct err *err) {
    char dir[PATH_MAX];
    if (sched_job_dir(sched, id, dir, err) != 0)
        return -1;
    return joblog_tail(dir, limit, ret_text, ret_size, err);
}

struct sched_counters sched_counters(const struct sched *sched) {
    return sched->counters;
}
