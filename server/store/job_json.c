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

json_t *job_to_json(const struct job *job) {
    json_t *spec = document(job->spec);
    json_t *name = json_object_get(spec, "name");
    json_t *reason = job->reason[0] != '\0'
                         ? json_pack("{s:s, s:s}", "code", job->reason, "text", job->reason_text != NULL ? job->reason_text : "")
                         : json_null();
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:i, s:s?, s:o, s:o, s:b, s:o, s:o, s:o}", "id", job->id, "state",
                     job_state_name(job->state), "owner", job->owner, "name", name != NULL ? json_incref(name) : json_string(""),
                     "spec", spec, "attempt", job->attempt, "epochs_done", job->epochs_done, "epochs", job->epochs, "device",
                     job->device[0] != '\0' ? job->device : NULL, "worker", document(job->hello), "reason", reason,
                     "cancel_requested", (int)(job->cancel_requested_us != 0), "created", time_json(job->created_us), "started",
                     time_json(job->started_us), "ended", time_json(job->ended_us));
}
