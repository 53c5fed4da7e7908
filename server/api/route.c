/* The one table of routes: it drives routing, 405 with Allow, query checks and the labels of metrics. */
#include <string.h>

#include "server/api/private.h"

static const char *const none[] = {NULL};
static const char *const submit_params[] = {"dry_run", "format", "gpu", NULL};
static const char *const list_params[] = {"limit", "before", "state", NULL};
static const char *const epochs_params[] = {"after", "limit", "fields", NULL};
static const char *const log_params[] = {"limit", NULL};
static const char *const graph_params[] = {"format", NULL};
static const char *const maps_params[] = {"layer", "channels", "image", "epoch", NULL};
static const char *const filters_params[] = {"layer", "channels", "epoch", NULL};
static const char *const onnx_params[] = {"epoch", "normalize", NULL};
static const char *const images_params[] = {"first", "n", NULL};
static const char *const predictions_params[] = {"after", "limit", "one_hot", "format", NULL};
static const char *const layers_params[] = {"dataset", NULL};
static const char *const content_params[] = {"offset", NULL};
static const char *const events_params[] = {"job", "after", NULL};

#define GET METHOD_GET
#define POST METHOD_POST
#define PATCH METHOD_PATCH
#define DELETE METHOD_DELETE

static const struct route routes[] = {
    {POST, "/v1/jobs", handle_submit, true, BODY_JSON, submit_params},
    {GET, "/v1/jobs", handle_list, false, BODY_NONE, list_params},
    {GET, "/v1/jobs/{id}", handle_show, false, BODY_NONE, none},
    {DELETE, "/v1/jobs/{id}", handle_delete, true, BODY_NONE, none},
    {POST, "/v1/jobs/{id}/cancel", handle_cancel, true, BODY_NONE, none},
    {POST, "/v1/jobs/{id}/retry", handle_retry, true, BODY_NONE, none},
    {POST, "/v1/jobs/{id}/verify", handle_verify, true, BODY_NONE, none},
    {GET, "/v1/jobs/{id}/epochs", handle_epochs, false, BODY_NONE, epochs_params},
    {GET, "/v1/jobs/{id}/epochs/{n}", handle_epoch, false, BODY_NONE, none},
    {GET, "/v1/jobs/{id}/log", handle_log, false, BODY_NONE, log_params},
    {GET, "/v1/jobs/{id}/graph", handle_graph, false, BODY_NONE, graph_params},
    {GET, "/v1/jobs/{id}/maps", handle_maps, false, BODY_NONE, maps_params},
    {POST, "/v1/jobs/{id}/maps", handle_maps_sent, true, BODY_JSON, none}, /* writes nothing, but keeps the rules of every POST */
    {GET, "/v1/jobs/{id}/filters", handle_filters, false, BODY_NONE, filters_params},
    {GET, "/v1/jobs/{id}/images", handle_images, false, BODY_NONE, images_params},
    {GET, "/v1/jobs/{id}/receipt", handle_receipt, false, BODY_NONE, none},
    {GET, "/v1/jobs/{id}/weights", handle_weights, false, BODY_NONE, none},
    {GET, "/v1/jobs/{id}/weights/{epoch}", handle_weights_file, false, BODY_NONE, none},
    {GET, "/v1/jobs/{id}/onnx", handle_onnx, false, BODY_NONE, onnx_params},
    {GET, "/v1/jobs/{id}/predictions", handle_predictions, false, BODY_NONE, predictions_params},
    {GET, "/v1/events", handle_events, false, BODY_NONE, events_params},
    {GET, "/v1/datasets", handle_datasets, false, BODY_NONE, none},
    {POST, "/v1/datasets", handle_dataset_announce, true, BODY_JSON, none},
    {GET, "/v1/datasets/{id}", handle_dataset, false, BODY_NONE, none},
    {PATCH, "/v1/datasets/{id}", handle_dataset_rename, true, BODY_JSON, none},
    {DELETE, "/v1/datasets/{id}", handle_dataset_delete, true, BODY_NONE, none},
    {PATCH, "/v1/datasets/{id}/content", handle_dataset_content, true, BODY_STREAM, content_params},
    {GET, "/v1/datasets/{id}/sheet", handle_dataset_sheet, false, BODY_NONE, none},
    {GET, "/v1/presets", handle_presets, false, BODY_NONE, none},
    {GET, "/v1/presets/{name}/layers", handle_preset_layers, false, BODY_NONE, layers_params},
    {GET, "/v1/devices", handle_devices, false, BODY_NONE, none},
    {POST, "/v1/devices/{id}/resume", handle_device_resume, true, BODY_NONE, none},
    {GET, "/v1/version", handle_version, false, BODY_NONE, none},
    {GET, "/v1/openapi.json", handle_openapi, false, BODY_NONE, none},
    {GET, "/livez", handle_live, false, BODY_NONE, none},
    {GET, "/readyz", handle_ready, false, BODY_NONE, none},
    {GET, "/metrics", handle_metrics, false, BODY_NONE, none},
    {GET, "/{file}", handle_file, false, BODY_NONE, none},
};

_Static_assert(sizeof routes / sizeof routes[0] <= METRIC_ROUTES_MAX, "the metrics have a row per route");

const struct route *route_table(size_t *ret_n) {
    *ret_n = sizeof routes / sizeof routes[0];
    return routes;
}

const char *method_name(enum method method) {
    switch (method) {
    case METHOD_GET:
        return "GET";
    case METHOD_POST:
        return "POST";
    case METHOD_PATCH:
        return "PATCH";
    case METHOD_DELETE:
        return "DELETE";
    case METHOD_OTHER:
        break;
    }
    return "other";
}

/* Whether path fits the template; parts in braces are copied to args. A last "{file}" takes the rest, slashes and nothing too. */
static bool matches(const char *template, const char *path, char args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE]) {
    int n = 0;
    while (*template != '\0') {
        if (strcmp(template, "{file}") == 0)
            return true;
        if (*template != '{') {
            if (*template ++!= *path++)
                return false;
            continue;
        }
        size_t size = strcspn(path, "/");
        if (size == 0 || size >= ROUTE_ARG_SIZE || n == ROUTE_ARGS_MAX)
            return false;
        memcpy(args[n], path, size);
        args[n++][size] = '\0';
        path += size;
        template = strchr(template, '}') + 1;
    }
    return *path == '\0';
}

const struct route *route_find(enum method method, const char *path, char ret_args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE],
                               unsigned *ret_allow) {
    const struct route *found = NULL;
    const char *template = NULL;
    *ret_allow = 0;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        /* Templates go from special to general: once one fits, only rows of the same template count. */
        if (template != NULL && strcmp(template, routes[i].path) != 0)
            continue;
        if (!matches(routes[i].path, path, ret_args))
            continue;
        template = routes[i].path;
        *ret_allow |= 1u << routes[i].method;
        if (found == NULL || routes[i].method == method)
            found = &routes[i];
    }
    return found;
}
