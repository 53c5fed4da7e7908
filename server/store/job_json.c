/* A job as JSON: what the API shows and what "job" events carry. */
#include <string.h>

#include "common/log.h"
#include "server/store/store.h"

/* New reference; null when it has not happened. */
static json_t *time_json(int64_t us) {
    char text[LOG_TIME_SIZE];
    if (us == 0)
        return json_null();
    log_time(us, text);
    return json_string(text);
}

/* The parsed document, or null when there is none or it is damaged. */
static json_t *document(const char *text) {
    json_t *value = text != NULL ? json_parse(text, strlen(text), NULL) : NULL;
    return value != NULL ? value : json_null();
}

static json_t *reason_json(const struct job *job) {
    if (job->reason[0] == '\0')
        return json_null();
    return json_pack("{s:s, s:s}", "code", job->reason, "text", job->reason_text != NULL ? job->reason_text : "");
}

static json_t *verification_json(const struct job *job) {
    if (job->verification.result == VERIFY_NONE)
        return json_null();
    return json_pack("{s:s, s:o, s:s}", "result", verify_result_name(job->verification.result), "epoch",
                     job->verification.epoch > 0 ? json_integer(job->verification.epoch) : json_null(), "job",
                     job->verification.job);
}

/* What it trains on, and what its epochs came to. */
static json_t *outcome_json(const struct job *job) {
    return json_pack("{s:s?, s:o, s:b, s:o, s:s?, s:o}", "dataset", job->dataset[0] != '\0' ? job->dataset : NULL, "best_epoch",
                     job->best_epoch > 0 ? json_integer(job->best_epoch) : json_null(), "stopped_early", (int)job->stopped_early,
                     "test_accuracy", json_number_or_null(job->test_accuracy), "verifies",
                     job->verifies[0] != '\0' ? job->verifies : NULL, "verification", verification_json(job));
}

json_t *job_to_json(const struct job *job) {
    json_t *spec = document(job->spec), *name = json_object_get(spec, "name"), *outcome = outcome_json(job);
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:i, s:s?, s:o, s:o, s:b, s:o, s:o, s:o}", "id", job->id, "state",
                  job_state_name(job->state), "owner", job->owner, "name", name != NULL ? json_incref(name) : json_string(""),
                  "spec", spec, "attempt", job->attempt, "epochs_done", job->epochs_done, "epochs", job->epochs, "device",
                  job->device[0] != '\0' ? job->device : NULL, "worker", document(job->hello), "reason", reason_json(job),
                  "cancel_requested", (int)(job->cancel_requested_us != 0), "created", time_json(job->created_us), "started",
                  time_json(job->started_us), "ended", time_json(job->ended_us));
    if (value != NULL && (outcome == NULL || json_object_update(value, outcome) != 0)) {
        json_decref(value);
        value = NULL;
    }
    json_decref(outcome);
    return value;
}
