/* The device that plans are for, and the engines that must not be taken: see plans.h. */
#include "server/backend/cudnn/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/plans_private.h"

static const char *const op_names[] = {
#define PLAN_NAME(op, name) [op] = name,
    PLAN_OPS(PLAN_NAME)
#undef PLAN_NAME
};

const char *plan_op_name(enum plan_op op) {
    return op_names[op];
}

/* Reads "back_w:12" into the next row. */
static int deny(struct planner *planner, const char *word, size_t length, struct err *err) {
    const char *colon = memchr(word, ':', length);
    if (colon != NULL && planner->denied_n < PLAN_DENIED_MAX)
        for (size_t op = 0; op < sizeof op_names / sizeof op_names[0]; op++) {
            char *end;
            long long engine = strtoll(colon + 1, &end, 10);
            if (strlen(op_names[op]) == (size_t)(colon - word) && memcmp(op_names[op], word, (size_t)(colon - word)) == 0 &&
                end == word + length && end > colon + 1 && engine >= 0) {
                planner->denied[planner->denied_n].op = (enum plan_op)op;
                planner->denied[planner->denied_n++].engine = engine;
                return 0;
            }
        }
    return err_set(err, ERR_FIELD,
                   "cannot read \"%.*s\" of cuDNN's denied engines: up to %d of OPERATION:NUMBER with spaces between, where "
                   "OPERATION is forward, back_x, back_w, norm_forward or norm_back",
                   length > 60 ? 60 : (int)length, word, PLAN_DENIED_MAX);
}

static int deny_all(struct planner *planner, const char *text, struct err *err) {
    while (text != NULL && *(text += strspn(text, " ")) != '\0') {
        size_t length = strcspn(text, " ");
        if (deny(planner, text, length, err) != 0)
            return -1;
        text += length;
    }
    return 0;
}

/* Describes the device to cuDNN. */
static int device_new(struct planner *planner, const struct planner_options *options, struct err *err) {
    const struct gpu_driver *driver = planner->driver;
    const int32_t number = options->device;
    cudnnStatus_t status = driver->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &planner->device);
    if (status == CUDNN_STATUS_SUCCESS && options->profile != NULL)
        status = driver->cudnnBackendSetAttribute(planner->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                                  (int64_t)strlen(options->profile), options->profile);
    else if (status == CUDNN_STATUS_SUCCESS)
        status = driver->cudnnBackendSetAttribute(planner->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &number);
    if (status == CUDNN_STATUS_SUCCESS)
        status = driver->cudnnBackendFinalize(planner->device);
    if (status == CUDNN_STATUS_SUCCESS)
        return 0;
    struct err cause = {0};
    gpu_error_cudnn(driver, status, "take the device", &cause);
    return err_set(err, ERR_UNAVAILABLE, "%s", cause.text);
}

/* The device's JSON as one line, so that it can be a line of a file. */
static int read_profile(struct planner *planner, struct err *err) {
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION;
    int64_t size = 0;
    cudnnStatus_t status = planner->driver->cudnnBackendGetAttribute(planner->device, name, CUDNN_TYPE_CHAR, 0, &size, NULL);
    if (status == CUDNN_STATUS_SUCCESS && (planner->profile = calloc(1, (size_t)size + 1)) == NULL)
        return err_set(err, ERR_MEMORY, "out of memory");
    if (status == CUDNN_STATUS_SUCCESS)
        status = planner->driver->cudnnBackendGetAttribute(planner->device, name, CUDNN_TYPE_CHAR, size, &size, planner->profile);
    if (status != CUDNN_STATUS_SUCCESS)
        return gpu_error_cudnn(planner->driver, status, "describe the device", err);
    for (char *c = planner->profile; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    return 0;
}

int planner_new(const struct planner_options *options, struct planner **ret_planner, struct err *err) {
    struct planner *planner = calloc(1, sizeof *planner);
    if (planner == NULL || (options->cache != NULL && (planner->cache = strdup(options->cache)) == NULL)) {
        planner_free(planner);
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    planner->driver = options->driver;
    planner->compute = options->compute;
    planner->workspace_bytes = options->workspace_bytes;
    if (deny_all(planner, options->deny, err) != 0 || device_new(planner, options, err) != 0 || read_profile(planner, err) != 0) {
        planner_free(planner);
        return -1;
    }
    *ret_planner = planner;
    return 0;
}

void planner_free(struct planner *planner) {
    if (planner == NULL)
        return;
    if (planner->device != NULL)
        planner->driver->cudnnBackendDestroyDescriptor(planner->device);
    free(planner->profile);
    free(planner->cache);
    free(planner);
}

int planner_profile(const struct planner *planner, char *ret_text, size_t size, struct err *err) {
    int n = snprintf(ret_text, size, "%s", planner->profile);
    if (n < 0 || (size_t)n >= size)
        return err_set(err, ERR_TOO_LARGE, "cuDNN's description of the device has %d bytes, there is room for %zu", n, size - 1);
    return 0;
}
