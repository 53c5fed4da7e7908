/* What a job starts from: files of another job, linked into its directory before its row is committed. A link shares the bytes,
 * so it costs nothing, and the other job may write on or go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/event.h"
#include "common/file.h"
#include "common/log.h"
#include "server/sched/private.h"

#define INITIAL "initial.safetensors"
#define INITIAL_EPOCHS "initial-epochs.ndjson"
#define INITIAL_BEST "initial-best.safetensors"

enum { LINKED_MAX = 3 };

struct linked {
    const char *from, *to;
    bool optional;
};

static int missing(const struct sched_initial *initial, const char *name, struct err *err) {
    bool epoch = initial->kind == INITIAL_WEIGHTS;
    return err_at(err, ERR_FIELD, epoch ? "/from/epoch" : "/from/job", "job %s has no %s any more", initial->job, name);
}

static int link_one(const struct sched_initial *initial, const char *from_dir, const struct linked *file, const char *to_dir,
                    struct err *err) {
    char from[PATH_MAX], to[PATH_MAX];
    if ((size_t)snprintf(from, sizeof from, "%s/%s", from_dir, file->from) >= sizeof from ||
        (size_t)snprintf(to, sizeof to, "%s/%s", to_dir, file->to) >= sizeof to)
        return err_set(err, ERR_IO, "the path of a job's file is longer than %d bytes", PATH_MAX);
    if (link(from, to) == 0 || (errno == ENOENT && file->optional))
        return 0;
    if (errno == ENOENT)
        return missing(initial, file->from, err);
    enum err_code code = errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
    return err_errno(err, code, errno, "cannot link %s to %s; the data directory must lie on a file system with hard links", from,
                     to);
}

/* The new directory and its own name must be on disk before the promise that the job is queued. */
static int sync_both(const struct sched *sched, const char *dir, struct err *err) {
    char jobs[PATH_MAX];
    if ((size_t)snprintf(jobs, sizeof jobs, "%s/jobs", sched->data_dir) >= sizeof jobs)
        return err_set(err, ERR_IO, "the path of the jobs' directory is longer than %d bytes", PATH_MAX);
    return file_sync_dir(dir, err) == 0 ? file_sync_dir(jobs, err) : -1;
}

static int link_all(const struct sched *sched, const struct sched_initial *initial, const char *to, struct err *err) {
    char name[EVENT_WEIGHTS_NAME_MAX], weights[sizeof name + 8], from_dir[PATH_MAX], to_dir[PATH_MAX];
    event_weights_name(initial->epoch, name);
    snprintf(weights, sizeof weights, "weights/%s", name);
    const struct linked kinds[][LINKED_MAX] = {
        [INITIAL_WEIGHTS] = {{weights, INITIAL, false}},
        [INITIAL_CHECKPOINT] = {{"checkpoint.safetensors", INITIAL, false},
                                {"epochs.ndjson", INITIAL_EPOCHS, false},
                                {weights, INITIAL_BEST, true}},
        [INITIAL_SAME] = {{INITIAL, INITIAL, false}, {INITIAL_EPOCHS, INITIAL_EPOCHS, true}, {INITIAL_BEST, INITIAL_BEST, true}}};
    if (sched_job_dir(sched, initial->job, from_dir, err) != 0 || sched_job_dir(sched, to, to_dir, err) != 0 ||
        file_mkdirs(to_dir, err) != 0)
        return -1;
    for (int i = 0; i < LINKED_MAX; i++) {
        const struct linked *file = &kinds[initial->kind][i];
        if (file->from != NULL && link_one(initial, from_dir, file, to_dir, err) != 0)
            return -1;
    }
    return sync_both(sched, to_dir, err);
}

int sched_initial_place(struct sched *sched, const struct sched_initial *initial, const char *to, struct err *err) {
    struct named *placed = calloc(1, sizeof *placed);
    if (placed == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while queuing a job");
    snprintf(placed->id, sizeof placed->id, "%s", to);
    placed->next = sched->placed;
    sched->placed = placed;
    if (link_all(sched, initial, to, err) == 0)
        return 0;
    sched_initial_drop(sched, to);
    return -1;
}

void sched_initial_drop(struct sched *sched, const char *to) {
    for (struct named **link = &sched->placed; *link != NULL; link = &(*link)->next) {
        struct named *placed = *link;
        if (strcmp(placed->id, to) != 0)
            continue;
        *link = placed->next;
        sched_remove_dir(sched, placed->id);
        free(placed);
        return;
    }
}
