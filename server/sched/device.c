/* What is known of the devices besides what the probe said: which ones get no jobs, what they do now, and how the API shows it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "server/sched/private.h"

struct device *device_find(const struct sched *sched, const char *id) {
    struct device *device = sched->devices;
    while (device != NULL && strcmp(device->id, id) != 0)
        device = device->next;
    return device;
}

const json_t *device_card(const struct sched *sched, const char *id) {
    const json_t *card;
    size_t i;
    json_array_foreach(probe_devices(sched->probe), i, card) {
        if (strcmp(json_string_value(json_object_get(card, "id")), id) == 0)
            return card;
    }
    return NULL;
}

/* Knows it from now on, if it did not yet; NULL when memory is short: then it is like one without a history. */
static struct device *know(struct sched *sched, const char *id) {
    struct device *device = device_find(sched, id);
    if (device != NULL)
        return device;
    device = calloc(1, sizeof *device);
    if (device == NULL) {
        log_line("error", "device-unknown", "device", id, "reason", "out of memory", (char *)NULL);
        return NULL;
    }
    device->sched = sched;
    snprintf(device->id, sizeof device->id, "%s", id);
    device->next = sched->devices;
    sched->devices = device;
    check_read(device);
    return device;
}

static bool is_usable(const json_t *card) {
    return json_array_size(json_object_get(card, "backends")) > 0;
}

void devices_found(struct sched *sched) {
    const json_t *card;
    size_t i;
    json_array_foreach(probe_devices(sched->probe), i, card) {
        struct device *device = know(sched, json_string_value(json_object_get(card, "id")));
        if (device == NULL || device->examined || !sched_device_is_gpu(card) || !is_usable(card))
            continue;
        device->examined = true;
        check_found(device, card);
    }
    checks_start(sched);
    sched_look(sched);
}

void devices_free(struct sched *sched) {
    while (sched->devices != NULL) {
        struct device *device = sched->devices;
        sched->devices = device->next;
        errand_free(device->check);
        json_decref(device->record);
        free(device);
    }
}

void device_drain(struct sched *sched, const char *id, const char *reason) {
    struct device *device = device_find(sched, id);
    if (device == NULL || device->drained[0] != '\0')
        return;
    snprintf(device->drained, sizeof device->drained, "%s", reason[0] != '\0' ? reason : "no reason was told");
    log_line("error", "device-drained", "device", id, "reason", device->drained, (char *)NULL);
}

/* --- as the API shows it --- */

static bool is_checking(const struct device *device) {
    return device != NULL && (device->check != NULL || device->check_due);
}

static const char *state_of(const struct device *device, const struct attempt *attempt) {
    if (device != NULL && device->drained[0] != '\0')
        return "drained";
    return attempt != NULL || is_checking(device) ? "busy" : "ready";
}

static const char *reason_of(const struct device *device) {
    if (device == NULL || (device->drained[0] == '\0' && !is_checking(device)))
        return NULL;
    return device->drained[0] != '\0' ? device->drained : "it checks itself before its first job";
}

static json_t *device_json(const struct sched *sched, const json_t *card) {
    const char *id = json_string_value(json_object_get(card, "id"));
    const struct device *device = device_find(sched, id);
    const struct attempt *attempt = sched_attempt_on(sched, id);
    json_t *telemetry = attempt != NULL && attempt->telemetry != NULL ? json_incref(attempt->telemetry) : json_null();
    json_t *shown = json_deep_copy(card);
    json_t *more = json_pack("{s:s, s:s?, s:s?, s:o, s:o}", "state", state_of(device, attempt), "job",
                             attempt != NULL ? attempt->job.id : NULL, "reason", reason_of(device), "telemetry", telemetry,
                             "self_check", device != NULL ? check_json(device) : json_null());
    if (shown == NULL || more == NULL || json_object_update(shown, more) != 0) {
        json_decref(shown);
        shown = NULL;
    }
    json_decref(more);
    return shown;
}

json_t *sched_devices(const struct sched *sched) {
    const json_t *cards = probe_devices(sched->probe);
    size_t i;
    json_t *card, *items = json_array();
    json_array_foreach(cards, i, card) {
        if (json_array_append_new(items, device_json(sched, card)) != 0) {
            json_decref(items);
            return NULL;
        }
    }
    const char *reason = probe_reason(sched->probe);
    const char *state = cards != NULL ? "ready" : probe_failed(sched->probe) ? "failed" : "probing";
    return json_pack("{s:o, s:s, s:s?}", "items", items, "state", state, "reason", reason[0] != '\0' ? reason : NULL);
}

int sched_device_resume(struct sched *sched, const char *id, json_t **ret_device, struct err *err) {
    struct device *device = device_find(sched, id);
    const json_t *card = device_card(sched, id);
    if (device == NULL || card == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no device %.63s; `residuum devices` or GET /v1/devices lists them", id);
    if (device->drained[0] == '\0')
        return err_set(err, ERR_CONFLICT, "device %s is not drained; only a drained one can be put back", id);
    device->drained[0] = '\0';
    check_read(device); /* a person may have made another check, with the daemon's --self-check */
    log_line("info", "device-resumed", "device", id, (char *)NULL);
    sched_look(sched);
    *ret_device = device_json(sched, card);
    return *ret_device != NULL ? 0 : err_set(err, ERR_MEMORY, "out of memory while showing a device");
}
