/* The table of the ops' attributes: their names in JSON, where they stand in a node, bounds and default values. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/choices.h"
#include "common/json.h"
#include "common/row.h"
#include "server/graph/private.h"

#define AT(member) offsetof(struct graph_node, member)
#define OF(op) (1u << OP_##op)
#define POOLS (OF(POOL_MAX) | OF(POOL_AVG))
#define WEIGHTED (OF(CONV) | OF(LINEAR))

_Static_assert(AT(window.kernel_w) == AT(window.kernel_h) + sizeof(int) &&
                   AT(window.stride_w) == AT(window.stride_h) + sizeof(int) &&
                   AT(window.pad_w) == AT(window.pad_h) + sizeof(int) &&
                   AT(window.dilation_w) == AT(window.dilation_h) + sizeof(int),
               "ROW_PAIR needs the width behind the height");

enum { WINDOW_MAX = 1024 };

/* kinds: the ops that have the attribute. A pool's kernel stands before its stride, and the init before its deviation, since the
 * second depends on the first. Names are those of PyTorch's modules, kernel, kind and rate excepted. */
static const struct row attributes[] = {
    {"", "out_channels", ROW_INT, AT(channels_out), 1, GRAPH_SIDE_MAX, .kinds = OF(CONV) | OF(SHORTCUT), .required = true},
    {"", "out_features", ROW_INT, AT(channels_out), 1, GRAPH_SIDE_MAX, .kinds = OF(LINEAR), .required = true},
    {"", "kernel", ROW_PAIR, AT(window.kernel_h), 1, WINDOW_MAX, .kinds = OF(CONV) | POOLS, .required = true},
    {"", "stride", ROW_PAIR, AT(window.stride_h), 1, WINDOW_MAX, 1, .kinds = OF(CONV) | POOLS | OF(SHORTCUT)},
    {"", "padding", ROW_PAIR, AT(window.pad_h), 0, WINDOW_MAX, .kinds = OF(CONV) | POOLS},
    {"", "dilation", ROW_PAIR, AT(window.dilation_h), 1, WINDOW_MAX, 1, .kinds = OF(CONV)},
    {"", "groups", ROW_INT, AT(window.groups), 1, GRAPH_SIDE_MAX, 1, .kinds = OF(CONV)},
    {"", "groups", ROW_INT, AT(window.groups), 1, GRAPH_SIDE_MAX, .kinds = OF(GROUP_NORM), .required = true},
    {"", "bias", ROW_BOOL, AT(bias), .initial = true, .kinds = WEIGHTED},
    {"", "init", ROW_CHOICE, AT(init), .initial = INIT_HE_NORMAL, .choices = choices_init, .kinds = WEIGHTED},
    {"", "init_sigma", ROW_REAL, AT(init_sigma), 1e-9, 100, 0.01, .kinds = WEIGHTED},
    {"", "epsilon", ROW_REAL, AT(epsilon), 1e-12, 1, 1e-5, .kinds = OF(NORM) | OF(GROUP_NORM)},
    {"", "momentum", ROW_REAL, AT(momentum), 0, 1, 0.1, .kinds = OF(NORM)},
    {"", "zero_init", ROW_BOOL, AT(zero_init), .initial = false, .kinds = OF(NORM) | OF(GROUP_NORM)},
    {"", "kind", ROW_CHOICE, AT(activation), .choices = choices_activation, .kinds = OF(ACT), .required = true},
    {"", "rate", ROW_REAL, AT(rate), 0, 0.999999, .kinds = OF(DROPOUT), .required = true},
};
enum { ATTRIBUTES_N = sizeof attributes / sizeof attributes[0] };

static bool has(const struct graph_node *node, const struct row *row) {
    return (row->kinds & 1u << node->op) != 0;
}

/* The deviation means something for one init only. */
static bool counts(const struct graph_node *node, const struct row *row) {
    return has(node, row) && (row->offset != AT(init_sigma) || node->init == INIT_NORMAL);
}

static bool is_pool(const struct graph_node *node) {
    return (POOLS & 1u << node->op) != 0;
}

/* Gives an attribute its default value. A pool's stride is its kernel, as in PyTorch. */
static void set_default(const struct row *row, struct graph_node *node) {
    if (row->offset == AT(window.stride_h) && is_pool(node)) {
        node->window.stride_h = node->window.kernel_h;
        node->window.stride_w = node->window.kernel_w;
    } else if (!row->required && counts(node, row)) {
        row_set(row, node, row->initial);
    }
}

/* --- reading --- */

/* Blames a field of a layer; found says what is wrong with it. */
static int blame(const struct graph_node *node, const struct err *found, struct err *err) {
    const char *slash = strrchr(found->pointer, '/');
    return err_at(err, found->code, found->pointer, "Layer '%s' (%s): \"%s\" %s", node->name, graph_op_name(node->op),
                  slash == NULL ? "" : slash + 1, found->text);
}

static int check_keys(const struct graph_node *node, const json_t *object, const char *parent, struct err *err) {
    const char *known[ATTRIBUTES_N + 3] = {"name", "op", "inputs"};
    size_t n = 3;
    struct err_list errors = {0};
    for (int i = 0; i < ATTRIBUTES_N; i++)
        if (has(node, &attributes[i]))
            known[n++] = attributes[i].key;
    row_report_unknown(object, parent, known, n, NULL, &errors);
    return errors.n > 0 ? blame(node, &errors.items[0], err) : 0;
}

static int read_attribute(const struct row *row, struct graph_node *node, const json_t *object, const char *parent,
                          struct err *err) {
    const json_t *value = json_object_get(object, row->key);
    char pointer[96];
    struct err_list errors = {0};
    json_pointer(pointer, sizeof pointer, parent, row->key);
    if (value == NULL && row->required)
        err_add(&errors, ERR_FIELD, pointer, "is missing");
    else if (value == NULL)
        set_default(row, node);
    else if (!counts(node, row))
        err_add(&errors, ERR_FIELD, pointer, "is only for the init \"normal\"");
    else
        row_read(row, node, pointer, value, &errors);
    return errors.n > 0 ? blame(node, &errors.items[0], err) : 0;
}

int attribute_read(struct graph_node *node, const json_t *object, const char *parent, struct err *err) {
    if (check_keys(node, object, parent, err) < 0)
        return -1;
    if (is_pool(node))
        node->window.dilation_h = node->window.dilation_w = 1; /* the only one there is */
    for (int i = 0; i < ATTRIBUTES_N; i++)
        if (has(node, &attributes[i]) && read_attribute(&attributes[i], node, object, parent, err) < 0)
            return -1;
    return 0;
}

/* --- writing --- */

json_t *attribute_json(const struct graph_node *node) {
    json_t *object = json_object();
    for (int i = 0; i < ATTRIBUTES_N; i++)
        if (counts(node, &attributes[i]) &&
            json_object_set_new(object, attributes[i].key, row_write(&attributes[i], node)) != 0) {
            json_decref(object);
            return NULL;
        }
    return object;
}

/* A square pair as one number. Takes value. */
static json_t *shorter(json_t *value) {
    json_t *first = json_array_get(value, 0);
    if (!json_equal(first, json_array_get(value, 1)))
        return value;
    json_incref(first);
    json_decref(value);
    return first;
}

/* Takes value. */
static int write_one(json_t *object, const struct row *row, json_t *value, const json_t *initial) {
    if (value != NULL && !row->required && json_equal(value, initial)) {
        json_decref(value);
        return 0;
    }
    return json_object_set_new(object, row->key, row->kind == ROW_PAIR ? shorter(value) : value);
}

int attribute_write(json_t *object, const struct graph_node *node) {
    struct graph_node initial = {.op = node->op, .window = node->window};
    int failed = 0;
    for (int i = 0; i < ATTRIBUTES_N && failed == 0; i++) {
        const struct row *row = &attributes[i];
        if (!counts(node, row))
            continue;
        set_default(row, &initial);
        json_t *usual = row_write(row, &initial);
        failed = write_one(object, row, row_write(row, node), usual);
        json_decref(usual);
    }
    return failed;
}
