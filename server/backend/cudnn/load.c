/* Fills the table of driver.h from the libraries of this machine. cuDNN ends the process when one that it opens by itself is
 * missing, so all of them are opened here first, and stay open. */
#include <stdio.h>

#include "server/backend/cudnn/driver.h"
#include "server/backend/cudnn/library.h"

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define CUDNN_FILE(name) "libcudnn" name ".so." TEXT_OF(CUDNN_MAJOR)

/* The driver library's name for a function is what its header's macros make of it. */
#define ROW(function) {TEXT_OF(function), offsetof(struct gpu_driver, function)},
static const struct library_function cuda_functions[] = {CUDA_FUNCTIONS(ROW)};
static const struct library_function cudnn_functions[] = {CUDNN_FUNCTIONS(ROW)};
#undef ROW

static void no_region(CUdeviceptr at, size_t bytes, const char *name) {
    (void)at;
    (void)bytes;
    (void)name;
}

/* Opens a library and keeps its handle. NULL: ret_reason says why. */
static void *keep(struct gpu_driver *driver, const char *name, char ret_reason[LIBRARY_REASON_MAX]) {
    void *library = library_open(name, ret_reason);
    for (int i = 0; i < GPU_LIBRARIES_MAX && library != NULL; i++)
        if (driver->libraries[i] == NULL) {
            driver->libraries[i] = library;
            return library;
        }
    return NULL;
}

static void *open_cuda(struct gpu_driver *driver, struct err *err) {
    char reason[LIBRARY_REASON_MAX];
    void *library = keep(driver, "libcuda.so.1", reason);
    if (library == NULL)
        err_set(err, ERR_UNAVAILABLE,
                "no NVIDIA driver: %s; install the driver of the GPU, or in a container start it with GPUs (--gpus all)", reason);
    return library;
}

static int open_part(struct gpu_driver *driver, const char *name, void **ret_library, struct err *err) {
    char reason[LIBRARY_REASON_MAX];
    *ret_library = keep(driver, name, reason);
    if (*ret_library != NULL)
        return 0;
    return err_set(
        err, ERR_UNAVAILABLE,
        "%s cannot be opened: %s; install cuDNN %d with all its libraries and the CUDA libraries it was made for, or name "
        "their folder in RESIDUUM_CUDA_PATH",
        name, reason, CUDNN_MAJOR);
}

/* Without its graph library, cuDNN cannot even say its version. */
static int open_cudnn(struct gpu_driver *driver, struct err *err) {
    void *library, *graph;
    if (open_part(driver, CUDNN_FILE(""), &library, err) != 0 || open_part(driver, CUDNN_FILE("_graph"), &graph, err) != 0)
        return -1;
    const char *missing = library_fill(library, cudnn_functions, sizeof cudnn_functions / sizeof cudnn_functions[0], driver);
    if (missing != NULL)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s has no function %s: it is older than this backend needs; install cuDNN 9.11 or newer", CUDNN_FILE(""),
                       missing);
    return 0;
}

/* What cuDNN opens when it first looks for an engine. */
static int open_engines(struct gpu_driver *driver, struct err *err) {
    static const char *const parts[] = {CUDNN_FILE("_heuristic"), CUDNN_FILE("_engines_precompiled")};
    char name[32];
    void *library;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (open_part(driver, parts[i], &library, err) != 0)
            return -1;
    int major = (int)(driver->cudnnGetCudartVersion() / 1000);
    snprintf(name, sizeof name, "libcublasLt.so.%d", major);
    if (open_part(driver, name, &library, err) != 0)
        return -1;
    snprintf(name, sizeof name, "libnvrtc.so.%d", major);
    driver->runtime_compiled =
        keep(driver, CUDNN_FILE("_engines_runtime_compiled"), NULL) != NULL && keep(driver, name, NULL) != NULL;
    return 0;
}

static int fill_cuda(struct gpu_driver *driver, void *library, struct err *err) {
    const char *missing = library_fill(library, cuda_functions, sizeof cuda_functions / sizeof cuda_functions[0], driver);
    int version = 0;
    if (missing == NULL)
        return 0;
    if (driver->cuDriverGetVersion != NULL && driver->cuDriverGetVersion(&version) == CUDA_SUCCESS &&
        gpu_driver_fits(version, CUDA_VERSION, err) != 0)
        return -1;
    return err_set(
        err, ERR_UNAVAILABLE,
        "the NVIDIA driver (libcuda.so.1, CUDA %d.%d) has no function %s: this build needs CUDA %d.%d; install a newer "
        "driver",
        version / 1000, version % 1000 / 10, missing, CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
}

static int open_all(struct gpu_driver *driver, struct err *err) {
    void *cuda = open_cuda(driver, err);
    if (cuda == NULL || fill_cuda(driver, cuda, err) != 0)
        return -1;
    if (open_cudnn(driver, err) != 0)
        return -1;
    return open_engines(driver, err);
}

int gpu_driver_open(struct gpu_driver *ret_driver, struct err *err) {
    struct gpu_driver driver = {.region_begin = no_region, .region_end = no_region};
    if (open_all(&driver, err) != 0) {
        gpu_driver_close(&driver);
        return -1;
    }
    *ret_driver = driver;
    return 0;
}

void gpu_driver_close(struct gpu_driver *driver) {
    for (int i = 0; i < GPU_LIBRARIES_MAX; i++)
        library_close(driver->libraries[i]);
    *driver = (struct gpu_driver){0};
}
