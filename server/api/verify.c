/* POST /v1/jobs/{id}/verify: queues a job that runs a succeeded one again, as its worker said it ran. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"
#include "server/api/submit.h"

static int check_verifiable(struct store *store, const struct job *job, struct err *err) {
    char sha256[WEIGHTS_SHA256_MAX] = "";
    if (job->state != JOB_SUCCEEDED)
        return err_set(err, ERR_CONFLICT, "job %s is %s; only a job that has succeeded can be verified", job->id,
                       job_state_name(job->state));
    if (job->verification.result == VERIFY_PENDING)
        return err_set(err, ERR_CONFLICT, "job %s is being verified already, by job %s", job->id, job->verification.job);
    if (store_weights_get(store, job->id, job->epochs_done, sha256, err) != 0)
        return -1;
    if (sha256[0] == '\0' || job->hello == NULL)
        return err_set(err, ERR_CONFLICT, "job %s ran before hashes of weights were recorded; there is nothing to compare with",
                       job->id);
    return 0;
}

/* A GPU that was allowed to take any algorithm need not give the same bits again. */
static int check_deterministic(const struct job *job, const json_t *spec, const json_t *hello, struct err *err) {
    const char *backend = json_string_value(json_object_get(hello, "backend"));
    if (!json_is_false(json_object_get(spec, "deterministic")) || backend == NULL || strcmp(backend, "cudnn") != 0)
        return 0;
    return err_set(err, ERR_CONFLICT, "job %s ran on a GPU with \"deterministic\": false; its weights need not come out again",
                   job->id);
}

/* The device that the job ran on, if it is still there; else, as before, any that offers the same. */
static int pin_device(const struct sched *sched, const json_t *hello, json_t *spec) {
    json_t *id = json_object_get(hello, "device_id"), *devices = sched_devices(sched), *device;
    size_t i;
    int failed = 0;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        if (json_is_string(id) && json_equal(json_object_get(device, "id"), id))
            failed = json_object_set(spec, "device", id);
    }
    json_decref(devices);
    return failed;
}

/* The job's spec with what its worker chose, instead of what it was to choose. New reference. */
static json_t *pinned_spec(const struct sched *sched, const struct job *job, struct err *err) {
    static const char *const chosen[] = {"backend", "precision", "threads"};
    json_t *spec = json_parse(job->spec, strlen(job->spec), err), *hello = json_parse(job->hello, strlen(job->hello), err);
    bool failed = spec == NULL || hello == NULL;
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0] && !failed; i++)
        failed = json_object_set(spec, chosen[i], json_object_get(hello, chosen[i])) != 0;
    if (failed || check_deterministic(job, spec, hello, err) != 0 || pin_device(sched, hello, spec) != 0) {
        err_set(err, ERR_MEMORY, "cannot verify job %s: out of memory", job->id);
        json_decref(spec);
        spec = NULL;
    }
    json_decref(hello);
    return spec;
}

/* Whether this server still offers what the job ran with. */
static int check_offer(struct api *api, const struct job *job, const char *text, struct err *err) {
    struct spec spec = {0};
    struct plan plan = {0};
    if (plan_of_text(api, job, text, &spec, &plan, err) < 0)
        return -1;
    int failed = offer_check(api->options.sched, &spec, &plan, err);
    plan_done(&plan);
    spec_done(&spec);
    return failed;
}

static int queue(struct request *request, const struct job *job, const json_t *spec, struct err *err) {
    struct sched_initial initial = {.kind = INITIAL_SAME, .job = job->id};
    char *text = json_text(spec);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "cannot verify job %s: out of memory", job->id);
    struct queue_entry entry = {.new = {.spec = text,
                                        .epochs = job->epochs,
                                        .dataset = job->dataset[0] != '\0' ? job->dataset : NULL,
                                        .verifies = job->id},
                                .initial = json_object_get(spec, "from") != NULL ? &initial : NULL};
    int failed = check_offer(request->api, job, text, err);
    if (failed == 0)
        failed = queue_job(request, &entry, err);
    free(text);
    return failed;
}

int handle_verify(struct request *request, struct err *err) {
    struct job job = {0};
    if (request_job(request, &job, err) < 0)
        return -1;
    json_t *spec = check_verifiable(request->api->options.store, &job, err) == 0
                       ? pinned_spec(request->api->options.sched, &job, err)
                       : NULL;
    int failed = spec != NULL ? queue(request, &job, spec, err) : -1;
    json_decref(spec);
    job_done(&job);
    return failed;
}
