/* libcudnn.so.9 as the probe sees it. FAKE_CUDNN: version, cudart, newest, check (status of cudnnGraphVersionCheck). */
#include <stdio.h>

#include "server/backend/cudnn/driver.h"
#include "tests/gpu/fakes/say.h"

static long number(const char *key, long usual) {
    return say("FAKE_CUDNN", key, usual);
}

size_t cudnnGetVersion(void) {
    return (size_t)number("version", 91900);
}

size_t cudnnGetCudartVersion(void) {
    return (size_t)number("cudart", 13010);
}

size_t cudnnGetMaxDeviceVersion(void) {
    return (size_t)number("newest", 1210);
}

cudnnStatus_t cudnnGraphVersionCheck(void) {
    return (cudnnStatus_t)number("check", CUDNN_STATUS_SUCCESS);
}

const char *cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH ? "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH" : "CUDNN_STATUS";
}

void cudnnGetLastErrorString(char *message, size_t size) {
    snprintf(message, size, "the libraries differ");
}
