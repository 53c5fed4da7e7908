/* What this server can train, with what, on what; and this API's own description. */
#include <string.h>

#include "common/dataset.h"
#include "common/version.h"
#include "server/api/openapi.h"
#include "server/api/private.h"
#include "server/graph/graph.h"

static json_t *dataset_json(const struct dataset_card *card, const json_t *probed) {
    const json_t *entry = json_object_get(probed, card->name);
    json_t *available = json_object_get(entry, "available"), *reason = json_object_get(entry, "reason");
    json_t *classes = json_array();
    for (int i = 0; i < card->classes; i++)
        json_array_append_new(classes, json_string(card->class_names[i]));
    return json_pack("{s:s,s:s,s:s,s:[i,i,i],s:o,s:i,s:i,s:O,s:O}", "name", card->name, "title", card->title, "source",
                     card->source, "shape", card->channels, card->height, card->width, "classes", classes, "train_images",
                     card->train_images, "test_images", card->test_images, "available",
                     available != NULL ? available : json_null(), "reason", reason != NULL ? reason : json_null());
}

/* Consumes items. */
static int answer_items(struct request *request, json_t *items, size_t n, struct err *err) {
    if (json_array_size(items) != n) {
        json_decref(items);
        return err_set(err, ERR_MEMORY, "cannot list: out of memory");
    }
    return answer_json(request, MHD_HTTP_OK, json_pack("{s:o}", "items", items), err);
}

int handle_datasets(struct request *request, struct err *err) {
    size_t n;
    const struct dataset_card *cards = dataset_all(&n);
    json_t *items = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(items, dataset_json(&cards[i], sched_datasets(request->api->options.sched)));
    return answer_items(request, items, n, err);
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
