/* libcuda.so.1 as the probe sees it. FAKE_CUDA: version, version_result, init (result of cuInit), devices,
 * compute (of device 0) and compute1 (of the others), mode, mig. */
#include <cuda.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "tests/gpu/fakes/say.h"

static long number(const char *key, long usual) {
    return say("FAKE_CUDA", key, usual);
}

CUresult cuDriverGetVersion(int *version) {
    *version = (int)number("version", 13000);
    return (CUresult)number("version_result", CUDA_SUCCESS);
}

CUresult cuInit(unsigned flags) {
    return flags == 0 ? (CUresult)number("init", CUDA_SUCCESS) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult result, const char **name) {
    *name = result == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : NULL;
    return *name != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult result, const char **text) {
    *text =
        result == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH ? "system has unsupported display driver / cuda driver combination" : NULL;
    return *text != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count) {
    *count = (int)number("devices", 1);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal < number("devices", 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    snprintf(name, (size_t)size, "NVIDIA \"Fake\" H%d00%s", (int)device + 1, number("mig", 0) != 0 ? " MIG 1g.10gb" : "");
    return CUDA_SUCCESS;
}

/* The last byte counts the devices. */
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    static const unsigned char bytes[16] = {0x1f, 0xdd, 0xa0, 0x01, 0x23, 0x45, 0x67, 0x89,
                                            0xab, 0xcd, 0xef, 0x00, 0x11, 0x22, 0x33, 0x40};
    memcpy(uuid->bytes, bytes, sizeof bytes);
    uuid->bytes[15] = (char)(bytes[15] + device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    *bytes = 85024112640U + (size_t)device;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    int compute = (int)number(device == 0 ? "compute" : "compute1", 90);
    if (number("untold", 0) == (long)attribute)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        *value = compute / 10;
    else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        *value = compute % 10;
    else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)
        *value = (int)number("mode", CU_COMPUTEMODE_DEFAULT);
    else
        *value = 1000 + (int)attribute;
    return CUDA_SUCCESS;
}
