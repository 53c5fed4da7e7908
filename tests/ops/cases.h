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

#endif
