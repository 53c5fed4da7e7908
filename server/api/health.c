/* /livez and /readyz. */
#include <string.h>

#include "server/api/private.h"

int handle_live(struct request *request, struct err *err) {
    static const char ok[] = "ok\n";
    return answer_bytes(request, MHD_HTTP_OK, "text/plain; charset=utf-8", ok, sizeof ok - 1, err);
}

static const char *probe_state(const struct sched *sched) {
    json_t *devices = sched_devices(sched);
    const char *state = json_string_value(json_object_get(devices, "state"));
    const char *shown = state == NULL || strcmp(state, "failed") == 0 ? "failed"
                        : strcmp(state, "probing") == 0               ? "probing"
                                                                      : "ok";
    json_decref(devices);
    return shown;
}

/* Jobs may be submitted before the probe has answered, so it does not count. */
int handle_ready(struct request *request, struct err *err) {
    struct api *api = request->api;
    int64_t counts[JOB_STATES_N];
    struct err ignored = {0};
    bool store_ok = store_job_counts(api->options.store, counts, &ignored) == 0;
    bool ready = store_ok && !api->draining;
    json_t *value = json_pack("{s:b,s:{s:s,s:s,s:b}}", "ready", (int)ready, "checks", "store", store_ok ? "ok" : "failed",
                              "probe", probe_state(api->options.sched), "draining", (int)api->draining);
    return answer_json(request, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, value, err);
}
