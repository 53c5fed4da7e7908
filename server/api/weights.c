/* Weights that a job keeps: which there are, and the files themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/event.h"
#include "server/api/private.h"

struct listing {
    const struct job *job;
    const struct sched_kept *kept;
    size_t n, next; /* of kept */
    json_t *items;
};

/* Adds the file of an epoch, when it is kept. Both lists rise. */
static int add_weights(void *arg, const struct store_weights *weights) {
    struct listing *listing = arg;
    const char *sha256 = weights->exported_sha256;
    int epoch = weights->epoch;
    while (listing->next < listing->n && listing->kept[listing->next].epoch < epoch)
        listing->next++;
    if (listing->next == listing->n || listing->kept[listing->next].epoch != epoch)
        return 0;
    json_t *row = json_pack("{s:i, s:I, s:s?, s:b, s:b}", "epoch", epoch, "bytes", (json_int_t)listing->kept[listing->next].bytes,
                            "sha256", sha256[0] != '\0' ? sha256 : NULL, "last", (int)(epoch == listing->job->epochs_done),
                            "best", (int)(epoch == listing->job->best_epoch));
    return json_array_append_new(listing->items, row);
}

int handle_weights(struct request *request, struct err *err) {
    struct job job = {0};
    struct sched_kept *kept = NULL;
    struct listing listing = {.job = &job};
    if (request_job(request, &job, err) < 0)
        return -1;
    int failed = sched_weights_list(request->api->options.sched, job.id, &kept, &listing.n, err);
    listing.kept = kept;
    listing.items = json_array();
    if (failed == 0)
        failed = store_weights_list(request->api->options.store, job.seq, add_weights, &listing, err);
    if (failed == 0)
        failed = answer_json(request, MHD_HTTP_OK, json_pack("{s:O}", "items", listing.items), err);
    json_decref(listing.items);
    free(kept);
    job_done(&job);
    return failed;
}

/* The epoch that the path names: a number, "last" or "best". */
static int wanted(const struct job *job, const char *name, int *ret_epoch, struct err *err) {
    int64_t epoch = 0;
    bool best = strcmp(name, "best") == 0, last = strcmp(name, "last") == 0;
    if (best)
        epoch = job->best_epoch;
    else if (!last && (!number_parse(name, &epoch) || epoch > INT32_MAX))
        epoch = 0;
    *ret_epoch = last ? WEIGHTS_NEWEST : (int)epoch;
    if (last || epoch > 0)
        return 0;
    if (best)
        return err_set(err, ERR_NOT_FOUND,
                       "job %s has no best epoch; it takes a validation set to tell (\"validation_fraction\")", job->id);
    return err_set(err, ERR_NOT_FOUND, "job %s has no weights of epoch \"%.20s\"; it has finished %d", job->id, name,
                   job->epochs_done);
}

/* Opens the file of an epoch. The newest one of a job that trains may be replaced by the next one between finding and opening. */
static int open_weights(struct sched *sched, const char *id, int epoch, struct download *download, struct err *err) {
    enum { TRIES = 3 };
    for (int i = 0;; i++) {
        struct sched_weights found;
        struct err why = {0};
        char file[EVENT_WEIGHTS_NAME_MAX], name[sizeof file + 8];
        if (sched_weights_find(sched, id, epoch, &found, err) != 0)
            return -1;
        event_weights_name(found.epoch, file);
        snprintf(name, sizeof name, "weights/%s", file);
        snprintf(download->name, sizeof download->name, "%s-%s", id, file);
        if (sched_file_open(sched, id, name, &download->steal_fd, &download->size, &why) == 0)
            return 0;
        if (why.code != ERR_NOT_FOUND || i + 1 == TRIES)
            return err_set(err, why.code, "%s", why.text);
    }
}

static int answer_weights(struct request *request, const struct job *job, int epoch, struct err *err) {
    struct download download = {.type = "application/octet-stream"};
    if (open_weights(request->api->options.sched, job->id, epoch, &download, err) != 0)
        return -1;
    return answer_download(request, &download, err);
}

int handle_weights_file(struct request *request, struct err *err) {
    struct job job = {0};
    int epoch;
    if (request_job(request, &job, err) < 0)
        return -1;
    int failed = wanted(&job, request->args[1], &epoch, err);
    if (failed == 0)
        failed = answer_weights(request, &job, epoch, err);
    job_done(&job);
    return failed;
}
