/* Asks NVIDIA's management library about one device: see nvml.h. */
#include "server/backend/cudnn/nvml.h"

#include <stddef.h>
#include <stdio.h>

#include "server/backend/cudnn/library.h"

/* Values of nvml.h, which never change (NVML API reference guide). */
enum { NVML_SUCCESS = 0, NVML_GPU_IS_LOST = 15, NVML_RESET_REQUIRED = 16 };
enum { NVML_EVENT_DOUBLE_BIT_ECC = 2, NVML_EVENT_XID = 8 };
enum { NVML_TEMPERATURE_GPU = 0, NVML_UNCORRECTED = 1, NVML_SINCE_LOAD = 0, NVML_FIELD_RECOVERY_ACTION = 230 };

enum { EVENTS_MAX = 64 }; /* read in one go: a storm of them must not hold up the training */

/* Xid errors that the hardware is to blame for. The rest (13, 31, 43, 45, ...) is what a faulty program causes, and restarting
 * the job is the answer. */
static const struct {
    unsigned xid;
    const char *meaning;
} hardware_xids[] = {
    {48, "a memory error that ECC could not correct: reset the GPU"},
    {63, "a damaged row of memory was marked for replacement: reset the GPU to make it take effect"},
    {64, "a damaged row of memory could not be replaced: the GPU needs service"},
    {79, "it fell off the bus: check its power and seating, and reboot the machine"},
    {92, "many memory errors that ECC corrected: the GPU needs service"},
    {94, "a memory error that was contained: reset the GPU"},
    {95, "a memory error that could not be contained: reset the GPU"},
    {119, "its system processor does not answer: reset the GPU"},
    {120, "its system processor failed: reset the GPU"},
    {140, "a memory error that it did not recover from: reset the GPU"},
};

static const struct library_function functions[] = {
#define ROW(name, ...) {#name, offsetof(struct nvml, name)},
    NVML_FUNCTIONS(ROW)
#undef ROW
};

static void forget(struct nvml *nvml) {
    library_close(nvml->library);
    *nvml = (struct nvml){0};
}

static bool uncorrected_errors(const struct nvml *nvml, unsigned long long *ret_count) {
    return nvml->nvmlDeviceGetTotalEccErrors != NULL &&
           nvml->nvmlDeviceGetTotalEccErrors(nvml->device, NVML_UNCORRECTED, NVML_SINCE_LOAD, ret_count) == NVML_SUCCESS;
}

/* Events are told from now on. GeForce and MIG devices may have none. */
static void listen(struct nvml *nvml) {
    unsigned long long types = 0;
    if (nvml->nvmlEventSetCreate == NULL || nvml->nvmlEventSetFree == NULL || nvml->nvmlEventSetWait_v2 == NULL ||
        nvml->nvmlDeviceRegisterEvents == NULL || nvml->nvmlDeviceGetSupportedEventTypes == NULL ||
        nvml->nvmlDeviceGetSupportedEventTypes(nvml->device, &types) != NVML_SUCCESS)
        return;
    types &= NVML_EVENT_XID | NVML_EVENT_DOUBLE_BIT_ECC;
    if (types == 0 || nvml->nvmlEventSetCreate(&nvml->events) != NVML_SUCCESS) {
        nvml->events = NULL;
        return;
    }
    if (nvml->nvmlDeviceRegisterEvents(nvml->device, types, nvml->events) != NVML_SUCCESS) {
        nvml->nvmlEventSetFree(nvml->events);
        nvml->events = NULL;
    }
}

static void blame(struct nvml *nvml, const char *reason) {
    err_set(&nvml->fault, ERR_DEVICE, "the GPU %s is at fault: %s; it takes no further job until its operator has seen to it",
            nvml->id, reason);
}

/* Whether the result says that the device itself is gone. */
static bool lost(struct nvml *nvml, int result) {
    if (result == NVML_GPU_IS_LOST)
        blame(nvml, "it is lost, the driver cannot reach it any more: check its power and seating, and reboot the machine");
    else if (result == NVML_RESET_REQUIRED)
        blame(nvml, "the driver says that it must be reset");
    return nvml->fault.code != ERR_NONE;
}

void nvml_init(struct nvml *nvml, const char *device_id) {
    *nvml = (struct nvml){.library = library_open("libnvidia-ml.so.1", NULL)};
    snprintf(nvml->id, sizeof nvml->id, "%s", device_id);
    if (nvml->library == NULL)
        return;
    library_fill(nvml->library, functions, sizeof functions / sizeof functions[0], nvml);
    if (nvml->nvmlInit_v2 == NULL || nvml->nvmlShutdown == NULL || nvml->nvmlInit_v2() != NVML_SUCCESS) {
        forget(nvml);
        return;
    }
    int result =
        nvml->nvmlDeviceGetHandleByUUID == NULL ? NVML_SUCCESS : nvml->nvmlDeviceGetHandleByUUID(device_id, &nvml->device);
    if (result != NVML_SUCCESS)
        nvml->device = NULL;
    if (lost(nvml, result) || nvml->device == NULL)
        return;
    uncorrected_errors(nvml, &nvml->uncorrected);
    listen(nvml);
}

void nvml_done(struct nvml *nvml) {
    if (nvml->library == NULL)
        return;
    if (nvml->events != NULL)
        nvml->nvmlEventSetFree(nvml->events);
    nvml->nvmlShutdown();
    forget(nvml);
}

bool nvml_driver(const struct nvml *nvml, char *ret_text, unsigned size) {
    char text[80]; /* NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE */
    if (nvml->nvmlSystemGetDriverVersion == NULL || nvml->nvmlSystemGetDriverVersion(text, sizeof text) != NVML_SUCCESS)
        return false;
    snprintf(ret_text, size, "%s", text);
    return true;
}

bool nvml_memory(const struct nvml *nvml, struct nvml_memory *ret_memory) {
    struct nvml_memory memory;
    if (nvml->device == NULL || nvml->nvmlDeviceGetMemoryInfo == NULL ||
        nvml->nvmlDeviceGetMemoryInfo(nvml->device, &memory) != NVML_SUCCESS)
        return false;
    *ret_memory = memory;
    return true;
}

void nvml_telemetry(const struct nvml *nvml, struct backend_telemetry *ret_telemetry) {
    struct backend_telemetry telemetry = {-1, -1, -1, -1, -1, -1};
    struct nvml_utilization rates;
    struct nvml_memory memory;
    unsigned celsius, milliwatts;
    unsigned long long millijoules;
    void *device = nvml->device;
    *ret_telemetry = telemetry;
    if (device == NULL)
        return;
    if (nvml->nvmlDeviceGetTemperature != NULL &&
        nvml->nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, &celsius) == NVML_SUCCESS)
        telemetry.temperature_c = celsius;
    if (nvml->nvmlDeviceGetUtilizationRates != NULL && nvml->nvmlDeviceGetUtilizationRates(device, &rates) == NVML_SUCCESS)
        telemetry.utilization = rates.gpu / 100.0;
    if (nvml->nvmlDeviceGetPowerUsage != NULL && nvml->nvmlDeviceGetPowerUsage(device, &milliwatts) == NVML_SUCCESS)
        telemetry.power_w = milliwatts / 1000.0;
    if (nvml->nvmlDeviceGetTotalEnergyConsumption != NULL &&
        nvml->nvmlDeviceGetTotalEnergyConsumption(device, &millijoules) == NVML_SUCCESS)
        telemetry.energy_j = (double)millijoules / 1000.0;
    if (nvml_memory(nvml, &memory))
        telemetry.memory_used_bytes = (int64_t)memory.used;
    *ret_telemetry = telemetry;
}

/* --- signs of a fault --- */

static void judge_xid(struct nvml *nvml, unsigned long long xid) {
    for (size_t i = 0; i < sizeof hardware_xids / sizeof hardware_xids[0]; i++)
        if (hardware_xids[i].xid == xid) {
            char reason[160];
            snprintf(reason, sizeof reason, "Xid %u, %s", hardware_xids[i].xid, hardware_xids[i].meaning);
            blame(nvml, reason);
        }
}

static void check_events(struct nvml *nvml) {
    struct nvml_event event;
    for (int i = 0; i < EVENTS_MAX && nvml->events != NULL; i++) {
        int result = nvml->nvmlEventSetWait_v2(nvml->events, &event, 0);
        if (lost(nvml, result) || result != NVML_SUCCESS)
            return;
        if (event.type == NVML_EVENT_XID)
            judge_xid(nvml, event.data);
        else if (event.type == NVML_EVENT_DOUBLE_BIT_ECC)
            blame(nvml, "a memory error that ECC could not correct: reset the GPU");
    }
}

static void check_memory(struct nvml *nvml) {
    unsigned long long count = 0;
    unsigned correctable, uncorrectable, pending = 0, failed = 0;
    int retired = 0;
    if (uncorrected_errors(nvml, &count) && count > nvml->uncorrected)
        blame(nvml, "ECC found memory errors that it could not correct (nvidia-smi -q -d ECC): reset the GPU");
    if (nvml->nvmlDeviceGetRemappedRows != NULL &&
        nvml->nvmlDeviceGetRemappedRows(nvml->device, &correctable, &uncorrectable, &pending, &failed) == NVML_SUCCESS) {
        if (failed != 0)
            blame(nvml, "a damaged row of memory could not be replaced (nvidia-smi -q -d ROW_REMAPPER): the GPU needs service");
        else if (pending != 0)
            blame(nvml, "a damaged row of memory waits to be replaced (nvidia-smi -q -d ROW_REMAPPER): reset the GPU");
    }
    if (nvml->nvmlDeviceGetRetiredPagesPendingStatus != NULL &&
        nvml->nvmlDeviceGetRetiredPagesPendingStatus(nvml->device, &retired) == NVML_SUCCESS && retired != 0)
        blame(nvml, "damaged pages of memory wait to be retired (nvidia-smi -q -d PAGE_RETIREMENT): reset the GPU");
}

/* What the driver itself recommends (nvmlDeviceGpuRecoveryAction_t). */
static void check_recovery(struct nvml *nvml) {
    static const char *const actions[] = {NULL,
                                          "to reset it",
                                          "to reboot the machine",
                                          "to stop its traffic with other GPUs",
                                          "to stop its traffic with other GPUs and reset it",
                                          "to recover its IMEX domain",
                                          "to reset its bus",
                                          "to reboot the machine"};
    struct nvml_field field = {.id = NVML_FIELD_RECOVERY_ACTION};
    if (nvml->nvmlDeviceGetFieldValues == NULL || nvml->nvmlDeviceGetFieldValues(nvml->device, 1, &field) != NVML_SUCCESS ||
        field.result != NVML_SUCCESS || field.value.number == 0)
        return;
    char reason[160];
    unsigned action = field.value.number;
    snprintf(reason, sizeof reason, "the driver asks %s (recovery action %u)",
             action < sizeof actions / sizeof actions[0] ? actions[action] : "for a repair", action);
    blame(nvml, reason);
}

int nvml_health(struct nvml *nvml, struct err *err) {
    if (nvml->fault.code == ERR_NONE && nvml->device != NULL) {
        struct nvml_memory memory;
        check_events(nvml);
        if (nvml->nvmlDeviceGetMemoryInfo != NULL)
            lost(nvml, nvml->nvmlDeviceGetMemoryInfo(nvml->device, &memory));
        check_memory(nvml);
        check_recovery(nvml);
    }
    return nvml->fault.code == ERR_NONE ? 0 : err_set(err, ERR_DEVICE, "%s", nvml->fault.text);
}

void nvml_blame(struct nvml *nvml, struct err *err) {
    struct err fault = {0};
    if (err->code != ERR_BACKEND || nvml_health(nvml, &fault) == 0)
        return;
    struct err first = *err;
    *err = (struct err){0};
    err_set(err, ERR_DEVICE, "%s (after: %s)", fault.text, first.text);
}
