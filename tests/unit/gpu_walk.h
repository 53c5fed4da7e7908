/* Follows a GPU's step through the memory that a plan gives to its tensors, without computing anything. */
#ifndef TESTS_GPU_WALK_H
#define TESTS_GPU_WALK_H

#include "server/graph/gpu.h"

/* Fails when a unit would read a value, gradient or saved statistic that is not there any more, or never was; when it would write
 * over what it reads; or when a tensor lies outside of its region or unaligned. */
void gpu_walk(const struct graph *graph, const struct gpu_plan *plan);

#endif
