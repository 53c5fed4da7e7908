/* The modes of the op tests: what is done with each case. */
#ifndef TESTS_OPS_CHECKS_H
#define TESTS_OPS_CHECKS_H

#include "tests/ops/cases.h"
#include "tests/ops/rig.h"

/* --- values.c: the same made-up numbers for every module --- */

void values_fill_batch(const struct graph *graph, struct batch *batch);

/* What can be set of a parameter, param->count floats. */
void values_fill(const struct graph *graph, enum backend_tensor kind, int param, float *values);

/* Sets all values and states of the optimizer of a plan. */
void values_set(struct rig *rig);

/* --- fd.c: a module's gradients against central finite differences of its own loss --- */

void check_differences(const struct residuum_backend *module, const struct op_case *op_case, struct report *report);

/* --- against.c: a module against the reference, in everything that the door shows --- */

void check_against(const struct residuum_backend *ref, const struct residuum_backend *module, enum spec_precision precision,
                   const struct subject *subject, struct report *report);

/* --- training.c: a module against the reference over several steps with each optimizer and each option of a step --- */

struct training_case {
    const char *name;
    struct backend_optimizer optimizer;
    bool average, mixup;
    float smoothing;
};

extern const struct training_case training_cases[];
extern const size_t training_cases_n;

void check_training(const struct residuum_backend *ref, const struct residuum_backend *module, enum spec_precision precision,
                    const struct training_case *training_case, struct report *report);

#endif
