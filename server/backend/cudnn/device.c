/* Describes the devices that the driver shows: see device.h. */
#include "server/backend/cudnn/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec.h"
#include "server/backend/cudnn/nvml.h"

enum {
    COMPUTE_OLDEST = 75, /* the first that CUDA 13 supports */
    COMPUTE_BF16 = 80    /* the first with bf16 and tf32 */
};

int gpu_compute(const struct gpu_driver *driver, CUdevice device, int *ret_compute, struct err *err) {
    int major, minor;
    if (gpu_error(driver, driver->cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device),
                  "tell its compute capability", err) != 0 ||
        gpu_error(driver, driver->cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device),
                  "tell its compute capability", err) != 0)
        return -1;
    *ret_compute = 10 * major + minor;
    return 0;
}

/* --- names --- */

/* The driver gives a slice's own UUID, but not that it is one; that stands in its name ("NVIDIA A100-SXM4-40GB MIG 1g.5gb"). */
static int read_names(const struct gpu_driver *driver, CUdevice device, struct backend_info *info, struct err *err) {
    CUuuid uuid;
    if (gpu_error(driver, driver->cuDeviceGetName(info->device, (int)sizeof info->device, device), "tell its name", err) != 0 ||
        gpu_error(driver, driver->cuDeviceGetUuid_v2(&uuid, device), "tell its UUID", err) != 0)
        return -1;
    info->device[sizeof info->device - 1] = '\0';
    char *end = info->device_id + sprintf(info->device_id, strstr(info->device, " MIG ") != NULL ? "MIG" : "GPU");
    for (size_t i = 0; i < sizeof uuid.bytes; i++) {
        bool dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        end += sprintf(end, "%s%02x", dash ? "-" : "", (unsigned char)uuid.bytes[i]);
    }
    return 0;
}

int gpu_find(const struct gpu_driver *driver, const char *device_id, CUdevice *ret_device, struct err *err) {
    int n;
    if (gpu_error(driver, driver->cuDeviceGetCount(&n), "be counted", err) != 0)
        return -1;
    for (int i = 0; i < n; i++) {
        struct backend_info info;
        CUdevice device;
        if (gpu_error(driver, driver->cuDeviceGet(&device, i), "be opened", err) != 0 ||
            read_names(driver, device, &info, err) != 0)
            return -1;
        if (strcmp(info.device_id, device_id) == 0) {
            *ret_device = device;
            return 0;
        }
    }
    return err_set(err, ERR_DEVICE,
                   "none of the %d GPUs that the driver shows has the id %s: the device is gone, see nvidia-smi -L", n,
                   device_id);
}

/* --- the probe --- */

/* Whether cuDNN and our kernels are made for the device, and anybody may use it. */
static int check(const struct gpu_driver *driver, CUdevice device, const struct backend_info *info, struct err *err) {
    int newest = (int)driver->cudnnGetMaxDeviceVersion() / 10, mode;
    if (info->compute < COMPUTE_OLDEST)
        return err_set(err, ERR_UNAVAILABLE, "%s has compute capability %d.%d, too old for this backend: it needs 7.5 or newer",
                       info->device, info->compute / 10, info->compute % 10);
    if (info->compute > newest)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s has compute capability %d.%d, newer than cuDNN %s knows (up to %d.%d): install a newer cuDNN",
                       info->device, info->compute / 10, info->compute % 10, info->version, newest / 10, newest % 10);
    if (gpu_error(driver, driver->cuDeviceGetAttribute(&mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, device), "tell its compute mode",
                  err) != 0)
        return -1;
    if (mode == CU_COMPUTEMODE_PROHIBITED)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s is in compute mode \"prohibited\": its operator may allow programs with nvidia-smi -c DEFAULT",
                       info->device);
    return 0;
}

bool gpu_feature(const char *name, bool otherwise) {
    const char *names = getenv("RESIDUUM_GPU_FEATURES");
    if (names == NULL)
        return otherwise;
    size_t length = strlen(name);
    for (const char *at = names; *at != '\0';) {
        size_t n = strcspn(at, ",");
        if (n == length && strncmp(at, name, n) == 0)
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* "own-1": our own kernels and how sums are cut for them; raised with every change of what they compute. */
static void describe_versions(const struct gpu_driver *driver, struct backend_info *info) {
    int cudnn = (int)driver->cudnnGetVersion();
    snprintf(info->name, sizeof info->name, "cudnn");
    snprintf(info->version, sizeof info->version, "%d.%d.%d", cudnn / 10000, cudnn % 10000 / 100, cudnn % 100);
    snprintf(info->algorithms, sizeof info->algorithms, "cudnn-%d.%d.%d,own-1%s", cudnn / 10000, cudnn % 10000 / 100, cudnn % 100,
             gpu_feature("fused-norm", false) ? ",fused-norm" : "");
    snprintf(info->note, sizeof info->note, "not yet run on hardware by us");
    info->threads_max = 1;
}

/* What NVML knows. Fails when it says that the hardware is at fault. */
static int ask_nvml(struct backend_info *info, struct err *err) {
    struct nvml nvml;
    struct nvml_memory memory;
    nvml_init(&nvml, info->device_id);
    nvml_driver(&nvml, info->driver, sizeof info->driver);
    if (nvml_memory(&nvml, &memory))
        info->memory_free_bytes = (int64_t)memory.free;
    int rc = nvml_health(&nvml, err);
    nvml_done(&nvml);
    return rc;
}

/* Everything but the number and names of devices, which the caller has filled in. */
static int describe(const struct gpu_driver *driver, CUdevice device, struct backend_info *info, struct err *err) {
    int version;
    size_t memory;
    describe_versions(driver, info);
    if (gpu_compute(driver, device, &info->compute, err) != 0 || check(driver, device, info, err) != 0 ||
        gpu_error(driver, driver->cuDeviceTotalMem(&memory, device), "tell its memory", err) != 0 ||
        gpu_error(driver, driver->cuDriverGetVersion(&version), "tell the driver's version", err) != 0)
        return -1;
    info->memory_bytes = (int64_t)memory;
    snprintf(info->driver, sizeof info->driver, "CUDA %d.%d", version / 1000, version % 1000 / 10);
    info->precisions = 1U << PRECISION_F32;
    if (info->compute >= COMPUTE_BF16)
        info->precisions |= 1U << PRECISION_BF16 | 1U << PRECISION_TF32;
    if (ask_nvml(info, err) != 0)
        return -1;
    return gpu_profile(driver, device, info->profile, sizeof info->profile, err);
}

int gpu_describe(const struct gpu_driver *driver, int index, struct backend_info *ret_info, struct err *err) {
    struct backend_info info = {0};
    CUdevice device;
    if (gpu_error(driver, driver->cuDeviceGetCount(&info.devices), "be counted", err) != 0)
        return -1;
    if (index >= info.devices)
        return err_set(err, ERR_UNAVAILABLE, "there is no GPU number %d: the driver shows %d", index, info.devices);
    if (gpu_error(driver, driver->cuDeviceGet(&device, index), "be opened", err) != 0 ||
        read_names(driver, device, &info, err) != 0)
        return -1;
    *ret_info = info;
    if (describe(driver, device, &info, err) != 0)
        return -1;
    *ret_info = info;
    return 0;
}

int gpu_probe(int index, struct backend_info *ret_info, struct err *err) {
    struct gpu_driver driver;
    if (gpu_driver_open(&driver, err) != 0)
        return -1;
    int rc = gpu_driver_start(&driver, err);
    if (rc == 0)
        rc = gpu_describe(&driver, index, ret_info, err);
    gpu_driver_close(&driver);
    return rc;
}
