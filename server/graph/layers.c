/* Custom models: a list of layers read into a graph, and any graph written as such a list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/choices.h"
#include "common/json.h"
#include "common/row.h"
#include "server/graph/private.h"

/* Layer number i of the list becomes node i + 1. */
struct reading {
    const json_t *list;
    int n;
    json_t *places; /* name of a layer -> its number */
    int classes;
    struct graph *graph;
    struct err *err;
};

enum { POINTER_MAX = 64, LAYERS_MAX = GRAPH_NODES_MAX - 2 };

static void layer_pointer(int i, const char *key, char ret_pointer[POINTER_MAX]) {
    snprintf(ret_pointer, POINTER_MAX, "/model/layers/%d%s%s", i, key[0] != '\0' ? "/" : "", key);
}

static const char *name_of(const struct reading *r, int i) {
    return json_string_value(json_object_get(json_array_get(r->list, (size_t)i), "name"));
}

/* --- names --- */

static int check_name(const struct reading *r, int i, const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    char pointer[POINTER_MAX];
    layer_pointer(i, "name", pointer);
    if (name[0] == '\0' || strlen(name) >= GRAPH_NAME_MAX || name[strspn(name, allowed)] != '\0')
        return err_at(r->err, ERR_FIELD, pointer,
                      "Layer %d is named '%.80s'; a name has 1 to %d letters, digits, dots, underscores and hyphens", i, name,
                      GRAPH_NAME_MAX - 1);
    if (strcmp(name, "input") == 0 || strcmp(name, "loss") == 0)
        return err_at(r->err, ERR_FIELD, pointer, "Layer %d is named '%s', a name that every model has already", i, name);
    const json_t *other = json_object_get(r->places, name);
    if (other != NULL)
        return err_at(r->err, ERR_FIELD, pointer, "Layers %d and %d are both named '%s'; names must differ",
                      (int)json_integer_value(other), i, name);
    return 0;
}

static int read_name(const struct reading *r, int i) {
    const json_t *layer = json_array_get(r->list, (size_t)i), *name = json_object_get(layer, "name");
    char pointer[POINTER_MAX];
    layer_pointer(i, json_is_object(layer) ? "name" : "", pointer);
    if (!json_is_object(layer))
        return err_at(r->err, ERR_FIELD, pointer, "Layer %d must be an object, not %s", i, row_type_name(layer));
    if (!json_is_string(name))
        return err_at(r->err, ERR_FIELD, pointer, "Layer %d needs a \"name\", which is a string", i);
    if (check_name(r, i, json_string_value(name)) < 0)
        return -1;
    if (json_object_set_new(r->places, json_string_value(name), json_integer(i)) < 0)
        return err_set(r->err, ERR_MEMORY, "No memory for the name of layer %d", i);
    return 0;
}

static int read_names(const struct reading *r) {
    if (r->n < 1 || r->n > LAYERS_MAX)
        return err_at(r->err, ERR_FIELD, "/model/layers", "The list has %d layers; 1 to %d are possible", r->n, LAYERS_MAX);
    for (int i = 0; i < r->n; i++)
        if (read_name(r, i) < 0)
            return -1;
    return 0;
}

/* --- inputs --- */

/* The number of inputs that a layer states; -1: none, so it takes the layer before. */
static int stated_inputs(const struct reading *r, int i) {
    const json_t *inputs = json_object_get(json_array_get(r->list, (size_t)i), "inputs");
    if (inputs == NULL)
        return -1;
    return json_is_array(inputs) ? (int)json_array_size(inputs) : 1;
}

/* The name of input k that a layer states; NULL when it is no string. */
static const char *stated_input(const struct reading *r, int i, int k) {
    const json_t *inputs = json_object_get(json_array_get(r->list, (size_t)i), "inputs");
    return json_string_value(json_is_array(inputs) ? json_array_get(inputs, (size_t)k) : inputs);
}

/* The number of the layer with a name; -1: none. */
static int place_of(const struct reading *r, const char *name) {
    const json_t *place = name == NULL ? NULL : json_object_get(r->places, name);
    return place == NULL ? -1 : (int)json_integer_value(place);
}

/* Layers found on the way back from one, in the order in which they were found. */
struct walk {
    int *found, n;
    bool *seen;
};

static void find_layer(struct walk *walk, int i) {
    if (i < 0 || walk->seen[i])
        return;
    walk->seen[i] = true;
    walk->found[walk->n++] = i;
}

static void find_inputs(const struct reading *r, struct walk *walk, int i) {
    int n = stated_inputs(r, i);
    if (n < 0)
        find_layer(walk, i - 1);
    for (int k = 0; k < n; k++)
        find_layer(walk, place_of(r, stated_input(r, i, k)));
}

/* Whether layer `from` feeds layer `to`, directly or through others, wherever they stand. */
static bool feeds(const struct reading *r, int from, int to) {
    struct walk walk = {.found = calloc((size_t)r->n, sizeof *walk.found), .seen = calloc((size_t)r->n, sizeof *walk.seen)};
    bool found = false; /* also when there is no memory: only the message gets less helpful */
    if (walk.found != NULL && walk.seen != NULL) {
        find_layer(&walk, to);
        for (int i = 0; i < walk.n; i++)
            find_inputs(r, &walk, walk.found[i]);
        found = walk.seen[from];
    }
    free(walk.found);
    free(walk.seen);
    return found;
}

/* Layer i takes its input from a layer that does not stand before it. */
static int refuse_later(const struct reading *r, int i, int from, const char *pointer) {
    const char *name = name_of(r, i), *other = name_of(r, from);
    if (i == from)
        return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' takes its own output as its input", name);
    if (feeds(r, i, from))
        return err_at(r->err, ERR_FIELD, pointer, "Layers '%s' and '%s' form a circle: each needs the output of the other", name,
                      other);
    return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' takes its input from '%s', which stands behind it; move '%s' before it",
                  name, other, other);
}

/* The name that layer i could take as its input, its own and later ones excepted, nearest to a wrong one; NULL: none is near. */
static const char *nearest_name(const struct reading *r, int i, const char *name) {
    const char **known = calloc((size_t)i + 1, sizeof *known);
    if (known == NULL)
        return NULL; /* only a message gets less helpful */
    known[0] = "input";
    for (int k = 0; k < i; k++)
        known[k + 1] = name_of(r, k);
    const char *nearest = json_nearest(name, known, (size_t)i + 1);
    free(known);
    return nearest;
}

static int refuse_unknown(const struct reading *r, int i, const char *input, const char *pointer) {
    const char *nearest = nearest_name(r, i, input);
    return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' takes its input from '%.80s', which is no layer%s%s%s", name_of(r, i),
                  input, nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

static int read_input(const struct reading *r, int i, int k, struct graph_node *node) {
    const char *name = stated_input(r, i, k);
    int from = place_of(r, name);
    char pointer[POINTER_MAX];
    layer_pointer(i, "inputs", pointer);
    if (name == NULL)
        return err_at(r->err, ERR_FIELD, pointer, "Layer '%s': \"inputs\" must be a name, or a list of names", node->name);
    if (from < 0 && strcmp(name, "input") != 0)
        return refuse_unknown(r, i, name, pointer);
    if (from >= i)
        return refuse_later(r, i, from, pointer);
    node->inputs[k] = from + 1;
    return 0;
}

static int read_inputs(const struct reading *r, int i, struct graph_node *node) {
    int n = stated_inputs(r, i);
    char pointer[POINTER_MAX];
    layer_pointer(i, "inputs", pointer);
    if (n == 0 || n > GRAPH_INPUTS_MAX)
        return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' has %d inputs; 1 to %d are possible", node->name, n,
                      GRAPH_INPUTS_MAX);
    node->inputs_n = n < 0 ? 1 : n;
    node->inputs[0] = i; /* the one before, when none is stated */
    for (int k = 0; k < n; k++)
        if (read_input(r, i, k, node) < 0)
            return -1;
    return 0;
}

/* --- layers --- */

/* The input and the loss are not for the list: every model has them. */
static bool is_listed(enum graph_op op) {
    return op != OP_INPUT && op != OP_LOSS;
}

static bool is_activation(const char *name) {
    for (int i = 0; choices_activation[i] != NULL; i++)
        if (strcmp(choices_activation[i], name) == 0)
            return true;
    return false;
}

/* An op that is not there: the nearest one, or all. */
static int refuse_unknown_op(const struct reading *r, const char *layer, const char *op, const char *pointer) {
    const char *known[GRAPH_OPS_N];
    char list[256] = "";
    size_t n = 0, used = 0;
    for (int k = 0; k < GRAPH_OPS_N; k++) {
        if (!is_listed((enum graph_op)k))
            continue;
        known[n] = graph_op_name((enum graph_op)k);
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", n == 0 ? "" : ", ", known[n]);
        n++;
    }
    const char *nearest = json_nearest(op, known, n);
    if (nearest != NULL)
        return err_at(r->err, ERR_FIELD, pointer, "Layer '%s': there is no op \"%.40s\"; did you mean \"%s\"?", layer, op,
                      nearest);
    return err_at(r->err, ERR_FIELD, pointer, "Layer '%s': there is no op \"%.40s\"; ops are %s", layer, op, list);
}

/* PyTorch has modules for what is the kind of an activation here, or belongs to the loss. */
static int refuse_op(const struct reading *r, const char *layer, const char *op, const char *pointer) {
    if (is_activation(op))
        return err_at(r->err, ERR_FIELD, pointer,
                      "Layer '%s': there is no op \"%s\"; use \"op\": \"activation\", \"kind\": \"%s\"", layer, op, op);
    if (strstr(op, "softmax") != NULL || strstr(op, "loss") != NULL)
        return err_at(r->err, ERR_FIELD, pointer,
                      "Layer '%s': there is no op \"%.40s\"; the server adds softmax and loss at the end, behind the last layer",
                      layer, op);
    return refuse_unknown_op(r, layer, op, pointer);
}

static int read_op(const struct reading *r, int i, struct graph_node *node) {
    const json_t *op = json_object_get(json_array_get(r->list, (size_t)i), "op");
    const char *name = json_string_value(op);
    char pointer[POINTER_MAX];
    layer_pointer(i, "op", pointer);
    if (name == NULL)
        return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' needs an \"op\", such as \"conv\"", node->name);
    for (int k = 0; k < GRAPH_OPS_N; k++) {
        node->op = (enum graph_op)k;
        if (is_listed(node->op) && strcmp(name, graph_op_name(node->op)) == 0)
            return 0;
    }
    return refuse_op(r, node->name, name, pointer);
}

/* "out_features": "classes" stands for as many outputs as the data set has classes. Returns a new reference to the layer with the
 * number in its place. */
static json_t *with_classes(const struct reading *r, json_t *layer) {
    const char *features = json_string_value(json_object_get(layer, "out_features"));
    if (features == NULL || strcmp(features, "classes") != 0)
        return json_incref(layer);
    json_t *copy = json_copy(layer);
    if (json_object_set_new(copy, "out_features", json_integer(r->classes)) == 0)
        return copy;
    json_decref(copy);
    err_set(r->err, ERR_MEMORY, "No memory for a layer");
    return NULL;
}

static int read_attributes(const struct reading *r, int i, struct graph_node *node) {
    char pointer[POINTER_MAX];
    layer_pointer(i, "", pointer);
    json_t *layer = with_classes(r, json_array_get(r->list, (size_t)i));
    int failed = layer == NULL ? -1 : attribute_read(node, layer, pointer, r->err);
    json_decref(layer);
    return failed;
}

static int read_layer(const struct reading *r, int i) {
    struct graph_node node = {0};
    snprintf(node.name, sizeof node.name, "%s", name_of(r, i));
    if (read_op(r, i, &node) < 0 || read_inputs(r, i, &node) < 0 || read_attributes(r, i, &node) < 0)
        return -1;
    struct err shape = {0};
    if (graph_add(r->graph, &node, &shape) >= 0)
        return 0;
    char pointer[POINTER_MAX];
    layer_pointer(i, "", pointer);
    return err_at(r->err, shape.code, pointer, "%s", shape.text);
}

/* What a layer computes must be used; a forgotten branch is a mistake. */
static int check_used(const struct reading *r) {
    const struct graph *graph = r->graph;
    bool *used = calloc((size_t)graph->nodes_n, sizeof *used);
    if (used == NULL)
        return err_set(r->err, ERR_MEMORY, "No memory for checking the layers");
    for (int i = 0; i < graph->nodes_n; i++)
        for (int k = 0; k < graph->nodes[i].inputs_n; k++)
            used[graph->nodes[i].inputs[k]] = true;
    int i = 1;
    while (i < r->n && used[i])
        i++;
    free(used);
    char pointer[POINTER_MAX];
    layer_pointer(i - 1, "", pointer);
    if (i == r->n)
        return 0;
    return err_at(r->err, ERR_FIELD, pointer, "Layer '%s' is the input of no other layer; only the last one may be that",
                  graph->nodes[i].name);
}

static int add_loss(const struct reading *r) {
    const struct graph_node *last = &r->graph->nodes[r->n];
    struct graph_shape out = last->out;
    char pointer[POINTER_MAX];
    layer_pointer(r->n - 1, "", pointer);
    if (out.c != r->classes || out.h != 1 || out.w != 1)
        return err_at(r->err, ERR_SHAPE, pointer,
                      "The last layer, '%s', has an output of %dx%dx%d, but the data set has %d classes, which need %dx1x1: end "
                      "with a linear layer with \"out_features\": \"classes\"",
                      last->name, out.c, out.h, out.w, r->classes, r->classes);
    struct graph_node loss = {.name = "loss", .op = OP_LOSS, .inputs = {r->n}, .inputs_n = 1};
    return graph_add(r->graph, &loss, r->err) < 0 ? -1 : 0;
}

static int read_layers(const struct reading *r) {
    if (read_names(r) < 0)
        return -1;
    for (int i = 0; i < r->n; i++)
        if (read_layer(r, i) < 0)
            return -1;
    return check_used(r) < 0 ? -1 : add_loss(r);
}

int layers_build(const json_t *list, struct graph_shape input, int classes, struct graph **ret_graph, struct err *err) {
    struct reading r = {.list = list, .n = (int)json_array_size(list), .classes = classes, .err = err};
    r.graph = graph_new("Custom model", input, err);
    if (r.graph == NULL)
        return -1;
    r.places = json_object();
    int failed = r.places == NULL ? err_set(err, ERR_MEMORY, "No memory for the names of layers") : read_layers(&r);
    json_decref(r.places);
    if (failed < 0) {
        graph_free(r.graph);
        return -1;
    }
    *ret_graph = r.graph;
    return 0;
}

/* --- writing --- */

/* The loss takes the last layer: as many outputs as there are classes. */
static bool makes_logits(const struct graph *graph, int i) {
    return graph->nodes[i].op == OP_LINEAR && i == graph->nodes[graph->nodes_n - 1].inputs[0];
}

static int write_inputs(json_t *layer, const struct graph *graph, int i) {
    const struct graph_node *node = &graph->nodes[i];
    if (node->inputs_n == 1 && node->inputs[0] == i - 1)
        return 0;
    if (node->inputs_n == 1)
        return json_object_set_new(layer, "inputs", json_string(graph->nodes[node->inputs[0]].name));
    return json_object_set_new(layer, "inputs", graph_inputs_json(graph, node));
}

static json_t *layer_json(const struct graph *graph, int i) {
    const struct graph_node *node = &graph->nodes[i];
    json_t *layer = json_pack("{s:s,s:s}", "name", node->name, "op", graph_op_name(node->op));
    int failed = layer == NULL ? -1 : write_inputs(layer, graph, i);
    if (failed == 0)
        failed = attribute_write(layer, node);
    if (failed == 0 && makes_logits(graph, i))
        failed = json_object_set_new(layer, "out_features", json_string("classes"));
    if (failed == 0)
        return layer;
    json_decref(layer);
    return NULL;
}

json_t *graph_to_layers(const struct graph *graph) {
    json_t *list = json_array();
    for (int i = 0; i < graph->nodes_n && list != NULL; i++) {
        if (is_listed(graph->nodes[i].op) && json_array_append_new(list, layer_json(graph, i)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}
