/* Devices, contexts, and the texts of errors. All devices are alike but for their UUIDs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/double/double.h"

struct CUctx_st {
    CUdevice device;
};

/* --- which devices there are --- */

/* "GPU-64756200-6c65-4000-8000-00000000000N": the first bytes spell the double's name. */
static void write_uuid(int device, unsigned char ret_bytes[16]) {
    static const unsigned char bytes[16] = {'d', 'u', 'b', 0, 'l', 'e', 0x40, 0, 0x80};
    memcpy(ret_bytes, bytes, sizeof bytes);
    ret_bytes[15] = (unsigned char)device;
}

void device_id(int device, char ret_id[64]) {
    unsigned char bytes[16];
    write_uuid(device, bytes);
    char *end = ret_id + sprintf(ret_id, "GPU");
    for (int i = 0; i < 16; i++)
        end += sprintf(end, "%s%02x", i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

/* The index-th device that CUDA_VISIBLE_DEVICES lets see, by number or UUID; -1: there are fewer. As the driver does, the list
 * ends at the first entry that names no device. */
int device_physical(CUdevice index) {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (list == NULL)
        return index < state()->options.devices ? index : -1;
    for (int seen = 0; *list != '\0'; seen++) {
        size_t length = strcspn(list, ",");
        int device = -1;
        for (int i = 0; i < state()->options.devices; i++) {
            char id[64], number[16];
            device_id(i, id);
            snprintf(number, sizeof number, "%d", i);
            if ((length == strlen(number) && strncmp(list, number, length) == 0) ||
                (length > 4 && length <= strlen(id) && strncmp(list, id, length) == 0))
                device = i;
        }
        if (device < 0 || seen == index)
            return device;
        list += length + (list[length] == ',');
    }
    return -1;
}

static int visible_n(void) {
    int n = 0;
    while (n < DEVICES_MAX && device_physical(n) >= 0)
        n++;
    return n;
}

/* --- the driver as a whole; these need no context --- */

static CUresult begin(const char *function) {
    CUresult result = call_begin(function, CALL_PLAIN);
    return result == CUDA_ERROR_INVALID_CONTEXT ? CUDA_SUCCESS : result;
}

static CUresult init(unsigned int flags) {
    if (flags != 0)
        return call_end("cuInit", CUDA_ERROR_INVALID_VALUE);
    if (visible_n() == 0)
        return CUDA_ERROR_NO_DEVICE;
    state()->initialized = true;
    return CUDA_SUCCESS;
}

static CUresult version(int *ret_version) {
    *ret_version = (int)options_property(&state()->options, "driverVer", 0);
    return CUDA_SUCCESS;
}

static CUresult error_name(CUresult result, const char **ret_text) {
    static char text[64];
    call_looked_at(result);
    snprintf(text, sizeof text, "CUDA_ERROR_OF_THE_DOUBLE_%d", (int)result);
    *ret_text = result == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : text;
    return CUDA_SUCCESS;
}

static CUresult error_text(CUresult result, const char **ret_text) {
    call_looked_at(result);
    *ret_text = result == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error that the double was told to give";
    return CUDA_SUCCESS;
}

/* --- devices --- */

static CUresult count(int *ret_n) {
    CUresult result = begin("cuDeviceGetCount");
    if (result == CUDA_SUCCESS)
        *ret_n = visible_n();
    return call_end("cuDeviceGetCount", result);
}

static CUresult get(CUdevice *ret_device, int index) {
    CUresult result = begin("cuDeviceGet");
    if (result == CUDA_SUCCESS && (index < 0 || index >= visible_n()))
        result = CUDA_ERROR_INVALID_DEVICE;
    if (result == CUDA_SUCCESS)
        *ret_device = index;
    return call_end("cuDeviceGet", result);
}

static CUresult check(const char *function, CUdevice device) {
    CUresult result = begin(function);
    if (result == CUDA_SUCCESS && (device < 0 || device >= visible_n()))
        result = CUDA_ERROR_INVALID_DEVICE;
    return call_end(function, result);
}

static CUresult name(char *ret_name, int size, CUdevice device) {
    CUresult result = check("cuDeviceGetName", device);
    if (result != CUDA_SUCCESS)
        return result;
    const char *at = strstr(state()->options.profile, "\"deviceName\":\"");
    at = at != NULL ? at + strlen("\"deviceName\":\"") : "";
    snprintf(ret_name, (size_t)size, "%.*s", (int)strcspn(at, "\""), at);
    return CUDA_SUCCESS;
}

static CUresult uuid(CUuuid *ret_uuid, CUdevice device) {
    CUresult result = check("cuDeviceGetUuid", device);
    if (result == CUDA_SUCCESS)
        write_uuid(device_physical(device), (unsigned char *)ret_uuid->bytes);
    return result;
}

static CUresult total(size_t *ret_bytes, CUdevice device) {
    CUresult result = check("cuDeviceTotalMem", device);
    if (result == CUDA_SUCCESS)
        *ret_bytes = state()->options.memory_bytes;
    return result;
}

static const struct {
    CUdevice_attribute attribute;
    const char *key;
    int index;
} properties[] = {
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, "maxGridSize", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, "maxGridSize", 1},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, "maxGridSize", 2},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, "maxBlockSize", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, "maxBlockSize", 1},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, "maxBlockSize", 2},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, "regsPerBlock", 0},
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, "multiProcessorCount", 0},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, "warpSize", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, "maxSharedMemoryPerBlock", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, "maxSharedMemoryPerBlockOptin", 0},
    {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, "reservedSharedMemoryPerBlock", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, "maxRegistersPerSM", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, "maxCtasPerSM", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, "maxThreadsPerBlock", 0},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, "maxThreadsPerSM", 0},
    {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, "pciDeviceId", 0},
    {CU_DEVICE_ATTRIBUTE_TCC_DRIVER, "isTccDriver", 0},
    {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, "supportCoopLaunch", 0},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, "smClockRateKHz", 0},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, "memClockRateKHz", 0},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, "l2CacheSize", 0},
};

static CUresult attribute(int *ret_value, CUdevice_attribute wanted, CUdevice device) {
    CUresult result = check("cuDeviceGetAttribute", device);
    if (result != CUDA_SUCCESS)
        return result;
    int compute = (int)options_property(&state()->options, "deviceVer", 0);
    if (wanted == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        *ret_value = compute / 100;
    else if (wanted == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        *ret_value = compute / 10 % 10;
    else if (wanted == CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)
        *ret_value = CU_COMPUTEMODE_DEFAULT;
    else {
        size_t row = 0, n = sizeof properties / sizeof properties[0];
        while (row < n && properties[row].attribute != wanted)
            row++;
        if (row == n)
            violation("the double knows no attribute %d of a device", (int)wanted);
        *ret_value = (int)options_property(&state()->options, properties[row].key, properties[row].index);
    }
    return CUDA_SUCCESS;
}

/* --- primary contexts --- */

static CUresult set_flags(CUdevice device, unsigned int flags) {
    CUresult result = check("cuDevicePrimaryCtxSetFlags", device);
    if (result == CUDA_SUCCESS)
        state()->flags[device] = flags;
    return result;
}

static CUresult retain(CUcontext *ret_context, CUdevice device) {
    static struct CUctx_st contexts[DEVICES_MAX];
    CUresult result = check("cuDevicePrimaryCtxRetain", device);
    if (result != CUDA_SUCCESS)
        return result;
    if ((state()->flags[device] & CU_CTX_SCHED_MASK) != CU_CTX_SCHED_BLOCKING_SYNC)
        violation("cuDevicePrimaryCtxRetain: waits for device %d would keep a processor busy", (int)device);
    if (fault_context())
        return call_end("cuDevicePrimaryCtxRetain", CUDA_ERROR_DEVICE_UNAVAILABLE);
    state()->retained[device]++;
    contexts[device].device = device;
    *ret_context = &contexts[device];
    return CUDA_SUCCESS;
}

static CUresult release(CUdevice device) {
    if (device < 0 || device >= DEVICES_MAX || state()->retained[device] == 0)
        violation("cuDevicePrimaryCtxRelease: the context of device %d was not retained", (int)device);
    if (--state()->retained[device] == 0 && state()->current == device)
        state()->current = -1;
    return state()->fault.sticky;
}

static CUresult set_current(CUcontext context) {
    CUresult result = begin("cuCtxSetCurrent");
    if (result != CUDA_SUCCESS)
        return call_end("cuCtxSetCurrent", result);
    if (context != NULL && state()->retained[context->device] == 0)
        violation("cuCtxSetCurrent: the context of device %d is not retained", (int)context->device);
    state()->current = context != NULL ? context->device : -1;
    return CUDA_SUCCESS;
}

void device_done(void) {
    for (int i = 0; i < DEVICES_MAX; i++)
        if (state()->retained[i] > 0 && state()->fault.sticky == CUDA_SUCCESS)
            violation("the context of device %d was never released", i);
}

void device_fill(struct gpu_driver *driver) {
    driver->cuInit = init;
    driver->cuDriverGetVersion = version;
    driver->cuGetErrorName = error_name;
    driver->cuGetErrorString = error_text;
    driver->cuDeviceGetCount = count;
    driver->cuDeviceGet = get;
    driver->cuDeviceGetName = name;
    driver->cuDeviceGetUuid_v2 = uuid;
    driver->cuDeviceTotalMem = total;
    driver->cuDeviceGetAttribute = attribute;
    driver->cuDevicePrimaryCtxSetFlags = set_flags;
    driver->cuDevicePrimaryCtxRetain = retain;
    driver->cuDevicePrimaryCtxRelease = release;
    driver->cuCtxSetCurrent = set_current;
}
