/* Makes the parts of an ONNX model: nodes, attributes, tensors. All of it lives until build_done. Whatever runs out of memory is
 * remembered in failed, and the functions go on doing nothing, so that one look at the end is enough. */
#ifndef EXPORT_BUILD_H
#define EXPORT_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gen/onnx.pb-c.h"

struct build_block;

struct build {
    struct build_block *blocks;
    Onnx__GraphProto *graph;
    size_t nodes_room, tensors_room;
    bool failed;
};

/* Room for a graph of at most so many nodes and tensors. */
void build_init(struct build *build, size_t nodes, size_t tensors);
void build_done(struct build *build);

/* Zeroed memory; NULL when there is none, or was none before. */
void *build_alloc(struct build *build, size_t size);

/* A text made of a format; NULL as build_alloc. */
char *build_text(struct build *build, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends a node. inputs end with NULL; the node goes by its output's name. NULL as build_alloc. */
Onnx__NodeProto *build_node(struct build *build, const char *op, char *const *inputs, char *output);

/* Gives a node an attribute; node may be NULL. */
void build_int(struct build *build, Onnx__NodeProto *node, const char *name, int64_t value);
void build_ints(struct build *build, Onnx__NodeProto *node, const char *name, const int64_t *values, size_t n);
void build_float(struct build *build, Onnx__NodeProto *node, const char *name, double value);

/* Appends a constant of the graph and returns its name. */
char *build_tensor(struct build *build, char *name, const int64_t *dims, size_t dims_n, const void *borrowed_floats);
char *build_floats(struct build *build, char *name, const int64_t *dims, size_t dims_n, const double *values);
char *build_whole(struct build *build, char *name, const int64_t *values, size_t n);

/* An input or output of the graph, f32 [N] + dims. */
Onnx__ValueInfoProto *build_value(struct build *build, char *name, const int64_t *dims, size_t dims_n);

#endif
