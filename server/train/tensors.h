/* All tensors that training consists of, in one piece of memory: between a plan and files. */
#ifndef TRAIN_TENSORS_H
#define TRAIN_TENSORS_H

#include "common/err.h"
#include "common/spec.h"
#include "server/backend/backend.h"
#include "server/graph/graph.h"
#include "server/train/safetensors.h"

/* One row of the list; its name in files: a value's is the parameter's, others are "optimizer.NAME.momentum", ".square" and
 * ".average". No parameter's name ends so, whatever a user calls his layers. */
struct tensors_row {
    enum backend_tensor kind;
    int param;
    size_t at; /* in floats */
    char name[GRAPH_NAME_MAX + 40];
};

/* The rows of a kind lie together, each kind in the graph's order: values (row i is parameter i), averages, momenta, squares;
 * averages and squares only where the spec's average or optimizer has them. */
struct tensors {
    size_t n;
    struct tensors_row *rows;          /* [n] */
    struct safetensors_entry *entries; /* [n], values point into floats */
    float *floats;
    size_t floats_n, values_n; /* of all rows; of the values, which come first, and of the averages, which come next, each */
};

/* tensors_done accepts zeroed memory. */
int tensors_init(struct tensors *tensors, const struct graph *graph, const struct spec *spec, struct err *err);
void tensors_done(struct tensors *tensors);

/* Makes the averages equal to the values. */
void tensors_start_average(const struct tensors *tensors);

/* Copies all rows of a kind from a plan, or into the tensor to of a plan. */
int tensors_get(const struct tensors *tensors, enum backend_tensor kind, const struct residuum_backend *api,
                struct backend_plan *plan, struct err *err);
int tensors_set(const struct tensors *tensors, enum backend_tensor kind, const struct residuum_backend *api,
                struct backend_plan *plan, enum backend_tensor to, struct err *err);

/* The same for all kinds. */
int tensors_get_all(const struct tensors *tensors, const struct residuum_backend *api, struct backend_plan *plan,
                    struct err *err);
int tensors_set_all(const struct tensors *tensors, const struct residuum_backend *api, struct backend_plan *plan,
                    struct err *err);

#endif
