/* Turns the errors of the driver and of cuDNN into sentences and says who is at fault: see driver.h. */
#include "server/backend/cudnn/driver.h"

/* A result that the headers of older versions of CUDA do not name. */
enum { CONTAINED = 226 };

/* Results that mean more than "this call failed", with what a person can do. All others are ERR_BACKEND. */
static const struct {
    int result;
    enum err_code code;
    const char *advice;
} known[] = {
    {CUDA_ERROR_OUT_OF_MEMORY, ERR_MEMORY, "take a smaller batch, or wait until other programs have left the device"},
    {CUDA_ERROR_STUB_LIBRARY, ERR_UNAVAILABLE,
     "the libcuda.so.1 that was found is the toolkit's stub: take its folder (lib64/stubs) out of the loader's path"},
    {CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER, ERR_UNAVAILABLE, "install a newer NVIDIA driver"},
    {CUDA_ERROR_DEVICE_UNAVAILABLE, ERR_DEVICE,
     "another process has the device for itself, or its compute mode forbids its use (nvidia-smi -q -d COMPUTE)"},
    {CUDA_ERROR_NO_DEVICE, ERR_DEVICE, "the GPU is gone: nvidia-smi and the kernel's log tell more"},
    {CUDA_ERROR_INVALID_DEVICE, ERR_DEVICE, "the GPU is gone or taken by another process: nvidia-smi tells more"},
    {CUDA_ERROR_ECC_UNCORRECTABLE, ERR_DEVICE,
     "its memory is damaged: reset the GPU, and replace it when this comes back (nvidia-smi -q -d ECC)"},
    {CUDA_ERROR_NVLINK_UNCORRECTABLE, ERR_DEVICE, "its NVLink failed: nvidia-smi nvlink -e tells more"},
    {CONTAINED, ERR_DEVICE, "its hardware failed and contained the damage: reset the GPU"},
    {CUDA_ERROR_OPERATING_SYSTEM, ERR_UNAVAILABLE, "check that this user may open /dev/nvidia*"},
    {CUDA_ERROR_SYSTEM_NOT_READY, ERR_DEVICE,
     "the driver is not ready: on machines with NVSwitch, start nvidia-fabricmanager (systemctl status nvidia-fabricmanager)"},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, ERR_DEVICE,
     "libcuda and the kernel module are of different versions, as after an update of the driver: reboot the machine"},
    {CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, ERR_UNAVAILABLE,
     "CUDA's forward compatibility package is not made for this GPU: remove it (cuda-compat), or install a newer driver"},
    {CUDA_ERROR_MPS_CONNECTION_FAILED, ERR_DEVICE, "the MPS server does not answer: check nvidia-cuda-mps-control"},
    {CUDA_ERROR_MPS_RPC_FAILURE, ERR_DEVICE, "the MPS server does not answer: check nvidia-cuda-mps-control"},
    {CUDA_ERROR_MPS_SERVER_NOT_READY, ERR_DEVICE, "the MPS server is not ready, or serves another user: try again later"},
    {CUDA_ERROR_MPS_MAX_CLIENTS_REACHED, ERR_DEVICE, "the MPS server has all the clients it takes: try again later"},
    {CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED, ERR_DEVICE, "the MPS server has all the clients it takes: try again later"},
    {CUDA_ERROR_UNKNOWN, ERR_BACKEND,
     "often the kernel module nvidia-uvm is not loaded (nvidia-modprobe -u); the kernel's log tells more"},
};

int gpu_error(const struct gpu_driver *driver, CUresult result, const char *what, struct err *err) {
    if (result == CUDA_SUCCESS)
        return 0;
    /* A driver that does not know the code writes nothing or NULL. */
    const char *name = NULL, *text = NULL;
    driver->cuGetErrorName(result, &name);
    driver->cuGetErrorString(result, &text);
    enum err_code code = ERR_BACKEND;
    const char *advice = NULL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].result == (int)result) {
            code = known[i].code;
            advice = known[i].advice;
        }
    return err_set(err, code, "the GPU could not %s: %s (%s, %d)%s%s", what, text != NULL ? text : "unknown error",
                   name != NULL ? name : "CUDA error", (int)result, advice != NULL ? "; " : "", advice != NULL ? advice : "");
}

static enum err_code cudnn_code(cudnnStatus_t status) {
    switch ((int)status) {
    case CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED:
    case CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED:
        return ERR_MEMORY;
    case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH:
    case CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED:
    case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER:
    case CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE:
        return ERR_UNAVAILABLE;
    }
    return ERR_BACKEND;
}

int gpu_error_cudnn(const struct gpu_driver *driver, cudnnStatus_t status, const char *what, struct err *err) {
    if (status == CUDNN_STATUS_SUCCESS)
        return 0;
    char detail[256] = "";
    driver->cudnnGetLastErrorString(detail, sizeof detail);
    detail[sizeof detail - 1] = '\0';
    return err_set(err, cudnn_code(status), "cuDNN could not %s: %s (%d)%s%s", what, driver->cudnnGetErrorString(status),
                   (int)status, detail[0] != '\0' ? ": " : "", detail);
}
