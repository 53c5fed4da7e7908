/* Makes the probe's document: see probe.h. */
#include "server/train/probe.h"

#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "common/dataset.h"
#include "common/event.h"
#include "server/train/data.h"
#include "server/train/module.h"

enum { PROBE_TIMEOUT_MS = 6000 }; /* each; the daemon waits 20 s for all three */

static int usable_cpus(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : get_nprocs();
    return n > 0 ? n : 1;
}

static json_t *new_device(const char *id, const char *name, int threads, int64_t memory_bytes) {
    return json_pack("{s:s, s:s, s:i, s:I, s:[], s:[]}", "id", id, "name", name, "threads", threads, "memory_bytes",
                     (json_int_t)memory_bytes, "backends", "unusable");
}

static json_t *find_device(json_t *devices, const char *id) {
    size_t i;
    json_t *device;
    json_array_foreach(devices, i, device) {
        if (strcmp(json_string_value(json_object_get(device, "id")), id) == 0)
            return device;
    }
    return NULL;
}

static json_t *backend_json(const struct backend_info *info) {
    json_t *precisions = json_array();
    for (enum spec_precision p = PRECISION_F32; p <= PRECISION_TF32; p++)
        if (info->precisions >> p & 1)
            json_array_append_new(precisions, json_string(spec_precision_name(p)));
    return json_pack("{s:s, s:s, s:o}", "name", info->name, "version", info->version, "precisions", precisions);
}

/* Adds a backend to its device, which is made when this is its first. The processor is there already: it takes its name from the
 * first backend that tells it. */
static int add_usable(json_t *devices, const struct backend_info *info) {
    const char *id = info->device_id[0] != '\0' ? info->device_id : "cpu";
    json_t *device = find_device(devices, id);
    if (device == NULL) {
        device = new_device(id, info->device, info->threads_max, info->memory_bytes);
        if (json_array_append_new(devices, device) != 0)
            return -1;
    }
    json_t *backends = json_object_get(device, "backends");
    if (json_array_size(backends) == 0 && info->device[0] != '\0' &&
        json_object_set_new(device, "name", json_string(info->device)) != 0)
        return -1;
    return json_array_append_new(backends, backend_json(info));
}

/* A module that cannot be used has no device of its own: the processor, which is always there, lists it. */
static int add_backend(json_t *devices, enum spec_backend backend) {
    struct backend_info info;
    struct err reason = {0};
    if (module_probe(backend, PROBE_TIMEOUT_MS, &info, &reason) == 0)
        return add_usable(devices, &info);
    return json_array_append_new(json_object_get(find_device(devices, "cpu"), "unusable"),
                                 json_pack("{s:s, s:s}", "name", spec_backend_name(backend), "reason", reason.text));
}

static json_t *devices_json(void) {
    struct sysinfo system;
    int64_t memory = sysinfo(&system) == 0 ? (int64_t)system.totalram * system.mem_unit : 0;
    json_t *devices = json_pack("[o]", new_device("cpu", "processor", usable_cpus(), memory));
    size_t n;
    const enum spec_backend *order = module_order(&n);
    for (size_t i = 0; devices != NULL && i < n; i++)
        if (add_backend(devices, order[i]) != 0) {
            json_decref(devices);
            return NULL;
        }
    return devices;
}

static json_t *datasets_json(void) {
    size_t n;
    const struct dataset_card *cards = dataset_all(&n);
    json_t *datasets = json_array();
    for (size_t i = 0; i < n; i++) {
        struct err reason = {0};
        bool available = data_check(&cards[i], &reason) == 0;
        json_t *row = json_pack("{s:s, s:b, s:s?}", "name", cards[i].name, "available", available, "reason",
                                available ? NULL : reason.text);
        if (json_array_append_new(datasets, row) != 0) {
            json_decref(datasets);
            return NULL;
        }
    }
    return datasets;
}

json_t *probe_json(void) {
    return json_pack("{s:i, s:o, s:o}", "protocol", EVENT_PROTOCOL, "devices", devices_json(), "datasets", datasets_json());
}
