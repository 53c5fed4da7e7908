/* The update of all parameters behind a training step: gradient clipping, the optimizer, the average, and what they did. The
 * formulas are those of struct backend_optimizer; each value is computed in double and rounded once where it is stored. */
#include <math.h>

#include "server/backend/ref/ref.h"

/* What an optimizer remembers of one value. */
struct state {
    double momentum, square;
};

/* The norm of the gradients of all parameters together. */
static double gradient_norm(const struct backend_plan *plan) {
    double sum = 0.0;
    for (int i = 0; i < plan->params_n; i++)
        for (size_t k = 0; plan->gradient[i] != NULL && k < plan->params[i].count; k++)
            sum += (double)plan->gradient[i][k] * (double)plan->gradient[i][k];
    return sqrt(sum);
}

/* What gradients are multiplied by; NaN when one of them is, so that the loss shows it. */
static double clip_factor(const struct backend_plan *plan, const struct backend_optimizer *optimizer) {
    if (!(optimizer->clip_norm > 0.0f))
        return 1.0;
    double factor = (double)optimizer->clip_norm / (gradient_norm(plan) + 1e-6);
    return factor > 1.0 ? 1.0 : factor;
}

static double decay_of(const struct graph_param *param, const struct backend_optimizer *optimizer) {
    bool decays = param->decay && (param->role == ROLE_WEIGHT || !optimizer->decay_weights_only);
    return decays ? (double)optimizer->weight_decay : 0.0;
}

static double sgd(const struct backend_optimizer *optimizer, struct state *state, double w, double g) {
    double momentum = (double)optimizer->momentum;
    state->momentum = momentum * state->momentum + g;
    return w - (double)optimizer->lr * (optimizer->nesterov ? g + momentum * state->momentum : state->momentum);
}

/* Kingma and Ba 2015 */
static double adam(const struct backend_optimizer *optimizer, struct state *state, double w, double g) {
    double beta1 = (double)optimizer->beta1, beta2 = (double)optimizer->beta2, step = (double)optimizer->step;
    state->momentum = beta1 * state->momentum + (1.0 - beta1) * g;
    state->square = beta2 * state->square + (1.0 - beta2) * g * g;
    double mean = state->momentum / (1.0 - pow(beta1, step)), square = state->square / (1.0 - pow(beta2, step));
    return w - (double)optimizer->lr * mean / (sqrt(square) + (double)optimizer->epsilon);
}

/* Tieleman and Hinton 2012, with PyTorch's momentum */
static double rmsprop(const struct backend_optimizer *optimizer, struct state *state, double w, double g) {
    double alpha = (double)optimizer->alpha;
    state->square = alpha * state->square + (1.0 - alpha) * g * g;
    state->momentum = (double)optimizer->momentum * state->momentum + g / (sqrt(state->square) + (double)optimizer->epsilon);
    return w - (double)optimizer->lr * state->momentum;
}

/* The new value of w with gradient g, clipped. */
static double move(const struct backend_optimizer *optimizer, double decay, struct state *state, double w, double g) {
    switch (optimizer->kind) {
    case OPTIMIZER_SGD:
        return sgd(optimizer, state, w, g + decay * w);
    case OPTIMIZER_ADAM:
        return adam(optimizer, state, w, g + decay * w);
    case OPTIMIZER_ADAMW: /* Loshchilov and Hutter 2019: the decay is not part of the gradient */
        return adam(optimizer, state, w - (double)optimizer->lr * decay * w, g);
    case OPTIMIZER_RMSPROP:
        return rmsprop(optimizer, state, w, g + decay * w);
    }
    return w;
}

static void update_param(struct backend_plan *plan, int i, const struct backend_optimizer *optimizer, double clip) {
    double decay = decay_of(&plan->params[i], optimizer), gradients = 0.0, weights = 0.0, updates = 0.0;
    float *w = plan->value[i], *momentum = plan->momentum[i], *square = plan->square[i];
    for (size_t k = 0; k < plan->params[i].count; k++) {
        struct state state = {(double)momentum[k], square != NULL ? (double)square[k] : 0.0};
        double g = (double)plan->gradient[i][k], old = (double)w[k];
        w[k] = (float)move(optimizer, decay, &state, old, clip * g);
        momentum[k] = (float)state.momentum;
        if (square != NULL)
            square[k] = (float)state.square;
        gradients += g * g;
        weights += old * old;
        updates += ((double)w[k] - old) * ((double)w[k] - old);
    }
    plan->statistics[i] = (struct backend_statistics){sqrt(gradients), sqrt(weights), sqrt(updates)};
}

static void average_param(struct backend_plan *plan, int i, double decay) {
    float *average = plan->average[i];
    for (size_t k = 0; k < plan->params[i].count; k++)
        average[k] = (float)(decay * (double)average[k] + (1.0 - decay) * (double)plan->value[i][k]);
}

void ref_update(struct backend_plan *plan, const struct backend_optimizer *optimizer) {
    double clip = clip_factor(plan, optimizer);
    for (int i = 0; i < plan->params_n; i++) {
        if (plan->params[i].trainable)
            update_param(plan, i, optimizer, clip);
        if (plan->average[i] != NULL)
            average_param(plan, i, (double)optimizer->average_decay);
    }
}

bool ref_needs_square(enum spec_optimizer kind) {
    return kind != OPTIMIZER_SGD;
}
