/* The list of training's tensors: see tensors.h. */
#include "server/train/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum backend_tensor kinds[] = {TENSOR_VALUE, TENSOR_AVERAGE, TENSOR_MOMENTUM, TENSOR_SQUARE};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static bool is_kept(enum backend_tensor kind, const struct graph_param *param, const struct spec *spec) {
    switch (kind) {
    case TENSOR_VALUE:
        return true;
    case TENSOR_MOMENTUM:
        return param->trainable;
    case TENSOR_SQUARE:
        return param->trainable && spec->optimizer.kind != OPTIMIZER_SGD;
    case TENSOR_AVERAGE:
        return spec->average_decay > 0;
    case TENSOR_GRADIENT:
        return false;
    }
    return false;
}

static const char *suffix(enum backend_tensor kind) {
    switch (kind) {
    case TENSOR_VALUE:
        return "";
    case TENSOR_MOMENTUM:
        return ".momentum";
    case TENSOR_SQUARE:
        return ".square";
    case TENSOR_AVERAGE:
        return ".average";
    case TENSOR_GRADIENT:
        return ".gradient";
    }
    return "";
}

static void add(struct tensors *tensors, enum backend_tensor kind, const struct graph *graph, int index) {
    const struct graph_param *param = &graph->params[index];
    struct tensors_row *row = &tensors->rows[tensors->n];
    *row = (struct tensors_row){.kind = kind, .param = index, .at = tensors->floats_n};
    snprintf(row->name, sizeof row->name, "%s%s%s", kind == TENSOR_VALUE ? "" : "optimizer.", param->name, suffix(kind));
    tensors->entries[tensors->n++] = (struct safetensors_entry){
        .name = row->name, .shape = param->shape, .dims = param->dims, .count = param->count, .type = SAFETENSORS_F32};
    tensors->floats_n += param->count;
    tensors->values_n += kind == TENSOR_VALUE ? param->count : 0;
}

static void list(struct tensors *tensors, const struct graph *graph, const struct spec *spec) {
    for (int k = 0; k < KINDS; k++)
        for (int i = 0; i < graph->params_n; i++)
            if (is_kept(kinds[k], &graph->params[i], spec))
                add(tensors, kinds[k], graph, i);
}

static int allocate_floats(struct tensors *tensors, struct err *err) {
    tensors->floats = calloc(tensors->floats_n + 1, sizeof *tensors->floats);
    if (tensors->floats == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for %zu values of weights and optimizer", tensors->floats_n);
    for (size_t i = 0; i < tensors->n; i++)
        tensors->entries[i].values = tensors->floats + tensors->rows[i].at;
    return 0;
}

int tensors_init(struct tensors *tensors, const struct graph *graph, const struct spec *spec, struct err *err) {
    size_t most = (size_t)KINDS * (size_t)graph->params_n;
    struct tensors made = {.rows = calloc(most, sizeof *made.rows), .entries = calloc(most, sizeof *made.entries)};
    int rc = made.rows == NULL || made.entries == NULL ? err_set(err, ERR_MEMORY, "out of memory for the list of tensors") : 0;
    if (rc == 0) {
        list(&made, graph, spec);
        rc = allocate_floats(&made, err);
    }
    if (rc != 0) {
        tensors_done(&made);
        return -1;
    }
    *tensors = made;
    return 0;
}

void tensors_done(struct tensors *tensors) {
    free(tensors->rows);
    free(tensors->entries);
    free(tensors->floats);
    *tensors = (struct tensors){0};
}

void tensors_start_average(const struct tensors *tensors) {
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tensors_row *row = &tensors->rows[i];
        if (row->kind == TENSOR_AVERAGE)
            memcpy(tensors->floats + row->at, tensors->floats + tensors->rows[row->param].at,
                   tensors->entries[i].count * sizeof(float));
    }
}

int tensors_get(const struct tensors *tensors, enum backend_tensor kind, const struct residuum_backend *api,
                struct backend_plan *plan, struct err *err) {
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tensors_row *row = &tensors->rows[i];
        if (row->kind == kind && api->get_tensor(plan, kind, row->param, tensors->floats + row->at, err) != 0)
            return -1;
    }
    return 0;
}

int tensors_set(const struct tensors *tensors, enum backend_tensor kind, const struct residuum_backend *api,
                struct backend_plan *plan, enum backend_tensor to, struct err *err) {
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tensors_row *row = &tensors->rows[i];
        if (row->kind == kind && api->set_tensor(plan, to, row->param, tensors->floats + row->at, err) != 0)
            return -1;
    }
    return 0;
}

int tensors_get_all(const struct tensors *tensors, const struct residuum_backend *api, struct backend_plan *plan,
                    struct err *err) {
    for (int k = 0; k < KINDS; k++)
        if (tensors_get(tensors, kinds[k], api, plan, err) != 0)
            return -1;
    return 0;
}

int tensors_set_all(const struct tensors *tensors, const struct residuum_backend *api, struct backend_plan *plan,
                    struct err *err) {
    for (int k = 0; k < KINDS; k++)
        if (tensors_set(tensors, kinds[k], api, plan, kinds[k], err) != 0)
            return -1;
    return 0;
}
