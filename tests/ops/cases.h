/* The case table of the op tests: small graphs in words. */
#ifndef TESTS_OPS_CASES_H
#define TESTS_OPS_CASES_H

#include <stddef.h>

#include "server/graph/graph.h"

struct op_case {
    const char *name;
    struct graph_shape input;
    int batch;
    /* Layers separated by ";": an op of cases.c, then words: o=CHANNELS k=H[xW] s= p= d= (kernel, stride, padding, dilation)
     * g=GROUPS bias, kind=ACTIVATION, rate=RATE, in=NODE[,NODE...] (numbers; 0 is the images, 1 the first layer; without it the
     * layer before). Behind them stand a flatten, a linear layer of 5 outputs and the loss. */
    const char *layers;
};

enum { CASE_CLASSES = 5 };

/* Whether the name ends in "(rough)": in bf16 the case's gradient is decided by which values lie beyond a kink, or is what
 * cancellation leaves; see against.c. */
bool case_is_rough(const struct op_case *op_case);

extern const struct op_case op_cases[];
extern const size_t op_cases_n;

/* Builds the graph of a case. Returns NULL and *err on a mistake in the table. */
struct graph *case_build(const struct op_case *op_case, struct err *err);

/* A graph to test with. */
struct subject {
    struct graph *graph;
    int batch;
    bool rough;
    bool random; /* small tensors in deep graphs as they come: see compare.c */
};

/* The case's graph with what is to know of it. Returns 0, or -1 and *err; subject_done frees. */
int case_subject(const struct op_case *op_case, struct subject *ret_subject, struct err *err);
void subject_done(struct subject *subject);

#endif
