/* Comparing a module with the reference after a step of both: outputs, gradients, states of the optimizer, statistics. */
#ifndef TESTS_OPS_COMPARE_H
#define TESTS_OPS_COMPARE_H

#include "tests/ops/cases.h"
#include "tests/ops/rig.h"

/* What may differ: compare.c tells where the numbers come from. */
struct tolerance {
    double activation_rms, activation_peak, gradient_rms, gradient_peak, loss;
};

/* A module beside the reference, with the same graph, batch and optimizer. */
struct pair {
    struct rig ref, module;
    const struct tolerance *tolerance;
    struct batch batch;
    struct report *report;
    struct backend_optimizer optimizer;
};

/* Opens both with the options; the reference in f32. The batch is filled. Returns 0, or -1 and a finding. */
int pair_init(struct pair *pair, const struct residuum_backend *ref, const struct residuum_backend *module,
              const struct subject *subject, const struct backend_plan_options *options, struct report *report);
void pair_done(struct pair *pair);

/* Gives both plans the same values and states of the optimizer. */
void pair_set(struct pair *pair);

/* One training step of both on the first n images; compares their losses. */
void pair_train(struct pair *pair, const char *when, int n);

/* Notes when a tensor is further from the expected one than the bounds allow. */
void compare(struct pair *pair, const char *what, const char *name, const float *expected, const float *got, size_t count,
             double rms, double peak);

/* The outputs of all nodes for the first n images of the last step. */
void compare_activations(struct pair *pair, const char *when, int n);

/* All tensors of all parameters, and the statistics. Values, momentums, squares and averages are compared as their change from
 * what pair_set gave, which is what the steps did. */
void compare_params(struct pair *pair);

void compare_results(struct pair *pair, const char *when, int n, struct backend_result expected, struct backend_result got);

#endif
