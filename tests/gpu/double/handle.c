/* cuDNN's handles, versions and texts, and the real library, which is opened where it is installed. */
#include <stdio.h>

#include "server/backend/cudnn/library.h"
#include "tests/gpu/double/double.h"

enum { NEWEST_DEVICE = 1210 };

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

void real_open(struct real *ret_real) {
#define REAL_ROW(function) {TEXT_OF(function), offsetof(struct real, function)},
    static const struct library_function rows[] = {CUDNN_FUNCTIONS(REAL_ROW)};
#undef REAL_ROW
    char cublas[32];
    snprintf(cublas, sizeof cublas, "libcublasLt.so.%d", CUDA_VERSION / 1000);
    const char *const needed[] = {"libcudnn_graph.so.9", "libcudnn_heuristic.so.9", "libcudnn_engines_precompiled.so.9", cublas};
    *ret_real = (struct real){0};
    void *library = library_open("libcudnn.so.9", NULL);
    for (size_t i = 0; i < sizeof needed / sizeof needed[0] && library != NULL; i++)
        if (library_open(needed[i], NULL) == NULL)
            library = NULL;
    struct real real = {0};
    if (library != NULL && library_fill(library, rows, sizeof rows / sizeof rows[0], &real) == NULL)
        *ret_real = real;
}

/* --- the table's functions --- */

static size_t version(void) {
    return state()->real.cudnnGetVersion != NULL ? state()->real.cudnnGetVersion() : CUDNN_VERSION;
}

/* Of our driver's version, whatever the installed one was built for. */
static size_t cudart_version(void) {
    return CUDA_VERSION;
}

static size_t newest_device(void) {
    return state()->real.cudnnGetMaxDeviceVersion != NULL ? state()->real.cudnnGetMaxDeviceVersion() : NEWEST_DEVICE;
}

static cudnnStatus_t version_check(void) {
    return state()->real.cudnnGraphVersionCheck != NULL ? state()->real.cudnnGraphVersionCheck() : CUDNN_STATUS_SUCCESS;
}

static const char *error_text(cudnnStatus_t status) {
    return state()->real.cudnnGetErrorString != NULL ? state()->real.cudnnGetErrorString(status) : "an error of the double";
}

static void last_error(char *ret_text, size_t size) {
    if (state()->real.cudnnGetLastErrorString != NULL)
        state()->real.cudnnGetLastErrorString(ret_text, size);
    else
        snprintf(ret_text, size, "no detail");
}

static cudnnStatus_t create(cudnnHandle_t *ret_handle) {
    CUresult result = call_begin("cudnnCreate", CALL_SYNC);
    if (result != CUDA_SUCCESS)
        return CUDNN_STATUS_NOT_INITIALIZED;
    *ret_handle = object_new(OBJECT_CUDNN, sizeof **ret_handle);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t destroy(cudnnHandle_t handle) {
    call_begin("cudnnDestroy", CALL_CLEANUP);
    object_destroy(handle, OBJECT_CUDNN, "cudnnDestroy");
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream) {
    object_check(handle, OBJECT_CUDNN, "cudnnSetStream");
    object_check(stream, OBJECT_STREAM, "cudnnSetStream");
    handle->stream = stream;
    return call_begin("cudnnSetStream", CALL_PLAIN) == CUDA_SUCCESS ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

void handle_fill(struct gpu_driver *driver) {
    driver->cudnnGetVersion = version;
    driver->cudnnGetCudartVersion = cudart_version;
    driver->cudnnGetMaxDeviceVersion = newest_device;
    driver->cudnnGraphVersionCheck = version_check;
    driver->cudnnGetErrorString = error_text;
    driver->cudnnGetLastErrorString = last_error;
    driver->cudnnCreate = create;
    driver->cudnnDestroy = destroy;
    driver->cudnnSetStream = set_stream;
}
