/* Activations and their derivatives, with the constants that PyTorch takes by default. */
#include <math.h>

#include "server/backend/ref/ref.h"

static const double leaky_slope = 0.01, elu_alpha = 1.0;

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/* The distribution function of the standard normal distribution. */
static double normal_cdf(double x) {
    return 0.5 * (1.0 + erf(x * 0.70710678118654752440));
}

static double normal_density(double x) {
    return 0.39894228040143267794 * exp(-0.5 * x * x);
}

static double value(enum spec_activation kind, double x) {
    switch (kind) {
    case ACTIVATION_RELU:
        return x < 0.0 ? 0.0 : x; /* so that NaN stays NaN */
    case ACTIVATION_LEAKY_RELU:
        return x > 0.0 ? x : leaky_slope * x;
    case ACTIVATION_ELU: /* Clevert et al. 2015 */
        return x > 0.0 ? x : elu_alpha * expm1(x);
    case ACTIVATION_GELU: /* Hendrycks and Gimpel 2016, exact form */
        return x * normal_cdf(x);
    case ACTIVATION_SILU: /* Elfwing et al. 2017 */
        return x * sigmoid(x);
    case ACTIVATION_SIGMOID:
        return sigmoid(x);
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_IDENTITY:
        return x;
    }
    return x;
}

static double derivative(enum spec_activation kind, double x) {
    double s;
    switch (kind) {
    case ACTIVATION_RELU:
        return x > 0.0 ? 1.0 : 0.0;
    case ACTIVATION_LEAKY_RELU:
        return x > 0.0 ? 1.0 : leaky_slope;
    case ACTIVATION_ELU:
        return x > 0.0 ? 1.0 : elu_alpha * exp(x);
    case ACTIVATION_GELU:
        return normal_cdf(x) + x * normal_density(x);
    case ACTIVATION_SILU:
        s = sigmoid(x);
        return s * (1.0 + x * (1.0 - s));
    case ACTIVATION_SIGMOID:
        s = sigmoid(x);
        return s * (1.0 - s);
    case ACTIVATION_TANH:
        return 1.0 - tanh(x) * tanh(x);
    case ACTIVATION_IDENTITY:
        return 1.0;
    }
    return 1.0;
}

void ref_act_forward(const struct ref_call *call) {
    size_t count = (size_t)call->n * ref_count(call->node->out);
    for (size_t k = 0; k < count; k++)
        call->out[k] = (float)value(call->node->activation, (double)call->in[0][k]);
}

void ref_act_backward(const struct ref_call *call) {
    size_t count = (size_t)call->n * ref_count(call->node->out);
    for (size_t k = 0; k < count && call->in_grad[0] != NULL; k++)
        call->in_grad[0][k] += (float)((double)call->out_grad[k] * derivative(call->node->activation, (double)call->in[0][k]));
}
