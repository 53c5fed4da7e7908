/* GET /v1/jobs/{id}/receipt: what a training was, so that it can be told whether another one was the same. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "common/version.h"
#include "server/api/private.h"

/* What decides the weights besides the spec: attempts that differ in one of these need not agree. */
static const char *const facts[] = {"program", "backend",   "backend_version", "algorithms",
                                    "device",  "precision", "threads",         "data_sha256"};
enum { FACTS_N = sizeof facts / sizeof facts[0] };

static int add_epoch(void *arg, const struct store_weights *weights) {
    const char *sha256 = weights->weights_sha256;
    json_t *list = arg;
    json_t *row = json_pack("{s:i, s:i, s:s?}", "epoch", weights->epoch, "attempt", weights->attempt, "weights_sha256",
                            sha256[0] != '\0' ? sha256 : NULL);
    return json_array_append_new(list, row); /* a list that is short of one is found by its size */
}

static int add_attempt(void *arg, int attempt, const char *hello) {
    json_t *list = arg, *said = json_parse(hello, strlen(hello), NULL), *row = json_pack("{s:i}", "attempt", attempt);
    for (int i = 0; i < FACTS_N; i++) {
        json_t *value = json_object_get(said, facts[i]);
        json_object_set(row, facts[i], value != NULL ? value : json_null());
    }
    json_decref(said);
    return json_array_append_new(list, row);
}

/* Whether all attempts ran with the same facts. */
static bool uniform(const json_t *attempts) {
    size_t i;
    json_t *attempt;
    json_array_foreach(attempts, i, attempt) {
        for (int k = 0; k < FACTS_N; k++) {
            if (!json_equal(json_object_get(attempt, facts[k]), json_object_get(json_array_get(attempts, 0), facts[k])))
                return false;
        }
    }
    return true;
}

/* Consumes both lists. */
static json_t *receipt_json(const struct job *job, json_t *epochs, json_t *attempts) {
    char sha256[65];
    sha256_hex(job->spec, strlen(job->spec), sha256);
    json_t *spec = json_parse(job->spec, strlen(job->spec), NULL);
    json_t *seed = json_object_get(spec, "seed");
    return json_pack("{s:s, s:s, s:o, s:s, s:O, s:i, s:b, s:s, s:b, s:o, s:o}", "job", job->id, "state",
                     job_state_name(job->state), "spec", spec, "spec_sha256", sha256, "seed", seed != NULL ? seed : json_null(),
                     "epochs_done", job->epochs_done, "stopped_early", (int)job->stopped_early, "server", RESIDUUM_VERSION,
                     "uniform", (int)uniform(attempts), "attempts", attempts, "epochs", epochs);
}

int handle_receipt(struct request *request, struct err *err) {
    struct store *store = request->api->options.store;
    struct job job = {0};
    if (request_job(request, &job, err) < 0)
        return -1;
    json_t *epochs = json_array(), *attempts = json_array();
    int failed = store_weights_list(store, job.seq, add_epoch, epochs, err);
    if (failed == 0)
        failed = store_attempt_list(store, job.seq, add_attempt, attempts, err);
    if (failed == 0 && json_array_size(epochs) != (size_t)job.epochs_done)
        failed = err_set(err, ERR_MEMORY, "cannot write the receipt of job %s: out of memory", job.id);
    if (failed == 0) {
        failed = answer_json(request, MHD_HTTP_OK, receipt_json(&job, epochs, attempts), err);
    } else {
        json_decref(epochs);
        json_decref(attempts);
    }
    job_done(&job);
    return failed;
}
