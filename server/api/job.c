/* A job as the API shows it: the store's document with position, cursor and links. */
#include "server/api/private.h"

static json_t *links_json(const char *id) {
    static const char *const parts[] = {"epochs", "log", "graph", "weights", "predictions", "receipt"};
    json_t *value = json_pack("{s:o}", "self", json_sprintf("/v1/jobs/%s", id));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        json_object_set_new(value, parts[i], json_sprintf("/v1/jobs/%s/%s", id, parts[i]));
    json_object_set_new(value, "events", json_sprintf("/v1/events?job=%s", id));
    return value;
}

int request_job(struct request *request, struct job *ret_job, struct err *err) {
    return store_job_get(request->api->options.store, &request->api->viewer, request->args[0], ret_job, err);
}

json_t *job_json(struct api *api, const struct job *job, struct err *err) {
    int64_t position = 0;
    if (job->state == JOB_QUEUED && store_job_position(api->options.store, job->seq, &position, err) < 0)
        return NULL;
    json_t *value = job_to_json(job);
    if (value != NULL &&
        (json_object_set_new(value, "position", job->state == JOB_QUEUED ? json_integer(position) : json_null()) < 0 ||
         json_object_set_new(value, "cursor", json_integer(store_event_newest(api->options.store))) < 0 ||
         json_object_set_new(value, "links", links_json(job->id)) < 0)) {
        json_decref(value);
        value = NULL;
    }
    if (value == NULL)
        err_set(err, ERR_MEMORY, "cannot show job %s: out of memory", job->id);
    return value;
}

int answer_job(struct request *request, unsigned status, const struct job *job, struct err *err) {
    json_t *value = job_json(request->api, job, err);
    return value == NULL ? -1 : answer_json(request, status, value, err);
}

int handle_show(struct request *request, struct err *err) {
    struct job job = {0};
    if (request_job(request, &job, err) < 0)
        return -1;
    int failed = answer_job(request, MHD_HTTP_OK, &job, err);
    job_done(&job);
    return failed;
}
