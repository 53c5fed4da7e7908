/* NVIDIA's management library of the double: its module is also found as libnvidia-ml.so.1 in RESIDUUM_CUDA_PATH, so what it says
 * of a GPU's health follows the fault that the test ordered. Only the first device becomes sick. */
#include "server/backend/cudnn/nvml.h"

#include <stdio.h>
#include <string.h>

#include "tests/gpu/double/double.h"

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_FOUND = 6, TIMEOUT = 10, GPU_IS_LOST = 15 };
enum { EVENT_DOUBLE_BIT = 2, EVENT_XID = 8 };
enum { XID_ILLEGAL_ADDRESS = 31, XID_DOUBLE_BIT = 48, XID_OFF_THE_BUS = 79 };
enum { CELSIUS = 55, MILLIWATTS = 250000, MILLIJOULES_PER_OPERATION = 10 };

/* Prototypes from the table, visible from outside: they are looked up by name. */
#define PROTOTYPE(name, ...) __attribute__((visibility("default"))) int name(__VA_ARGS__);
NVML_FUNCTIONS(PROTOTYPE)
#undef PROTOTYPE

/* A device is its number behind this address. */
static char devices[DEVICES_MAX];

/* What every question about a device is answered first. */
static int ask(const void *device) {
    if (state()->opened == 0)
        return UNINITIALIZED;
    return device == &devices[0] && fault_happened(FAULT_LOST) ? GPU_IS_LOST : SUCCESS;
}

static bool sick(const void *device, enum fault_kind kind) {
    return device == &devices[0] && fault_happened(kind);
}

int nvmlInit_v2(void) {
    return state()->opened > 0 ? SUCCESS : UNINITIALIZED;
}

int nvmlShutdown(void) {
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *ret_text, unsigned size) {
    snprintf(ret_text, size, "580.00");
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret_device) {
    for (int i = 0; i < state()->options.devices; i++) {
        char id[64];
        device_id(i, id);
        if (strcmp(id, uuid) == 0) {
            *ret_device = &devices[i];
            return ask(*ret_device);
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *ret_celsius) {
    *ret_celsius = CELSIUS;
    return sensor == 0 ? ask(device) : INVALID;
}

int nvmlDeviceGetUtilizationRates(void *device, struct nvml_utilization *ret_rates) {
    *ret_rates = (struct nvml_utilization){90, 50};
    return ask(device);
}

int nvmlDeviceGetMemoryInfo(void *device, struct nvml_memory *ret_memory) {
    unsigned long long total = state()->options.memory_bytes, used = state()->used[(char *)device - devices];
    *ret_memory = (struct nvml_memory){total, total - used, used};
    return ask(device);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *ret_milliwatts) {
    *ret_milliwatts = MILLIWATTS;
    return ask(device);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *ret_millijoules) {
    *ret_millijoules = (unsigned long long)state()->fault.operations * MILLIJOULES_PER_OPERATION;
    return ask(device);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *ret_count) {
    *ret_count = sick(device, FAULT_ECC) ? 1 : 0;
    return kind == 1 && counter == 0 ? ask(device) : INVALID;
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *ret_correctable, unsigned *ret_uncorrectable, unsigned *ret_pending,
                              unsigned *ret_failed) {
    *ret_correctable = *ret_uncorrectable = 0;
    *ret_pending = sick(device, FAULT_ECC);
    *ret_failed = sick(device, FAULT_REMAP);
    return ask(device);
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *device, int *ret_pending) {
    *ret_pending = 0;
    return ask(device);
}

int nvmlDeviceGetFieldValues(void *device, int n, struct nvml_field *fields) {
    for (int i = 0; i < n; i++)
        fields[i].result = INVALID;
    return ask(device);
}

/* --- events: an Xid, once in each process that listens --- */

int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *ret_types) {
    *ret_types = EVENT_DOUBLE_BIT | EVENT_XID;
    return ask(device);
}

int nvmlEventSetCreate(void **ret_set) {
    *ret_set = state();
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    return set == state() && (types & EVENT_XID) != 0 ? ask(device) : INVALID;
}

int nvmlEventSetWait_v2(void *set, struct nvml_event *ret_event, unsigned timeout_ms) {
    static const struct {
        enum fault_kind kind;
        unsigned xid;
    } xids[] = {{FAULT_STICKY, XID_ILLEGAL_ADDRESS}, {FAULT_ECC, XID_DOUBLE_BIT}, {FAULT_LOST, XID_OFF_THE_BUS}};
    if (set != state() || timeout_ms != 0)
        return INVALID;
    for (size_t i = 0; i < sizeof xids / sizeof xids[0]; i++)
        if (state()->fault.happened && state()->options.fault.kind == xids[i].kind && !state()->fault.told) {
            state()->fault.told = true;
            *ret_event = (struct nvml_event){.device = &devices[0], .type = EVENT_XID, .data = xids[i].xid};
            return SUCCESS;
        }
    return TIMEOUT;
}

int nvmlEventSetFree(void *set) {
    return set == state() ? SUCCESS : INVALID;
}
