/* libnvidia-ml.so.1 of one GPU, well or sick. FAKE_NVML: init and handle (results of nvmlInit_v2 and nvmlDeviceGetHandleByUUID),
 * memory (result of nvmlDeviceGetMemoryInfo), bare=1 (a GeForce without sensors), ecc (memory errors before watching), new_ecc
 * (after), pending, failed, retired, action, xid and xid2 (one event each), double_bit=1 (an event). */
#include <stdio.h>
#include <string.h>

#include "server/backend/cudnn/nvml.h"
#include "tests/gpu/fakes/say.h"

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10 };
enum { EVENT_DOUBLE_BIT = 2, EVENT_XID = 8, EVENTS = 3 };

static char device_mark, set_mark;
static int started, registered, ecc_asked, events_told;

static long number(const char *key, long usual) {
    return say("FAKE_NVML", key, usual);
}

/* Prototypes from the table: they must be what the module calls. */
#define PROTOTYPE(name, ...) int name(__VA_ARGS__);
NVML_FUNCTIONS(PROTOTYPE)

static int sensor(const void *device) {
    if (!started || device != &device_mark)
        return INVALID;
    return number("bare", 0) != 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlInit_v2(void) {
    int result = (int)number("init", SUCCESS);
    started = result == SUCCESS;
    return result;
}

int nvmlShutdown(void) {
    started = 0;
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *ret_text, unsigned size) {
    snprintf(ret_text, size, "580.65.06");
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **ret_device) {
    if (strncmp(uuid, "GPU-1fdda001-2345-6789-abcd-ef00112233", 38) != 0)
        return NOT_FOUND;
    *ret_device = &device_mark;
    return (int)number("handle", SUCCESS);
}

int nvmlDeviceGetTemperature(void *device, int place, unsigned *ret_celsius) {
    *ret_celsius = 61;
    return place == 0 ? sensor(device) : INVALID;
}

int nvmlDeviceGetUtilizationRates(void *device, struct nvml_utilization *ret_rates) {
    *ret_rates = (struct nvml_utilization){87, 40};
    return sensor(device);
}

int nvmlDeviceGetMemoryInfo(void *device, struct nvml_memory *ret_memory) {
    *ret_memory = (struct nvml_memory){85024112640, 80000000000, 5024112640};
    return sensor(device) == INVALID ? INVALID : (int)number("memory", SUCCESS);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *ret_milliwatts) {
    *ret_milliwatts = 312500;
    return sensor(device);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *ret_millijoules) {
    *ret_millijoules = 5000000000123;
    return sensor(device);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *ret_count) {
    *ret_count = (unsigned long long)(ecc_asked++ == 0 ? number("ecc", 0) : number("new_ecc", number("ecc", 0)));
    return kind == 1 && counter == 0 ? sensor(device) : INVALID;
}

int nvmlDeviceGetRemappedRows(void *device, unsigned *ret_correctable, unsigned *ret_uncorrectable, unsigned *ret_pending,
                              unsigned *ret_failed) {
    *ret_correctable = *ret_uncorrectable = 1;
    *ret_pending = (unsigned)number("pending", 0);
    *ret_failed = (unsigned)number("failed", 0);
    return sensor(device);
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *device, int *ret_pending) {
    *ret_pending = (int)number("retired", 0);
    return sensor(device);
}

int nvmlDeviceGetFieldValues(void *device, int n, struct nvml_field *fields) {
    fields[0].result = n == 1 && fields[0].id == 230 ? SUCCESS : INVALID;
    fields[0].value.number = (unsigned)number("action", 0);
    return sensor(device);
}

int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *ret_types) {
    *ret_types = EVENT_DOUBLE_BIT | EVENT_XID | 1;
    return sensor(device);
}

int nvmlEventSetCreate(void **ret_set) {
    *ret_set = &set_mark;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    registered = set == &set_mark && types == (EVENT_DOUBLE_BIT | EVENT_XID);
    return registered ? sensor(device) : INVALID;
}

/* Every event is told once. */
int nvmlEventSetWait_v2(void *set, struct nvml_event *ret_event, unsigned timeout_ms) {
    const long codes[EVENTS] = {number("xid", 0), number("xid2", 0), number("double_bit", 0)};
    if (set != &set_mark || !registered || timeout_ms != 0)
        return INVALID;
    while (events_told < EVENTS && codes[events_told] == 0)
        events_told++;
    if (events_told == EVENTS)
        return TIMEOUT;
    *ret_event = (struct nvml_event){.device = &device_mark, .type = events_told == 2 ? EVENT_DOUBLE_BIT : EVENT_XID};
    ret_event->data = (unsigned long long)codes[events_told++];
    return SUCCESS;
}

int nvmlEventSetFree(void *set) {
    registered = 0;
    return set == &set_mark ? SUCCESS : INVALID;
}
