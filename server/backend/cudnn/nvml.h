/* What NVIDIA's management library (libnvidia-ml.so.1) tells of one device: temperature, power, memory, and whether its hardware
 * is at fault. All of it is optional: a missing library, function or sensor is "unknown", never an error, and nothing is ever
 * changed or reset. Own prototypes, as nvml.h is rarely installed. */
#ifndef CUDNN_NVML_H
#define CUDNN_NVML_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "server/backend/backend.h"

struct nvml_utilization {
    unsigned gpu, memory; /* per cent of the last sample period */
};

struct nvml_memory {
    unsigned long long total, free, used; /* bytes */
};

struct nvml_event {
    void *device;
    unsigned long long type, data; /* data: the Xid of an NVML_EVENT_XID */
    unsigned gpu_instance, compute_instance;
};

struct nvml_field {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int result;
    union {
        double real;
        unsigned number;
        unsigned long long wide;
    } value;
};

/* name, parameters; all return an nvmlReturn_t */
#define NVML_FUNCTIONS(X)                                                                                                     \
    X(nvmlInit_v2, void)                                                                                                      \
    X(nvmlShutdown, void)                                                                                                     \
    X(nvmlSystemGetDriverVersion, char *ret_text, unsigned size)                                                              \
    X(nvmlDeviceGetHandleByUUID, const char *uuid, void **ret_device)                                                         \
    X(nvmlDeviceGetTemperature, void *device, int sensor, unsigned *ret_celsius)                                              \
    X(nvmlDeviceGetUtilizationRates, void *device, struct nvml_utilization *ret_rates)                                        \
    X(nvmlDeviceGetMemoryInfo, void *device, struct nvml_memory *ret_memory)                                                  \
    X(nvmlDeviceGetPowerUsage, void *device, unsigned *ret_milliwatts)                                                        \
    X(nvmlDeviceGetTotalEnergyConsumption, void *device, unsigned long long *ret_millijoules)                                 \
    X(nvmlDeviceGetTotalEccErrors, void *device, int kind, int counter, unsigned long long *ret_count)                        \
    X(nvmlDeviceGetRemappedRows, void *device, unsigned *ret_correctable, unsigned *ret_uncorrectable, unsigned *ret_pending, \
      unsigned *ret_failed)                                                                                                   \
    X(nvmlDeviceGetRetiredPagesPendingStatus, void *device, int *ret_pending)                                                 \
    X(nvmlDeviceGetFieldValues, void *device, int n, struct nvml_field *fields)                                               \
    X(nvmlDeviceGetSupportedEventTypes, void *device, unsigned long long *ret_types)                                          \
    X(nvmlDeviceRegisterEvents, void *device, unsigned long long types, void *set)                                            \
    X(nvmlEventSetCreate, void **ret_set)                                                                                     \
    X(nvmlEventSetWait_v2, void *set, struct nvml_event *ret_event, unsigned timeout_ms)                                      \
    X(nvmlEventSetFree, void *set)

/* One device, watched from nvml_init on. Zeroed memory knows nothing. */
struct nvml {
#define NVML_MEMBER(name, ...) int (*name)(__VA_ARGS__);
    NVML_FUNCTIONS(NVML_MEMBER)
#undef NVML_MEMBER
    void *library;
    void *device; /* NULL: not found */
    void *events; /* NULL: none can be waited for */
    char id[64];
    unsigned long long uncorrected; /* memory errors when watching began: only new ones are a fault */
    struct err fault;               /* the first one, kept: an event is told once only */
};

/* Begins to watch the device of this UUID ("GPU-1fdd...", "MIG-..."). Never fails: what is missing stays unknown. */
void nvml_init(struct nvml *nvml, const char *device_id);
void nvml_done(struct nvml *nvml); /* accepts zeroed memory */

/* The driver's version, "580.65.06"; false: unknown, nothing is written. */
bool nvml_driver(const struct nvml *nvml, char *ret_text, unsigned size);

/* Memory of the device in bytes, used and free for all processes; false: unknown. */
bool nvml_memory(const struct nvml *nvml, struct nvml_memory *ret_memory);

/* Fills what is known; what is not is negative, and so is step_s, of which NVML knows nothing. */
void nvml_telemetry(const struct nvml *nvml, struct backend_telemetry *ret_telemetry);

/* 0 as long as nothing says that the hardware is at fault; afterwards always -1 with ERR_DEVICE and the reason. Also 0 where
 * nothing is known. Policy: NVIDIA's catalogue of Xid errors (docs.nvidia.com/deploy/xid-errors). */
int nvml_health(struct nvml *nvml, struct err *err);

/* To be called with the error of a failed CUDA call: when the device itself is at fault, *err becomes ERR_DEVICE and tells of it,
 * for the driver often answers a lost GPU with an error that a faulty program would have caused as well. */
void nvml_blame(struct nvml *nvml, struct err *err);

#endif
