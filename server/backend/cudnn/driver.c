/* Checks that the driver and cuDNN can be used together, and starts the driver: see driver.h. */
#include "server/backend/cudnn/driver.h"

#include <stdio.h>
#include <stdlib.h>

enum { CUDNN_OLDEST = 91100 }; /* the first that makes plans without a device as well as we need it */

/* The first branch of the driver for each version of CUDA (docs.nvidia.com/cuda/cuda-toolkit-release-notes, table 3). */
static const struct {
    int cuda, driver;
} branches[] = {
    {11000, 450}, {11010, 455}, {11020, 460}, {11030, 465}, {11040, 470}, {11050, 495}, {11060, 510},
    {11070, 515}, {11080, 520}, {12000, 525}, {12010, 530}, {12020, 535}, {12030, 545}, {12040, 550},
    {12050, 555}, {12060, 560}, {12070, 565}, {12080, 570}, {12090, 575}, {13000, 580}, {13010, 590},
};

/* The branch of the newest row that is not newer than version. */
static int branch(int version) {
    int found = branches[0].driver;
    for (size_t i = 0; i < sizeof branches / sizeof branches[0]; i++)
        if (branches[i].cuda <= version)
            found = branches[i].driver;
    return found;
}

/* Libraries of one major version of CUDA run on every driver for that version or a later one
 * (docs.nvidia.com/deploy/cuda-compatibility, minor version compatibility). */
int gpu_driver_fits(int version, int needed, struct err *err) {
    int major = needed / 1000;
    if (version / 1000 >= major)
        return 0;
    char advice[32] = "a newer driver"; /* of a CUDA that is newer than the table */
    if (branches[sizeof branches / sizeof branches[0] - 1].cuda >= major * 1000)
        snprintf(advice, sizeof advice, "driver %d or newer", branch(major * 1000));
    return err_set(
        err, ERR_UNAVAILABLE,
        "the NVIDIA driver %d (CUDA %d.%d) is older than CUDA %d needs: install %s, or a build and a cuDNN for CUDA %d",
        branch(version), version / 1000, version % 1000 / 10, major, advice, version / 1000);
}

static int check_driver(const struct gpu_driver *driver, struct err *err) {
    int version = 0, cudnn = (int)driver->cudnnGetCudartVersion();
    if (gpu_error(driver, driver->cuDriverGetVersion(&version), "tell the driver's version", err) != 0)
        return -1;
    return gpu_driver_fits(version, cudnn > CUDA_VERSION ? cudnn : CUDA_VERSION, err);
}

static int check_cudnn(const struct gpu_driver *driver, struct err *err) {
    int version = (int)driver->cudnnGetVersion();
    if (version < CUDNN_OLDEST)
        return err_set(err, ERR_UNAVAILABLE, "cuDNN %d.%d.%d is older than this backend needs: install cuDNN %d.%d or newer",
                       version / 10000, version % 10000 / 100, version % 100, CUDNN_OLDEST / 10000, CUDNN_OLDEST % 10000 / 100);
    struct err reason = {0};
    if (gpu_error_cudnn(driver, driver->cudnnGraphVersionCheck(), "use its libraries together", &reason) != 0)
        return err_set(err, ERR_UNAVAILABLE, "%s; install all of libcudnn*.so.%d from one package", reason.text, CUDNN_MAJOR);
    return 0;
}

static int start(const struct gpu_driver *driver, struct err *err) {
    CUresult result = driver->cuInit(0);
    if (result != CUDA_ERROR_NO_DEVICE)
        return gpu_error(driver, result, "be initialized", err);
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return err_set(
        err, ERR_UNAVAILABLE,
        "the NVIDIA driver is there but shows no GPU (CUDA_VISIBLE_DEVICES %s%s): check nvidia-smi, that variable, and in "
        "a container that it was started with GPUs (--gpus all)",
        visible != NULL ? "is " : "is not set",
        visible == NULL      ? ""
        : visible[0] == '\0' ? "empty"
                             : visible);
}

int gpu_driver_start(const struct gpu_driver *driver, struct err *err) {
    if (check_driver(driver, err) != 0 || check_cudnn(driver, err) != 0)
        return -1;
    return start(driver, err);
}
