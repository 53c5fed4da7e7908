/* Makes the probe's document: see probe.h. */
#include "server/train/probe.h"

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "common/dataset.h"
#include "common/event.h"
#include "server/train/clock.h"
#include "server/train/data.h"
#include "server/train/module.h"

/* A module that initializes a dozen GPUs may need many seconds. The daemon waits 60 s for everything. */
static const double module_limit_s = 30, limit_s = 55;

static int usable_cpus(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : get_nprocs();
    return n > 0 ? n : 1;
}

static json_t *cpu_json(void) {
    struct sysinfo system;
    int64_t memory = sysinfo(&system) == 0 ? (int64_t)system.totalram * system.mem_unit : 0;
    return json_pack("{s:s, s:s, s:i, s:I, s:n, s:n, s:n, s:n, s:n, s:[], s:[]}", "id", MODULE_CPU, "name", "processor",
                     "threads", usable_cpus(), "memory_bytes", (json_int_t)memory, "memory_free_bytes", "compute", "driver",
                     "profile", "note", "backends", "unusable");
}

static const char *text_or_null(const char *text) {
    return text[0] != '\0' ? text : NULL;
}

/* An object or null: it is for people and for the memory plan, and neither is worth a GPU. */
static json_t *profile_json(const char *text) {
    json_t *profile = json_loads(text, 0, NULL);
    if (json_is_object(profile))
        return profile;
    json_decref(profile);
    return json_null();
}

static json_t *positive_or_null(int64_t value) {
    return value > 0 ? json_integer((json_int_t)value) : json_null();
}

static json_t *compute_json(int compute) {
    char text[16];
    snprintf(text, sizeof text, "%d.%d", compute / 10, compute % 10);
    return compute > 0 ? json_string(text) : json_null();
}

static json_t *gpu_json(const struct backend_info *info) {
    return json_pack("{s:s, s:s, s:i, s:I, s:o, s:o, s:s?, s:o, s:s?, s:[], s:[]}", "id", info->device_id, "name", info->device,
                     "threads", info->threads_max > 0 ? info->threads_max : 1, "memory_bytes", (json_int_t)info->memory_bytes,
                     "memory_free_bytes", positive_or_null(info->memory_free_bytes), "compute", compute_json(info->compute),
                     "driver", text_or_null(info->driver), "profile", profile_json(info->profile), "note",
                     text_or_null(info->note), "backends", "unusable");
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

/* A module's device, which is made when this is the first that has it. The processor is there already. Borrowed; NULL when out of
 * memory. */
static json_t *device_of(json_t *devices, const struct backend_info *info) {
    json_t *device = find_device(devices, info->device_id);
    if (device != NULL)
        return device;
    device = gpu_json(info);
    return json_array_append_new(devices, device) == 0 ? device : NULL;
}

/* The processor takes its name from the first backend that tells it. */
static int add_usable(json_t *devices, const struct backend_info *info) {
    json_t *device = device_of(devices, info), *backends = json_object_get(device, "backends");
    if (json_array_size(backends) == 0 && info->device[0] != '\0' &&
        json_object_set_new(device, "name", json_string(info->device)) != 0)
        return -1;
    return json_array_append_new(backends, backend_json(info));
}

/* A module that cannot be used at all has told no device: the processor lists it. */
static int add_unusable(json_t *devices, enum spec_backend backend, const struct backend_info *info, const char *reason) {
    json_t *device = info->device_id[0] == '\0' ? find_device(devices, MODULE_CPU) : device_of(devices, info);
    return json_array_append_new(json_object_get(device, "unusable"),
                                 json_pack("{s:s, s:s}", "name", spec_backend_name(backend), "reason", reason));
}

/* RESIDUUM_PROBE_MS is for tests. */
static int module_timeout_ms(double end) {
    double limit = clock_duration("RESIDUUM_PROBE_MS", module_limit_s);
    return (int)(1000 * fmax(0, fmin(limit, end - clock_seconds())));
}

static int add_reports(json_t *devices, enum spec_backend backend, const struct module_report *reports, int n,
                       bool *ret_complete) {
    for (int i = 0; i < n; i++) {
        const struct module_report *report = &reports[i];
        *ret_complete = *ret_complete && !report->again;
        if ((report->reason.code == ERR_NONE ? add_usable(devices, &report->info)
                                             : add_unusable(devices, backend, &report->info, report->reason.text)) != 0)
            return -1;
    }
    return 0;
}

static int add_backend(json_t *devices, enum spec_backend backend, double end, bool *ret_complete) {
    enum { MOST = EVENT_DEVICES_MAX - 1 }; /* besides the processor */
    struct module_report *reports = calloc(MOST, sizeof *reports);
    if (reports == NULL)
        return -1;
    int n = module_describe(backend, MOST, module_timeout_ms(end), reports);
    int rc = add_reports(devices, backend, reports, n, ret_complete);
    free(reports);
    return rc;
}

static json_t *devices_json(bool *ret_complete) {
    double end = clock_seconds() + limit_s;
    json_t *devices = json_pack("[o]", cpu_json());
    size_t n;
    const enum spec_backend *order = module_order(&n);
    *ret_complete = true;
    for (size_t i = 0; devices != NULL && i < n; i++)
        if (add_backend(devices, order[i], end, ret_complete) != 0) {
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
    bool complete;
    json_t *devices = devices_json(&complete);
    return json_pack("{s:i, s:b, s:o, s:o}", "protocol", EVENT_PROTOCOL, "complete", (int)complete, "devices", devices,
                     "datasets", datasets_json());
}
