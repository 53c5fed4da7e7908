/* Writes a device's properties as the JSON that cuDNN and the memory plan take: see device.h. */
#include <stdarg.h>
#include <stdio.h>

#include "server/backend/cudnn/device.h"

enum { DEVICE_NAME_MAX = 96 };

/* Text that grows in a buffer; what does not fit is noticed at the end. */
struct text {
    char *at;
    size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t left = text->length < text->size ? text->size - text->length : 0;
    int n = vsnprintf(left > 0 ? text->at + text->length : NULL, left, format, arguments);
    va_end(arguments);
    text->length += n > 0 ? (size_t)n : 0;
}

/* In the order of the profiles in server/graph/profiles; a property of n values is an array. */
static const struct {
    const char *key;
    CUdevice_attribute attributes[3];
    int n;
} properties[] = {
    {"maxGridSize",
     {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z},
     3},
    {"maxBlockSize",
     {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z},
     3},
    {"regsPerBlock", {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK}, 1},
    {"multiProcessorCount", {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT}, 1},
    {"warpSize", {CU_DEVICE_ATTRIBUTE_WARP_SIZE}, 1},
    {"maxSharedMemoryPerBlock", {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK}, 1},
    {"maxSharedMemoryPerBlockOptin", {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN}, 1},
    {"reservedSharedMemoryPerBlock", {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK}, 1},
    {"maxRegistersPerSM", {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR}, 1},
    {"maxCtasPerSM", {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR}, 1},
    {"maxThreadsPerBlock", {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK}, 1},
    {"maxThreadsPerSM", {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR}, 1},
    {"pciDeviceId", {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID}, 1},
    {"isTccDriver", {CU_DEVICE_ATTRIBUTE_TCC_DRIVER}, 1},
    {"supportCoopLaunch", {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH}, 1},
    {"smClockRateKHz", {CU_DEVICE_ATTRIBUTE_CLOCK_RATE}, 1},
    {"memClockRateKHz", {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE}, 1},
    {"l2CacheSize", {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE}, 1},
};

/* What the driver does not tell is 0: a device is not without use for that. */
static void append_property(const struct gpu_driver *driver, CUdevice device, size_t row, struct text *text) {
    int n = properties[row].n;
    append(text, ",\"%s\":%s", properties[row].key, n > 1 ? "[" : "");
    for (int i = 0; i < n; i++) {
        int value;
        if (driver->cuDeviceGetAttribute(&value, properties[row].attributes[i], device) != CUDA_SUCCESS)
            value = 0;
        append(text, "%s%d", i > 0 ? "," : "", value);
    }
    append(text, "%s", n > 1 ? "]" : "");
}

/* A name is plain text; what JSON would have to escape is replaced. */
static void append_name(struct text *text, const char *name) {
    append(text, ",\"deviceName\":\"");
    for (const char *c = name; *c != '\0'; c++)
        append(text, "%c", *c == '"' || *c == '\\' || (unsigned char)*c < ' ' ? '?' : *c);
    append(text, "\"}");
}

int gpu_profile(const struct gpu_driver *driver, CUdevice device, char *ret_text, size_t size, struct err *err) {
    struct text text = {ret_text, size, 0};
    char name[DEVICE_NAME_MAX];
    int compute, version;
    size_t memory;
    if (gpu_compute(driver, device, &compute, err) != 0 ||
        gpu_error(driver, driver->cuDeviceGetName(name, (int)sizeof name, device), "tell its name", err) != 0 ||
        gpu_error(driver, driver->cuDriverGetVersion(&version), "tell the driver's version", err) != 0 ||
        gpu_error(driver, driver->cuDeviceTotalMem(&memory, device), "tell its memory", err) != 0)
        return -1;
    append(&text, "{\"deviceVer\":%d,\"driverVer\":%d,\"cudaDeviceId\":%d,\"totalGlobalMem\":%zu", 10 * compute, version,
           (int)device, memory);
    for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++)
        append_property(driver, device, i, &text);
    name[sizeof name - 1] = '\0';
    append_name(&text, name);
    return text.length < size
               ? 0
               : err_set(err, ERR_INTERNAL, "the profile of %s has %zu bytes, more than %zu", name, text.length, size - 1);
}
