/* Weights, images and labels of the golden tests, made by a formula that golden.py has as well. */
#ifndef TESTS_GOLDEN_FORMULA_H
#define TESTS_GOLDEN_FORMULA_H

#include "tests/ops/rig.h"

/* The seed of a name's own numbers. */
uint32_t formula_name_seed(const char *name);

/* n numbers in [-scale/2, scale/2), computed in f32. */
void formula_centred(uint32_t seed, float scale, float *values, size_t n);

/* What a parameter starts with. */
void formula_initial(const struct graph_param *param, float *values);

/* The batch of a step: images, labels, and what mixup needs. */
void formula_batch(struct batch *batch, int step, int classes);

/* Gives all parameters of a plan what they start with. */
void formula_set(struct rig *rig);

#endif
