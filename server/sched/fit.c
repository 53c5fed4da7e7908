/* Which devices a job may run on: pure functions of what the probe said, of the devices' states, and of the job's spec. */
#include <string.h>

#include "server/sched/sched.h"

static const char *text_or(const json_t *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : otherwise;
}

struct sched_wish sched_wish_of(const json_t *spec) {
    return (struct sched_wish){.device = text_or(spec, "device", "auto"), /* older jobs have none */
                               .backend = text_or(spec, "backend", "auto"),
                               .precision = text_or(spec, "precision", "f32")};
}

static bool is(const char *wanted, const json_t *name) {
    return strcmp(wanted, "auto") == 0 || strcmp(wanted, json_string_value(name)) == 0;
}

bool sched_device_is_gpu(const json_t *device) {
    return json_is_string(json_object_get(device, "compute"));
}

bool sched_device_is_drained(const json_t *device) {
    const char *state = json_string_value(json_object_get(device, "state"));
    return state != NULL && strcmp(state, "drained") == 0;
}

bool sched_device_offers(const json_t *device, const struct sched_wish *wish) {
    const json_t *backend, *precision;
    size_t i, k;
    if (!is(wish->device, json_object_get(device, "id")))
        return false;
    json_array_foreach(json_object_get(device, "backends"), i, backend) {
        if (!is(wish->backend, json_object_get(backend, "name")))
            continue;
        json_array_foreach(json_object_get(backend, "precisions"), k, precision) {
            if (strcmp(wish->precision, json_string_value(precision)) == 0)
                return true;
        }
    }
    return false;
}

bool sched_prefers_gpu(const json_t *devices, const struct sched_wish *wish) {
    const json_t *device;
    size_t i;
    json_array_foreach(devices, i, device) {
        if (sched_device_is_gpu(device) && !sched_device_is_drained(device) && sched_device_offers(device, wish))
            return true;
    }
    return false;
}

/* Whether a job that could run on this device nevertheless has to go to another one. */
static bool leaves(const struct sched_fit *fit, const json_t *device, bool gpu) {
    return gpu && !sched_device_is_gpu(device) && sched_prefers_gpu(fit->devices, fit->wish);
}

/* Of the GPUs that offer what the job wants, those with room for it take it; all of them when none has: then a worker says so. */
static bool has_room(const struct sched_fit *fit, const json_t *device) {
    const json_t *other;
    size_t i;
    bool elsewhere = false;
    if (!sched_device_is_gpu(device) || fit->room == NULL)
        return true;
    json_array_foreach(fit->devices, i, other) elsewhere =
        elsewhere || (other != device && sched_device_is_gpu(other) && sched_device_offers(other, fit->wish) &&
                      fit->room(fit->arg, fit->job, other));
    return !elsewhere || fit->room(fit->arg, fit->job, device);
}

/* A job that no device can run is given to the one it names, else to the first, whose worker says what is missing: it was queued
 * before the probe had answered, or on another machine. */
static bool is_last_resort(const struct sched_fit *fit, const json_t *device) {
    const json_t *other;
    size_t i;
    json_array_foreach(fit->devices, i, other) {
        if (sched_device_offers(other, fit->wish))
            return false;
    }
    bool named = strcmp(fit->wish->device, "auto") != 0;
    return named ? is(fit->wish->device, json_object_get(device, "id")) : device == json_array_get(fit->devices, 0);
}

bool sched_device_takes(const struct sched_fit *fit, const json_t *device) {
    if (!sched_device_offers(device, fit->wish))
        return is_last_resort(fit, device);
    bool free_choice = strcmp(fit->wish->device, "auto") == 0 && strcmp(fit->wish->backend, "auto") == 0;
    return !leaves(fit, device, free_choice) && has_room(fit, device);
}
