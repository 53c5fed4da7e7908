/* With what and on what this server can train; and this API's own description. */

#include "common/version.h"
#include "server/api/openapi.h"
#include "server/api/private.h"
#include "server/graph/graph.h"

int answer_items(struct request *request, json_t *steal_items, size_t n, struct err *err) {
    if (json_array_size(steal_items) != n) {
        json_decref(steal_items);
        return err_set(err, ERR_MEMORY, "cannot list: out of memory");
    }
    return answer_json(request, MHD_HTTP_OK, json_pack("{s:o}", "items", steal_items), err);
}

int handle_presets(struct request *request, struct err *err) {
    size_t n;
    const struct graph_preset *presets = graph_presets(&n);
    json_t *items = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(items, json_pack("{s:s,s:s,s:s,s:b}", "name", presets[i].name, "title", presets[i].title, "paper",
                                               presets[i].paper, "residual", (int)presets[i].residual));
    return answer_items(request, items, n, err);
}

int handle_devices(struct request *request, struct err *err) {
    return answer_json(request, MHD_HTTP_OK, sched_devices(request->api->options.sched), err);
}

int handle_version(struct request *request, struct err *err) {
    return answer_json(request, MHD_HTTP_OK,
                       json_pack("{s:s,s:i,s:s,s:s}", "version", RESIDUUM_VERSION, "api", RESIDUUM_API, "sqlite", store_engine(),
                                 "microhttpd", MHD_get_version()),
                       err);
}

int handle_openapi(struct request *request, struct err *err) {
    return answer_bytes(request, MHD_HTTP_OK, "application/json", openapi_json, openapi_json_size, err);
}
