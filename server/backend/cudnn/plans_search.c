/* Chooses an engine for a graph of operations: in the order of cuDNN's heuristics, the first one that is allowed and fits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/plans_private.h"

enum { CONFIGS_MAX = 256, KNOBS_MAX = 48, NOTES_MAX = 32 };

/* What became of the engines that were offered, for the message that there is none. */
struct search {
    struct planner *planner;
    const struct plan_request *request;
    cudnnBackendDescriptor_t graph;
    int offered, forbidden, broken, large;
    int64_t smallest; /* workspace of those that were too large */
    struct err cause; /* what cuDNN said of the first that was not built */
};

/* --- engines --- */

#define NOTE(name) (1u << CUDNN_NUMERICAL_NOTE_##name)

/* The field's words for the notes. */
static const struct {
    uint32_t bit;
    const char *name;
} note_names[] = {
    {NOTE(TENSOR_CORE), "tensor cores"},
    {NOTE(DOWN_CONVERT_INPUTS), "inputs of fewer bits"},
    {NOTE(REDUCED_PRECISION_REDUCTION), "sums of fewer bits"},
    {NOTE(FFT), "FFT"},
    {NOTE(NONDETERMINISTIC), "nondeterministic"},
    {NOTE(WINOGRAD), "Winograd"},
    {NOTE(WINOGRAD_TILE_4x4), "4x4 tiles"},
    {NOTE(WINOGRAD_TILE_6x6), "6x6 tiles"},
    {NOTE(WINOGRAD_TILE_13x13), "13x13 tiles"},
};

/* Sums are f32 in every plan, and strict f32 takes no product of fewer bits. */
static uint32_t forbidden_notes(const struct plan_request *request) {
    uint32_t notes = NOTE(REDUCED_PRECISION_REDUCTION);
    if (request->precision == PRECISION_F32)
        notes |= NOTE(TENSOR_CORE) | NOTE(DOWN_CONVERT_INPUTS);
    if (!request->nondeterministic)
        notes |= NOTE(NONDETERMINISTIC);
    return notes;
}

static bool allowed(const struct search *search, const struct plan_engine *engine) {
    const struct planner *planner = search->planner;
    if ((engine->notes & forbidden_notes(search->request)) != 0)
        return false;
    if ((engine->behaviors & 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != 0 && !planner->driver->runtime_compiled)
        return false;
    for (int i = 0; i < planner->denied_n; i++)
        if (planner->denied[i].op == search->request->op && planner->denied[i].engine == engine->index)
            return false;
    return true;
}

/* Reads a list of small enum values as bits. */
static cudnnStatus_t read_bits(const struct gpu_driver *driver, cudnnBackendDescriptor_t engine, cudnnBackendAttributeName_t name,
                               cudnnBackendAttributeType_t type, uint32_t *ret_bits) {
    int32_t values[NOTES_MAX];
    int64_t n = 0;
    cudnnStatus_t status = driver->cudnnBackendGetAttribute(engine, name, type, NOTES_MAX, &n, values);
    *ret_bits = 0;
    for (int64_t i = 0; status == CUDNN_STATUS_SUCCESS && i < n && i < NOTES_MAX; i++)
        if (values[i] >= 0 && values[i] < 32)
            *ret_bits |= 1u << values[i];
    return status;
}

/* Number and notes of a configuration's engine. */
static cudnnStatus_t read_engine(const struct gpu_driver *driver, cudnnBackendDescriptor_t config,
                                 struct plan_engine *ret_engine) {
    cudnnBackendDescriptor_t engine = NULL;
    int64_t n = 0;
    cudnnStatus_t status = driver->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    status = driver->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
    if (status == CUDNN_STATUS_SUCCESS)
        status =
            driver->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &ret_engine->index);
    if (status == CUDNN_STATUS_SUCCESS)
        status = read_bits(driver, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, &ret_engine->notes);
    if (status == CUDNN_STATUS_SUCCESS)
        status = read_bits(driver, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, &ret_engine->behaviors);
    driver->cudnnBackendDestroyDescriptor(engine);
    return status;
}

static void destroy_all(const struct gpu_driver *driver, cudnnBackendDescriptor_t *made, int n) {
    for (int i = 0; i < n; i++)
        driver->cudnnBackendDestroyDescriptor(made[i]);
}

/* Makes n descriptors, or none. */
static cudnnStatus_t make_all(const struct gpu_driver *driver, cudnnBackendDescriptorType_t type, int n,
                              cudnnBackendDescriptor_t *ret_made) {
    for (int i = 0; i < n; i++) {
        cudnnStatus_t status = driver->cudnnBackendCreateDescriptor(type, &ret_made[i]);
        if (status != CUDNN_STATUS_SUCCESS) {
            destroy_all(driver, ret_made, i);
            return status;
        }
    }
    return CUDNN_STATUS_SUCCESS;
}

/* The knobs of a configuration as text. For logs only: what cannot be read is left out. */
static void read_knobs(const struct gpu_driver *driver, cudnnBackendDescriptor_t config, char *ret_text, size_t size) {
    cudnnBackendDescriptor_t knobs[KNOBS_MAX];
    ret_text[0] = '\0';
    if (make_all(driver, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, KNOBS_MAX, knobs) != CUDNN_STATUS_SUCCESS)
        return;
    int64_t n = 0, one = 0;
    if (driver->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, KNOBS_MAX, &n,
                                         knobs) != CUDNN_STATUS_SUCCESS)
        n = 0;
    size_t used = 0;
    for (int64_t i = 0; i < n && i < KNOBS_MAX && used < size; i++) {
        int32_t type = 0;
        int64_t value = 0;
        if (driver->cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type) ==
                CUDNN_STATUS_SUCCESS &&
            driver->cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one, &value) ==
                CUDNN_STATUS_SUCCESS)
            used += (size_t)snprintf(ret_text + used, size - used, "%s%d=%" PRId64, used > 0 ? " " : "", (int)type, value);
    }
    destroy_all(driver, knobs, KNOBS_MAX);
}

/* --- plans --- */

cudnnStatus_t plan_finalize(const struct planner *planner, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            int64_t count, const void *value, struct plan *ret_plan) {
    const struct gpu_driver *driver = planner->driver;
    cudnnBackendDescriptor_t made = NULL;
    int64_t n = 0;
    cudnnStatus_t status = driver->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &made);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    status = driver->cudnnBackendSetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                              &planner->device);
    if (status == CUDNN_STATUS_SUCCESS)
        status = driver->cudnnBackendSetAttribute(made, name, type, count, value);
    if (status == CUDNN_STATUS_SUCCESS)
        status = driver->cudnnBackendFinalize(made);
    if (status == CUDNN_STATUS_SUCCESS)
        status = driver->cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                                  &ret_plan->workspace_bytes);
    if (status != CUDNN_STATUS_SUCCESS) {
        driver->cudnnBackendDestroyDescriptor(made);
        return status;
    }
    ret_plan->driver = driver;
    ret_plan->plan = made;
    return status;
}

/* Keeps what cuDNN said when it could not do something. */
static bool refused(struct search *search, cudnnStatus_t status, const char *what) {
    if (status != CUDNN_STATUS_SUCCESS)
        plan_error(search->planner->driver, status, what, &search->cause);
    return status != CUDNN_STATUS_SUCCESS;
}

/* Counts an engine that cuDNN has offered and cannot make. */
static bool broken(struct search *search, cudnnStatus_t status, const char *what) {
    if (refused(search, status, what))
        search->broken++;
    return status != CUDNN_STATUS_SUCCESS;
}

/* Whether this configuration becomes the plan. */
static bool take(struct search *search, cudnnBackendDescriptor_t config, struct plan *ret_plan) {
    struct planner *planner = search->planner;
    struct plan plan = {0};
    search->offered++;
    if (broken(search, read_engine(planner->driver, config, &plan.engine), "describe an engine"))
        return false;
    if (!allowed(search, &plan.engine)) {
        search->forbidden++;
        return false;
    }
    cudnnStatus_t status =
        plan_finalize(planner, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config, &plan);
    if (broken(search, status, "build an engine"))
        return false;
    if (plan.workspace_bytes > planner->workspace_bytes) {
        if (search->large++ == 0 || plan.workspace_bytes < search->smallest)
            search->smallest = plan.workspace_bytes;
        plan_done(&plan);
        return false;
    }
    read_knobs(planner->driver, config, plan.engine.knobs, sizeof plan.engine.knobs);
    *ret_plan = plan;
    return true;
}

/* Looks through what one mode of the heuristics offers. A mode that offers nothing is no failure: the other one may. */
static bool take_of(struct search *search, cudnnBackendDescriptor_t heuristics, struct plan *ret_plan) {
    const struct gpu_driver *driver = search->planner->driver;
    const cudnnBackendAttributeName_t name = CUDNN_ATTR_ENGINEHEUR_RESULTS;
    cudnnBackendDescriptor_t configs[CONFIGS_MAX];
    int64_t n = 0, filled = 0;
    cudnnStatus_t status = driver->cudnnBackendGetAttribute(heuristics, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n, NULL);
    if (refused(search, status, "count engines") || n <= 0)
        return false;
    if (n > CONFIGS_MAX)
        n = CONFIGS_MAX;
    if (refused(search, make_all(driver, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, (int)n, configs), "make a descriptor"))
        return false;
    bool taken = false;
    status = driver->cudnnBackendGetAttribute(heuristics, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, &filled, configs);
    if (!refused(search, status, "list engines"))
        for (int64_t i = 0; i < filled && i < n && !taken; i++)
            taken = take(search, configs[i], ret_plan);
    destroy_all(driver, configs, (int)n);
    return taken;
}

static bool search_mode(struct search *search, cudnnBackendHeurMode_t mode, struct plan *ret_plan) {
    struct draft draft = {.driver = search->planner->driver, .err = &search->cause};
    cudnnBackendDescriptor_t heuristics = draft_new(&draft, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    draft_ref(&draft, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, search->graph);
    draft_set(&draft, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    draft_ref(&draft, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, search->planner->device);
    draft_finalize(&draft, heuristics);
    bool taken = !draft.failed && take_of(search, heuristics, ret_plan);
    draft_done(&draft);
    return taken;
}

static const char *precision_name(enum spec_precision precision) {
    switch (precision) {
    case PRECISION_F32:
        return "f32";
    case PRECISION_BF16:
        return "bf16";
    case PRECISION_TF32:
        break;
    }
    return "tf32";
}

/* Says why no engine was taken. Without memory nobody knows whether there is one. */
static int none(const struct search *search, struct err *err) {
    const struct plan_request *request = search->request;
    if (search->cause.code == ERR_MEMORY)
        return err_set(err, ERR_MEMORY, "%s", search->cause.text);
    const size_t version = search->planner->driver->cudnnGetVersion();
    const double mib = 1024 * 1024;
    char large[80] = "";
    if (search->large > 0)
        snprintf(large, sizeof large, ", %d of more workspace than %.0f MiB (the smallest %.0f)", search->large,
                 (double)search->planner->workspace_bytes / mib, (double)search->smallest / mib);
    return err_set(err, ERR_UNSUPPORTED,
                   "cuDNN %zu.%zu.%zu has no %sengine for %s in %s, %s: of %d offered, %d not allowed, %d not built%s%s%s",
                   version / 10000, version / 100 % 100, version % 100, request->nondeterministic ? "" : "deterministic ",
                   plan_op_name(request->op), precision_name(request->precision), request->text, search->offered,
                   search->forbidden, search->broken, large, search->cause.text[0] != '\0' ? "; " : "", search->cause.text);
}

static int search_plan(struct search *search, plan_describe_graph *describe, const void *key, struct plan *ret_plan,
                       struct err *err) {
    struct draft draft = {.driver = search->planner->driver, .err = err};
    search->graph = describe(&draft, key);
    int rc = draft.failed ? -1 : 0;
    if (rc == 0 && !search_mode(search, CUDNN_HEUR_MODE_A, ret_plan) && !search_mode(search, CUDNN_HEUR_MODE_FALLBACK, ret_plan))
        rc = none(search, err);
    draft_done(&draft);
    return rc;
}

int plan_new(struct planner *planner, const struct plan_request *request, plan_describe_graph *describe, const void *key,
             struct plan *ret_plan, struct err *err) {
    if (planner->compute < 80 && request->precision != PRECISION_F32)
        return err_set(err, ERR_UNSUPPORTED, "%s needs compute capability 8.0, the device has %d.%d: choose precision f32",
                       precision_name(request->precision), planner->compute / 10, planner->compute % 10);
    struct plan plan = {0};
    if (planner->cache == NULL || !cache_load(planner, request, &plan)) {
        struct search search = {.planner = planner, .request = request};
        if (search_plan(&search, describe, key, &plan, err) != 0)
            return -1;
        if (planner->cache != NULL)
            cache_store(planner, request, &plan);
    }
    *ret_plan = plan;
    return 0;
}

void plan_done(struct plan *plan) {
    if (plan->pack != NULL)
        plan->driver->cudnnBackendDestroyDescriptor(plan->pack);
    if (plan->plan != NULL)
        plan->driver->cudnnBackendDestroyDescriptor(plan->plan);
    plan->pack = plan->plan = NULL;
}

void plan_text(const struct plan *plan, char *ret_text) {
    char notes[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof note_names / sizeof note_names[0] && used < sizeof notes; i++)
        if ((plan->engine.notes & note_names[i].bit) != 0)
            used += (size_t)snprintf(notes + used, sizeof notes - used, ", %s", note_names[i].name);
    const char *compiled =
        (plan->engine.behaviors & 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) != 0 ? ", compiled at run time" : "";
    snprintf(ret_text, PLAN_TEXT_MAX, "engine %" PRId64 "%s%s, knobs %s, workspace %" PRId64 "%s%s%s", plan->engine.index, notes,
             compiled, plan->engine.knobs[0] != '\0' ? plan->engine.knobs : "none", plan->workspace_bytes,
             plan->cached ? ", from the cache" : "", plan->cache_reason[0] != '\0' ? ", not cached: " : "", plan->cache_reason);
}

/* --- running --- */

int plan_bind(struct plan *plan, const struct plan_address *addresses, int addresses_n, CUdeviceptr workspace, struct err *err) {
    int64_t uids[PLAN_ADDRESSES_MAX];
    void *at[PLAN_ADDRESSES_MAX], *space = (void *)workspace;
    for (int i = 0; i < addresses_n; i++) {
        uids[i] = addresses[i].uid;
        at[i] = addresses[i].at;
    }
    struct draft draft = {.driver = plan->driver, .err = err};
    cudnnBackendDescriptor_t pack = draft_new(&draft, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    draft_set(&draft, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, addresses_n, uids);
    draft_set(&draft, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, addresses_n, at);
    draft_set(&draft, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &space);
    draft_finalize(&draft, pack);
    if (draft.failed) {
        draft_done(&draft);
        return -1;
    }
    if (plan->pack != NULL)
        plan->driver->cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = pack;
    return 0;
}

int plan_run(const struct plan *plan, cudnnHandle_t handle, const char *what, struct err *err) {
    return gpu_error_cudnn(plan->driver, plan->driver->cudnnBackendExecute(handle, plan->plan, plan->pack), what, err);
}
