/* The devices that the driver shows: found by UUID, described for people and for the memory plan. */
#ifndef CUDNN_DEVICE_H
#define CUDNN_DEVICE_H

#include "common/err.h"
#include "server/backend/backend.h"
#include "server/backend/cudnn/driver.h"

/* probe of backend.h: opens the driver, describes device number index, closes it. Creates no context on the device: free memory
 * is NVML's answer, and 0 (unknown) without NVML, because a context costs hundreds of megabytes and some tenths of a second, and
 * cannot be had at all on a device in exclusive mode that has a job. When only this device cannot be used, devices, device_id and
 * device of *ret_info are filled all the same, so that the caller can name it and go on to the next. */
int gpu_probe(int index, struct backend_info *ret_info, struct err *err);

/* The same with an open and started driver. */
int gpu_describe(const struct gpu_driver *driver, int index, struct backend_info *ret_info, struct err *err);

/* The device of an id, as gpu_probe writes it: "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "MIG-..." for a slice of one.
 * ERR_DEVICE when no device has it: it is gone. */
int gpu_find(const struct gpu_driver *driver, const char *device_id, CUdevice *ret_device, struct err *err);

/* 90 is compute capability 9.0. */
int gpu_compute(const struct gpu_driver *driver, CUdevice device, int *ret_compute, struct err *err);

/* Whether the environment's RESIDUUM_GPU_FEATURES, names separated by commas, allows a feature: those that a self-check on this
 * device found to work; otherwise where it is not set. */
bool gpu_feature(const char *name, bool otherwise);

/* The device's properties as JSON: the keys that cuDNN wants of CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. */
int gpu_profile(const struct gpu_driver *driver, CUdevice device, char *ret_text, size_t size, struct err *err);

#endif
