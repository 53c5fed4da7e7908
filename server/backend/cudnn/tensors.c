/* Parameters, what the optimizer remembers of them, gradients: between the device's layout, [o, h, w, i] with padding, and the
 * door's, O,I,H,W. */
#include <stdlib.h>

#include "server/backend/cudnn/core.h"
#include "server/backend/cudnn/layout.h"

/* Where a tensor lies. */
struct place {
    CUdeviceptr at;
    bool bf16;
    size_t bytes; /* padded */
};

static const struct {
    const char *name;
    enum gpu_region region;
    bool trainable; /* of trainable parameters only */
} kinds[] = {[TENSOR_VALUE] = {"value", GPU_MASTER, false},
             [TENSOR_MOMENTUM] = {"momentum", GPU_MOMENTUM, true},
             [TENSOR_SQUARE] = {"mean square", GPU_SQUARE, true},
             [TENSOR_AVERAGE] = {"average", GPU_AVERAGE, false},
             [TENSOR_GRADIENT] = {"gradient", GPU_GRADIENT, true}};

static bool has(const struct backend_plan *plan, enum backend_tensor kind, int param) {
    if (kind == TENSOR_GRADIENT && !plan->trained)
        return false;
    return plan->gpu->regions[kinds[kind].region].bytes > 0 && (plan->params[param].trainable || !kinds[kind].trainable);
}

static int find(const struct backend_plan *plan, enum backend_tensor kind, int param, struct place *ret_place, struct err *err) {
    if (param < 0 || param >= plan->params_n)
        return err_set(err, ERR_BACKEND, "There is no parameter number %d; the graph has %d", param, plan->params_n);
    if (!has(plan, kind, param))
        return err_set(err, ERR_BACKEND,
                       "'%s' has no %s: it is a running statistic, the plan was compiled without it, or nothing was trained yet",
                       plan->params[param].name, kinds[kind].name);
    const struct gpu_param *place = &plan->gpu->params[param];
    bool gradient = kind == TENSOR_GRADIENT, bf16 = gradient && place->narrow;
    int64_t offset = gradient ? place->gradient : place->first * (int64_t)sizeof(float);
    *ret_place = (struct place){.at = plan_region(plan, kinds[kind].region) + (CUdeviceptr)offset,
                                .bf16 = bf16,
                                .bytes = (size_t)place->count * (bf16 ? sizeof(uint16_t) : sizeof(float))};
    return 0;
}

/* --- layouts --- */

/* Calls visit with the places of each element in the door's layout, in order, and in the device's. */
typedef void element_visit(void *arg, size_t door, size_t device);

static void visit_elements(const struct graph_param *param, const struct gpu_param *place, element_visit *visit, void *arg) {
    int inputs = param->dims > 1 ? param->shape[1] : 1;
    size_t door = 0;
    for (int o = 0; o < param->shape[0]; o++)
        for (int i = 0; i < inputs; i++)
            for (int y = 0; y < place->h; y++)
                for (int x = 0; x < place->w; x++) {
                    size_t pixel = ((size_t)o * (size_t)place->h + (size_t)y) * (size_t)place->w + (size_t)x;
                    visit(arg, door++, pixel * (size_t)place->i + (size_t)i);
                }
}

struct unpacking {
    const void *from;
    bool bf16;
    float *to;
};

static void unpack(void *arg, size_t door, size_t device) {
    const struct unpacking *unpacking = arg;
    unpacking->to[door] = layout_element(unpacking->from, device, unpacking->bf16);
}

struct packing {
    const float *from;
    float *to;
};

static void pack(void *arg, size_t door, size_t device) {
    const struct packing *packing = arg;
    packing->to[device] = packing->from[door];
}

/* --- the door --- */

static void *take(size_t bytes, const struct graph_param *param, struct err *err) {
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        err_set(err, ERR_MEMORY, "No memory for copying '%s'", param->name);
    return memory;
}

int core_get_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, float *ret_values, struct err *err) {
    struct place place;
    if (find(plan, kind, param, &place, err) < 0)
        return -1;
    void *copy = take(place.bytes, &plan->params[param], err);
    if (copy == NULL)
        return -1;
    int failed = core_download(plan->backend, copy, place.at, place.bytes, err);
    if (core_wait(plan->backend, "copy a parameter from the device", err) < 0)
        failed = -1;
    if (failed == 0)
        visit_elements(&plan->params[param], &plan->gpu->params[param], unpack,
                       &(struct unpacking){copy, place.bf16, ret_values});
    free(copy);
    return failed;
}

int core_set_tensor(struct backend_plan *plan, enum backend_tensor kind, int param, const float *values, struct err *err) {
    struct place place;
    if (kind == TENSOR_GRADIENT)
        return err_set(err, ERR_BACKEND, "A gradient is a result and cannot be set");
    if (find(plan, kind, param, &place, err) < 0)
        return -1;
    float *copy = take(place.bytes, &plan->params[param], err);
    if (copy == NULL)
        return -1;
    visit_elements(&plan->params[param], &plan->gpu->params[param], pack, &(struct packing){values, copy});
    int failed = core_upload(plan->backend, place.at, copy, place.bytes, err);
    if (core_wait(plan->backend, "copy a parameter to the device", err) < 0)
        failed = -1;
    plan->dirty = plan->dirty || kind == TENSOR_VALUE;
    free(copy);
    return failed;
}
