/* /livez and /readyz. */
#include <string.h>

#include "server/api/private.h"

int handle_live(struct request *request, struct err *err) {
    static const char ok[] = "ok\n";
    return answer_bytes(request, MHD_HTTP_OK, "text/plain; charset=utf-8", ok, sizeof ok - 1, err);
}

static const char *probe_state(const json_t *devices) {
    const char *state = json_string_value(json_object_get(devices, "state"));
    return state == NULL || strcmp(state, "failed") == 0 ? "failed" : strcmp(state, "probing") == 0 ? "probing" : "ok";
}

/* The devices out of use, and why. */
static json_t *drained_json(const json_t *devices) {
    json_t *device, *list = json_array();
    size_t i;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        if (sched_device_is_drained(device))
            json_array_append_new(
                list, json_pack("{s:O, s:O}", "id", json_object_get(device, "id"), "reason", json_object_get(device, "reason")));
    }
    return list;
}

/* Jobs may be submitted before the probe has answered, or while a device is out of use, so neither counts. */
int handle_ready(struct request *request, struct err *err) {
    struct api *api = request->api;
    int64_t counts[JOB_STATES_N];
    struct err ignored = {0};
    bool store_ok = store_job_counts(api->options.store, counts, &ignored) == 0;
    bool ready = store_ok && !api->draining;
    json_t *devices = sched_devices(api->options.sched);
    json_t *value =
        json_pack("{s:b,s:{s:s,s:s,s:o,s:b}}", "ready", (int)ready, "checks", "store", store_ok ? "ok" : "failed", "probe",
                  probe_state(devices), "drained_devices", drained_json(devices), "draining", (int)api->draining);
    json_decref(devices);
    return answer_json(request, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, value, err);
}
