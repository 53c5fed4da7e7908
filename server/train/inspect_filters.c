/* The filters of a convolution, as they stand in the weights file. */
#include <stdlib.h>

#include "server/train/inspect.h"

static int first_conv(const struct graph *graph, struct err *err) {
    for (int i = 0; i < graph->nodes_n; i++)
        if (graph->nodes[i].op == OP_CONV)
            return i;
    return err_at(err, ERR_NOT_FOUND, "/layer", "the network has no convolution");
}

static int find_conv(const struct inspect *inspect, const json_t *name, struct err *err) {
    if (!json_is_string(name))
        return first_conv(inspect->graph, err);
    int node = inspect_find_layer(inspect, json_string_value(name), "/layer", err);
    if (node < 0)
        return -1;
    const struct graph_node *layer = &inspect->graph->nodes[node];
    if (layer->op == OP_CONV)
        return node;
    return err_at(err, ERR_FIELD, "/layer", "layer \"%s\" is no convolution but %s; only convolutions have filters", layer->name,
                  graph_op_name(layer->op));
}

/* values: the whole weight, [O,I,KH,KW]; the channels asked for are output channels. */
static json_t *answer(const struct inspect *inspect, const struct graph_param *weight, const struct inspect_channels *channels,
                      const float *values) {
    const int *s = weight->shape;
    const int shown[] = {channels->last - channels->first + 1, s[1], s[2], s[3]};
    size_t filter = weight->count / (size_t)s[0];
    json_t *found =
        json_pack("{s:i, s:s, s:[i, i, i, i], s:o, s:o}", "epoch", inspect->epoch, "layer",
                  inspect->graph->nodes[weight->node].name, "shape", s[0], s[1], s[2], s[3], "channels",
                  inspect_channels_json(channels), "values", inspect_values(values + (size_t)channels->first * filter, shown, 4));
    if (inspect_put_range(found, values, weight->count) == 0)
        return found;
    json_decref(found);
    return NULL;
}

static json_t *read_filters(const struct inspect *inspect, const struct graph_param *weight,
                            const struct inspect_channels *channels, struct err *err) {
    struct safetensors weights;
    if (inspect_weights_open(inspect, &weights, err) != 0)
        return NULL;
    json_t *found = NULL;
    float *values = malloc(weight->count * sizeof *values);
    if (values != NULL && inspect_weights_get(&weights, weight, values, err) == 0)
        found = answer(inspect, weight, channels, values);
    if (found == NULL)
        err_set(err, ERR_MEMORY, "out of memory for the filters of \"%s\"", inspect->graph->nodes[weight->node].name);
    free(values);
    safetensors_done(&weights);
    return found;
}

json_t *inspect_filters(struct inspect *inspect, const json_t *want, struct err *err) {
    struct inspect_channels asked, channels;
    int node = find_conv(inspect, json_object_get(want, "layer"), err);
    if (node < 0 || inspect_channels_parse(json_object_get(want, "channels"), &asked, err) != 0)
        return NULL;
    const struct graph_param *weight = &inspect->graph->params[inspect->graph->nodes[node].params[0]];
    int64_t filter = (int64_t)weight->count / weight->shape[0];
    if (inspect_channels_clip(&asked, inspect->graph->nodes[node].name, weight->shape[0], &channels, err) != 0 ||
        inspect_values_check((channels.last - channels.first + 1) * filter, filter, err) != 0)
        return NULL;
    return read_filters(inspect, weight, &channels, err);
}
