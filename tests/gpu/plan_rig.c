/* Opens the real cuDNN and walks networks for its plans: see plan_rig.h. */
#include "tests/gpu/plan_rig.h"

#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/backend/cudnn/library.h"
#include "tests/unit/model_rig.h"

static void give_up(const char *what, const struct err *err) {
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(EXIT_FAILURE);
}

/* Loaded first and under its soname, so that cuDNN's own dlopen of the driver finds it. */
static bool open_null_driver(char *ret_reason, size_t size) {
    char folder[PATH_MAX], path[PATH_MAX + 32];
    if (file_exe_dir(folder, sizeof folder, NULL) != 0)
        return false;
    snprintf(path, sizeof path, "%s/null/libcuda.so.1", folder);
    if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) != NULL)
        return true;
    snprintf(ret_reason, size, "%s", dlerror());
    return false;
}

bool plan_rig_open(struct gpu_driver *ret_driver, char *ret_reason, size_t size) {
#define ROW(function) {#function, offsetof(struct gpu_driver, function)},
    static const struct library_function functions[] = {CUDNN_FUNCTIONS(ROW)};
#undef ROW
    char reason[LIBRARY_REASON_MAX] = "";
    struct gpu_driver driver = {.runtime_compiled = true};
    if (!open_null_driver(ret_reason, size))
        return false;
    void *library = library_open("libcudnn.so.9", reason);
    if (library == NULL) {
        snprintf(ret_reason, size, "cuDNN is not installed: %s", reason);
        return false;
    }
    const char *missing = library_fill(library, functions, sizeof functions / sizeof functions[0], &driver);
    if (missing != NULL) {
        snprintf(ret_reason, size, "cuDNN has no %s: it is older than 9.11", missing);
        return false;
    }
    *ret_driver = driver;
    return true;
}

struct gpu_driver plan_rig_need(void) {
    struct gpu_driver driver = {0};
    char reason[512] = "";
    if (!plan_rig_open(&driver, reason, sizeof reason)) {
        print_message("skipped: %s\n", reason);
        skip();
    }
    return driver;
}

struct planner *plan_rig_planner(const struct gpu_driver *driver, const char *profile, const char *cache) {
    struct err err = {0};
    struct planner *planner = NULL;
    const struct gpu_profile *found = gpu_profile_find(profile, "", &err);
    if (found == NULL)
        give_up(profile, &err);
    const struct planner_options options = {.driver = driver,
                                            .profile = gpu_profile_json(profile),
                                            .compute = found->compute,
                                            .workspace_bytes = gpu_workspace_bytes(found->memory_bytes),
                                            .cache = cache};
    if (planner_new(&options, &planner, &err) != 0)
        give_up(profile, &err);
    return planner;
}

struct plan_rig_net plan_rig_net(const char *preset, enum spec_precision precision) {
    char text[128];
    struct err err = {0};
    struct plan_rig_net net;
    snprintf(text, sizeof text, "{\"preset\": \"%s\"}", preset);
    net.graph = model_rig_graph(text, (struct graph_shape){3, 32, 32});
    const struct gpu_options options = {
        .batch = PLAN_RIG_BATCH, .precision = precision, .train = true, .optimizer = OPTIMIZER_SGD};
    if (gpu_plan_new(net.graph, &options, &net.gpu, &err) != 0)
        give_up(preset, &err);
    return net;
}

void plan_rig_net_done(struct plan_rig_net *net) {
    gpu_plan_free(net->gpu);
    graph_free(net->graph);
}

static void visit_conv(const struct plan_rig_net *net, const struct gpu_unit *unit, const struct plan_rig_visitor *visitor) {
    static const enum conv_op ops[] = {CONV_FORWARD, CONV_BACK_W, CONV_BACK_X};
    struct conv_key key;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if ((ops[i] != CONV_BACK_X || unit->wanted[0]) && conv_unit_key(net->gpu, net->graph->nodes, unit, ops[i], &key))
            visitor->conv(visitor->arg, &key);
}

static void visit_norm(const struct plan_rig_net *net, const struct gpu_unit *unit, const struct plan_rig_visitor *visitor) {
    static const enum norm_op ops[] = {NORM_FORWARD, NORM_BACK};
    struct norm_key key;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (norm_unit_key(net->gpu, net->graph->nodes, unit, ops[i], &key))
            visitor->norm(visitor->arg, &key);
}

void plan_rig_walk(const struct plan_rig_net *net, const struct plan_rig_visitor *visitor) {
    for (int i = 0; i < net->gpu->units_n; i++) {
        const struct gpu_unit *unit = &net->gpu->units[i];
        if ((unit->kind == GPU_CONV || unit->kind == GPU_LINEAR) && visitor->conv != NULL)
            visit_conv(net, unit, visitor);
        if (unit->kind == GPU_NORM && visitor->norm != NULL)
            visit_norm(net, unit, visitor);
    }
}
