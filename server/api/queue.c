/* Queuing a job: its row, its key and the files it starts from, all or nothing. */
#include <stdio.h>

#include "server/api/private.h"
#include "server/api/submit.h"

static int answer_queued(struct request *request, const struct job *job, struct err *err) {
    char location[64];
    snprintf(location, sizeof location, "/v1/jobs/%s", job->id);
    if (answer_job(request, MHD_HTTP_ACCEPTED, job, err) < 0)
        return -1;
    return answer_header(request, MHD_HTTP_HEADER_LOCATION, location, err);
}

/* Nothing accepted is ever dropped, so that what is accepted must have a limit. */
static int check_room(struct api *api, struct err *err) {
    int64_t waiting = 0;
    if (store_job_position(api->options.store, INT64_MAX, &waiting, err) < 0)
        return -1;
    if (waiting < api->options.queue_max)
        return 0;
    return err_set(err, ERR_LIMIT, "%lld jobs wait in the queue and no more are taken; try again when some have run",
                   (long long)waiting);
}

int queue_job(struct request *request, const struct queue_entry *entry, struct err *err) {
    struct api *api = request->api;
    struct job job = {0};
    if (check_room(api, err) < 0 || store_job_add(api->options.store, &api->viewer, &entry->new, &job, err) < 0)
        return -1;
    int failed = entry->initial == NULL ? 0 : sched_initial_place(api->options.sched, entry->initial, job.id, err);
    if (failed == 0 && entry->key != NULL)
        failed = store_idempotency_put(api->options.store, &api->viewer, entry->key, entry->digest, job.id, err);
    if (failed == 0)
        failed = answer_queued(request, &job, err);
    if (failed < 0)
        sched_initial_drop(api->options.sched, job.id);
    job_done(&job);
    request->wrote = failed == 0;
    return failed;
}
