/* GET /v1/presets/{name}/layers: a preset as the document of its layers, to be edited and submitted. */
#include "server/api/private.h"
#include "server/api/submit.h"

json_t *layers_document(const struct graph *graph) {
    return json_pack("{s:o}", "layers", graph_to_layers(graph));
}

static int check_preset(const char *name, struct err *err) {
    struct err why = {0};
    return graph_preset_find(name, &why) != NULL ? 0 : err_set(err, ERR_NOT_FOUND, "%s", why.text);
}

/* The preset with its defaults, for the images of a data set, however few. */
static int plan_of_preset(struct api *api, const char *preset, const char *dataset, struct plan *ret_plan, struct err *err) {
    struct card_search search = {.api = api};
    struct spec_context context = card_context(&search, 1, 1);
    struct err_list errors = {0};
    struct spec spec = {0};
    json_t *doc = json_pack("{s:s,s:s,s:i}", "dataset", dataset, "model", preset, "batch_size", 1);
    if (doc == NULL)
        return err_set(err, ERR_MEMORY, "cannot list the layers of a preset: out of memory");
    int failed = spec_parse(doc, &context, &spec, &errors);
    json_decref(doc);
    if (failed < 0) {
        card_explain(&search, &errors);
        card_search_done(&search);
        return err_at(err, errors.items[0].code, "?dataset", "dataset %s", errors.items[0].text);
    }
    failed = plan_make(&spec, &context, ret_plan, err);
    card_search_done(&search);
    spec_done(&spec);
    return failed;
}

int handle_preset_layers(struct request *request, struct err *err) {
    const char *dataset = target_param(&request->target, "dataset");
    struct plan plan = {0};
    if (check_preset(request->args[0], err) < 0)
        return -1;
    if (dataset == NULL)
        return err_at(err, ERR_FIELD, "?dataset",
                      "dataset is missing: the layers hang on the size of its images and its classes");
    if (plan_of_preset(request->api, request->args[0], dataset, &plan, err) < 0)
        return -1;
    int failed = answer_json(request, MHD_HTTP_OK, layers_document(plan.graph), err);
    plan_done(&plan);
    return failed;
}
