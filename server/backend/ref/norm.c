/* Batch normalization (Ioffe and Szegedy 2015): out = gamma * (in - mean) / sqrt(var + epsilon) + beta per channel; mean and
 * (biased) variance are those of the batch in training, the running ones in evaluation. */
#include <math.h>

#include "server/backend/ref/ref.h"

struct moments {
    double mean, var; /* biased */
    double count;     /* values in the channel: n*H*W */
};

static size_t pixels(const struct ref_call *call) {
    return (size_t)call->node->out.h * (size_t)call->node->out.w;
}

/* Where channel c of an image starts. */
static size_t channel(const struct ref_call *call, int image, int c) {
    return ((size_t)image * (size_t)call->node->out.c + (size_t)c) * pixels(call);
}

/* The sum over a channel of (in - shift)^power. */
static double sum_power(const struct ref_call *call, int c, double shift, int power) {
    double sum = 0.0;
    for (int image = 0; image < call->n; image++) {
        const float *in = call->in[0] + channel(call, image, c);
        for (size_t k = 0; k < pixels(call); k++) {
            double d = (double)in[k] - shift;
            sum += power == 1 ? d : d * d;
        }
    }
    return sum;
}

static struct moments batch_moments(const struct ref_call *call, int c) {
    struct moments m = {.count = (double)call->n * (double)pixels(call)};
    m.mean = sum_power(call, c, 0.0, 1) / m.count;
    m.var = sum_power(call, c, m.mean, 2) / m.count;
    return m;
}

static void move_running(const struct ref_call *call, int c, struct moments m) {
    double momentum = call->node->momentum, unbiased = m.count > 1.0 ? m.var * m.count / (m.count - 1.0) : m.var;
    float *mean = &call->value[2][c], *var = &call->value[3][c];
    *mean = (float)((1.0 - momentum) * (double)*mean + momentum * m.mean);
    *var = (float)((1.0 - momentum) * (double)*var + momentum * unbiased);
}

void ref_norm_forward(const struct ref_call *call) {
    for (int c = 0; c < call->node->out.c; c++) {
        struct moments m = {.mean = (double)call->value[2][c], .var = (double)call->value[3][c]};
        if (call->training) {
            m = batch_moments(call, c);
            move_running(call, c, m);
        }
        double scale = (double)call->value[0][c] / sqrt(m.var + call->node->epsilon), shift = (double)call->value[1][c];
        for (int image = 0; image < call->n; image++) {
            size_t at = channel(call, image, c);
            for (size_t k = 0; k < pixels(call); k++)
                call->out[at + k] = (float)(((double)call->in[0][at + k] - m.mean) * scale + shift);
        }
    }
}

/* With x' = (in - mean) / sd: d beta = sum g, d gamma = sum g x', d in = gamma / sd * (g - mean(g) - x' mean(g x')). */
static void backward_channel(const struct ref_call *call, int c) {
    struct moments m = batch_moments(call, c);
    double inverse = 1.0 / sqrt(m.var + call->node->epsilon), sum_g = 0.0, sum_gx = 0.0;
    for (int image = 0; image < call->n; image++) {
        size_t at = channel(call, image, c);
        for (size_t k = 0; k < pixels(call); k++) {
            double g = (double)call->out_grad[at + k];
            sum_g += g;
            sum_gx += g * ((double)call->in[0][at + k] - m.mean) * inverse;
        }
    }
    call->gradient[0][c] = (float)sum_gx;
    call->gradient[1][c] = (float)sum_g;
    double scale = (double)call->value[0][c] * inverse;
    for (int image = 0; image < call->n && call->in_grad[0] != NULL; image++) {
        size_t at = channel(call, image, c);
        for (size_t k = 0; k < pixels(call); k++) {
            double x = ((double)call->in[0][at + k] - m.mean) * inverse, g = (double)call->out_grad[at + k];
            float *to = &call->in_grad[0][at + k];
            *to = (float)((double)*to + scale * (g - sum_g / m.count - x * sum_gx / m.count));
        }
    }
}

void ref_norm_backward(const struct ref_call *call) {
    for (int c = 0; c < call->node->out.c; c++)
        backward_channel(call, c);
}
