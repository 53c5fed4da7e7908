/* A libcuda.so.1 without a device: enough for cuDNN to compile engines for devices that are only described. Loading a module
 * succeeds, as the compiled code is tried that way; there is no device, and nothing runs. */
#include <stddef.h>

enum { SUCCESS = 0, NO_DEVICE = 100, NOT_FOUND = 500 };

#define NULL_FUNCTION(name, result) \
    int name(void);                 \
    int name(void) {                \
        return result;              \
    }

/* What asks for a device, and what would run on one. */
NULL_FUNCTION(cuInit, NO_DEVICE)
NULL_FUNCTION(cuDeviceGet, NO_DEVICE)
NULL_FUNCTION(cuDeviceGetCount, NO_DEVICE)
NULL_FUNCTION(cuDeviceGetAttribute, NO_DEVICE)
NULL_FUNCTION(cuLaunchKernel, NOT_FOUND)
NULL_FUNCTION(cuLaunchKernelEx, NOT_FOUND)
NULL_FUNCTION(cuLaunchCooperativeKernel, NOT_FOUND)
NULL_FUNCTION(cuStreamGetCtx, NOT_FOUND)
NULL_FUNCTION(cuGetProcAddress, NOT_FOUND)
NULL_FUNCTION(cuGetProcAddress_v2, NOT_FOUND)
NULL_FUNCTION(cuLinkCreate, NOT_FOUND)
NULL_FUNCTION(cuLinkAddData, NOT_FOUND)
NULL_FUNCTION(cuLinkComplete, NOT_FOUND)
NULL_FUNCTION(cuLinkDestroy, NOT_FOUND)
NULL_FUNCTION(cuOccupancyMaxPotentialClusterSize, NOT_FOUND)
/* What the loading of compiled code asks, where nobody looks at an answer. */
NULL_FUNCTION(cuCtxGetLimit, SUCCESS)
NULL_FUNCTION(cuCtxPushCurrent, SUCCESS)
NULL_FUNCTION(cuModuleUnload, SUCCESS)
NULL_FUNCTION(cuLibraryUnload, SUCCESS)
NULL_FUNCTION(cuKernelGetAttribute, SUCCESS)
NULL_FUNCTION(cuKernelSetAttribute, SUCCESS)
NULL_FUNCTION(cuFuncSetAttribute, SUCCESS)
NULL_FUNCTION(cuFuncGetAttribute, SUCCESS)

/* Handles are asked for not being NULL, and are never looked into. */
#define NULL_HANDLE(name)         \
    int name(void **ret_handle);  \
    int name(void **ret_handle) { \
        static char handle;       \
        *ret_handle = &handle;    \
        return SUCCESS;           \
    }
NULL_HANDLE(cuCtxGetCurrent)
NULL_HANDLE(cuCtxPopCurrent)
NULL_HANDLE(cuModuleLoadData)
NULL_HANDLE(cuModuleLoadDataEx)
NULL_HANDLE(cuModuleGetFunction)
NULL_HANDLE(cuLibraryLoadData)
NULL_HANDLE(cuLibraryLoadFromFile)
NULL_HANDLE(cuLibraryGetKernel)
NULL_HANDLE(cuKernelGetFunction)

int cuDriverGetVersion(int *ret_version);
int cuDriverGetVersion(int *ret_version) {
    *ret_version = 13000;
    return SUCCESS;
}

int cuGetErrorName(int result, const char **ret_name);
int cuGetErrorName(int result, const char **ret_name) {
    (void)result;
    *ret_name = "CUDA_ERROR_NO_DEVICE";
    return SUCCESS;
}

int cuGetErrorString(int result, const char **ret_text);
int cuGetErrorString(int result, const char **ret_text) {
    (void)result;
    *ret_text = "a driver of the tests, without a device";
    return SUCCESS;
}
