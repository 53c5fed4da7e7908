/* cuDNN's descriptors: every attribute is kept, and given to the real cuDNN too, where there is one, so that it checks them. */
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/double/double.h"

enum { MADE_UP_WORKSPACE = 4096, MADE_UP_ENGINE = 1, RESULTS_MAX = 512 };

/* --- attributes --- */

size_t descriptor_type_bytes(cudnnBackendAttributeType_t type) {
    switch ((int)type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_VOID_PTR:
        return sizeof(void *);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_FRACTION:
        return sizeof(int64_t);
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    }
    return sizeof(int32_t);
}

const struct attribute *descriptor_attribute(const struct descriptor *descriptor, cudnnBackendAttributeName_t name) {
    for (int i = 0; i < descriptor->attributes_n; i++)
        if (descriptor->attributes[i].name == name)
            return &descriptor->attributes[i];
    return NULL;
}

int64_t descriptor_integer(const struct descriptor *descriptor, cudnnBackendAttributeName_t name, int index) {
    const struct attribute *attribute = descriptor_attribute(descriptor, name);
    int64_t wide = 0;
    if (attribute == NULL || index >= attribute->n)
        violation("a descriptor of cuDNN (type %d) lacks value %d of attribute %d", (int)descriptor->type, index, (int)name);
    size_t bytes = descriptor_type_bytes(attribute->type);
    memcpy(&wide, (const char *)attribute->values + (size_t)index * bytes, bytes);
    return wide;
}

const struct descriptor *descriptor_child(const struct descriptor *descriptor, cudnnBackendAttributeName_t name, int index) {
    return (const struct descriptor *)(intptr_t)descriptor_integer(descriptor, name, index);
}

/* The attribute of a name, empty; the old value is gone. */
static struct attribute *attribute_new(struct descriptor *descriptor, cudnnBackendAttributeName_t name) {
    for (int i = 0; i < descriptor->attributes_n; i++)
        if (descriptor->attributes[i].name == name) {
            free(descriptor->attributes[i].values);
            return &descriptor->attributes[i];
        }
    size_t bytes = (size_t)(descriptor->attributes_n + 1) * sizeof *descriptor->attributes;
    struct attribute *grown = realloc(descriptor->attributes, bytes);
    if (grown == NULL)
        violation("no memory for the double itself (%zu bytes)", bytes);
    descriptor->attributes = grown;
    return &grown[descriptor->attributes_n++];
}

void descriptor_forget(struct object *object) {
    struct descriptor *descriptor = (struct descriptor *)object;
    for (int i = 0; i < descriptor->attributes_n; i++)
        free(descriptor->attributes[i].values);
    free(descriptor->attributes);
}

/* --- the table's functions --- */

static cudnnStatus_t create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *ret_descriptor) {
    cudnnBackendDescriptor_t made = NULL;
    if (state()->real.cudnnBackendCreateDescriptor != NULL) {
        cudnnStatus_t status = state()->real.cudnnBackendCreateDescriptor(type, &made);
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    struct descriptor *descriptor = object_new(OBJECT_DESCRIPTOR, sizeof *descriptor);
    descriptor->type = type;
    descriptor->real = made;
    *ret_descriptor = descriptor;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t destroy(cudnnBackendDescriptor_t handle) {
    struct descriptor *descriptor = handle;
    object_destroy(handle, OBJECT_DESCRIPTOR, "cudnnBackendDestroyDescriptor");
    return descriptor->real != NULL ? state()->real.cudnnBackendDestroyDescriptor(descriptor->real) : CUDNN_STATUS_SUCCESS;
}

/* The real cuDNN has no device here: it is given the profile. */
static cudnnStatus_t set_device(const struct descriptor *descriptor) {
    const char *profile = state()->options.profile;
    return state()->real.cudnnBackendSetAttribute(descriptor->real, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                                  (int64_t)strlen(profile), profile);
}

static cudnnStatus_t set_real(const struct descriptor *descriptor, const struct attribute *attribute) {
    if (attribute->name == CUDNN_ATTR_DEVICEPROP_DEVICE_ID)
        return set_device(descriptor);
    if (attribute->type != CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return state()->real.cudnnBackendSetAttribute(descriptor->real, attribute->name, attribute->type, attribute->n,
                                                      attribute->values);
    cudnnBackendDescriptor_t reals[RESULTS_MAX];
    for (int64_t i = 0; i < attribute->n && i < RESULTS_MAX; i++)
        reals[i] = ((struct descriptor **)attribute->values)[i]->real;
    return state()->real.cudnnBackendSetAttribute(descriptor->real, attribute->name, attribute->type, attribute->n, reals);
}

static cudnnStatus_t set(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t n, const void *values) {
    struct descriptor *descriptor = handle;
    object_check(handle, OBJECT_DESCRIPTOR, "cudnnBackendSetAttribute");
    if (descriptor->final)
        violation("cudnnBackendSetAttribute: the descriptor (type %d) is finalized", (int)descriptor->type);
    for (int64_t i = 0; i < n && type == CUDNN_TYPE_BACKEND_DESCRIPTOR; i++) {
        object_check(((void *const *)values)[i], OBJECT_DESCRIPTOR, "cudnnBackendSetAttribute");
        if (!((struct descriptor *const *)values)[i]->final)
            violation("cudnnBackendSetAttribute: a descriptor that is not finalized is made part of one of type %d",
                      (int)descriptor->type);
    }
    size_t bytes = (size_t)n * descriptor_type_bytes(type);
    struct attribute *attribute = attribute_new(descriptor, name);
    *attribute = (struct attribute){name, type, n, must_allocate(bytes)};
    memcpy(attribute->values, values, bytes);
    return descriptor->real != NULL ? set_real(descriptor, attribute) : CUDNN_STATUS_SUCCESS;
}

/* --- what cuDNN answers --- */

static cudnnStatus_t answer(const void *values, size_t bytes, int64_t n, int64_t room, int64_t *ret_n, void *ret_values) {
    *ret_n = n;
    if (ret_values != NULL)
        memcpy(ret_values, values, bytes * (size_t)(n < room ? n : room));
    return CUDNN_STATUS_SUCCESS;
}

/* The double's own cuDNN has one engine, which does everything. */
static cudnnStatus_t get_own(const struct descriptor *descriptor, cudnnBackendAttributeName_t name,
                             cudnnBackendAttributeType_t type, int64_t room, int64_t *ret_n, void *ret_values) {
    const int64_t engine = MADE_UP_ENGINE;
    const struct attribute *attribute = descriptor_attribute(descriptor, name);
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        *ret_n = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        *ret_n = 0;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return answer(&engine, sizeof engine, 1, room, ret_n, ret_values);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return answer(&descriptor->workspace_bytes, sizeof descriptor->workspace_bytes, 1, room, ret_n, ret_values);
    case CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION:
        return answer(state()->options.profile, 1, (int64_t)strlen(state()->options.profile), room, ret_n, ret_values);
    }
    if (attribute == NULL || attribute->type != type)
        violation("cudnnBackendGetAttribute: the double's own cuDNN cannot tell attribute %d of type %d", (int)name,
                  (int)descriptor->type);
    return answer(attribute->values, descriptor_type_bytes(type), attribute->n, room, ret_n, ret_values);
}

static cudnnStatus_t get_real(const struct descriptor *descriptor, cudnnBackendAttributeName_t name,
                              cudnnBackendAttributeType_t type, int64_t room, int64_t *ret_n, void *ret_values) {
    if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR || ret_values == NULL)
        return state()->real.cudnnBackendGetAttribute(descriptor->real, name, type, room, ret_n, ret_values);
    cudnnBackendDescriptor_t reals[RESULTS_MAX];
    for (int64_t i = 0; i < room && i < RESULTS_MAX; i++)
        reals[i] = ((struct descriptor **)ret_values)[i]->real;
    return state()->real.cudnnBackendGetAttribute(descriptor->real, name, type, room < RESULTS_MAX ? room : RESULTS_MAX, ret_n,
                                                  reals);
}

/* Descriptors that cuDNN filled are finished, and speak of the same graph. */
static void adopt(const struct descriptor *descriptor, struct descriptor **filled, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        filled[i]->final = true;
        filled[i]->graph = descriptor->graph;
    }
}

static cudnnStatus_t get(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t room, int64_t *ret_n, void *ret_values) {
    const struct descriptor *descriptor = handle;
    object_check(handle, OBJECT_DESCRIPTOR, "cudnnBackendGetAttribute");
    if (!descriptor->final)
        violation("cudnnBackendGetAttribute: the descriptor (type %d) is not finalized", (int)descriptor->type);
    for (int64_t i = 0; i < room && ret_values != NULL && type == CUDNN_TYPE_BACKEND_DESCRIPTOR; i++)
        object_check(((void **)ret_values)[i], OBJECT_DESCRIPTOR, "cudnnBackendGetAttribute");
    if (name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
        return CUDNN_STATUS_NOT_SUPPORTED; /* a plan that was read again has no graph by which to compute it */
    cudnnStatus_t status = descriptor->real != NULL ? get_real(descriptor, name, type, room, ret_n, ret_values)
                                                    : get_own(descriptor, name, type, room, ret_n, ret_values);
    if (status == CUDNN_STATUS_SUCCESS && ret_values != NULL && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        adopt(descriptor, ret_values, *ret_n < room ? *ret_n : room);
    return status;
}

/* --- plans --- */

/* Whether the engine of a configuration multiplies f32 values as numbers of fewer bits. */
static bool narrows(const struct descriptor *config) {
    cudnnBackendDescriptor_t engine = NULL;
    int64_t n = 0;
    int32_t notes[32];
    bool found = false;
    const struct real *real = &state()->real;
    if (config->real == NULL ||
        real->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    if (real->cudnnBackendGetAttribute(config->real, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n,
                                       &engine) == CUDNN_STATUS_SUCCESS &&
        real->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 32, &n, notes) ==
            CUDNN_STATUS_SUCCESS)
        for (int64_t i = 0; i < n && i < 32; i++)
            found = found || notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    real->cudnnBackendDestroyDescriptor(engine);
    return found;
}

static void finish_plan(struct descriptor *plan) {
    int64_t n = 0;
    plan->workspace_bytes = MADE_UP_WORKSPACE;
    if (plan->real != NULL)
        state()->real.cudnnBackendGetAttribute(plan->real, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                               &plan->workspace_bytes);
    if (plan->graph == NULL) {
        const struct descriptor *config = descriptor_child(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 0);
        plan->graph = config->graph;
        plan->narrow_products = narrows(config);
    }
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t handle) {
    struct descriptor *descriptor = handle;
    object_check(handle, OBJECT_DESCRIPTOR, "cudnnBackendFinalize");
    const char *missing = validate_descriptor(descriptor);
    if (missing != NULL)
        violation("cudnnBackendFinalize: %s", missing);
    cudnnStatus_t status = descriptor->real != NULL ? state()->real.cudnnBackendFinalize(descriptor->real) : CUDNN_STATUS_SUCCESS;
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    descriptor->final = true;
    if (descriptor->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
        descriptor->graph = descriptor_child(descriptor, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 0);
    if (descriptor->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        finish_plan(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    object_check(handle, OBJECT_CUDNN, "cudnnBackendExecute");
    object_check(plan, OBJECT_DESCRIPTOR, "cudnnBackendExecute");
    object_check(pack, OBJECT_DESCRIPTOR, "cudnnBackendExecute");
    return execute_plan(handle, plan, pack);
}

void descriptor_fill(struct gpu_driver *driver) {
    driver->cudnnBackendCreateDescriptor = create;
    driver->cudnnBackendDestroyDescriptor = destroy;
    driver->cudnnBackendSetAttribute = set;
    driver->cudnnBackendGetAttribute = get;
    driver->cudnnBackendFinalize = finalize;
    driver->cudnnBackendExecute = execute;
}
