/* Random graphs: small, valid, and the same in every run. */
#ifndef TESTS_OPS_RANDOM_H
#define TESTS_OPS_RANDOM_H

#include "tests/ops/cases.h"

enum { RANDOM_GRAPHS = 200 };

/* Graph number 0 to RANDOM_GRAPHS - 1, its batch, and whether it is rough (see cases.h): odd ones have no relu, leaky_relu or
 * max_pool and are not. Blocks are plain layers, residual blocks and parallel branches joined by concat, with kernels, strides,
 * paddings, dilations and groups as they come. Its last layer is a biased linear one. Returns 0, or -1 and *err on a mistake in
 * the generator; subject_done frees. */
int random_build(int number, struct subject *ret_subject, struct err *err);

#endif
