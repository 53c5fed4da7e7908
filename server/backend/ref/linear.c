/* Linear layer: out[o] = bias[o] + sum over i of weight[o,i] * in[i]. */
#include "server/backend/ref/ref.h"

void ref_linear_forward(const struct ref_call *call) {
    int inputs = call->in_shape[0].c, outputs = call->node->out.c;
    for (int image = 0; image < call->n; image++)
        for (int o = 0; o < outputs; o++) {
            const float *in = call->in[0] + (size_t)image * (size_t)inputs;
            const float *weight = call->value[0] + (size_t)o * (size_t)inputs;
            double sum = call->node->bias ? (double)call->value[1][o] : 0.0;
            for (int i = 0; i < inputs; i++)
                sum += (double)weight[i] * (double)in[i];
            call->out[(size_t)image * (size_t)outputs + (size_t)o] = (float)sum;
        }
}

static void backward_data(const struct ref_call *call) {
    size_t inputs = (size_t)call->in_shape[0].c, outputs = (size_t)call->node->out.c;
    for (size_t image = 0; image < (size_t)call->n; image++)
        for (size_t i = 0; i < inputs; i++) {
            double sum = 0.0;
            for (size_t o = 0; o < outputs; o++)
                sum += (double)call->value[0][o * inputs + i] * (double)call->out_grad[image * outputs + o];
            float *to = &call->in_grad[0][image * inputs + i];
            *to = (float)((double)*to + sum);
        }
}

static void backward_weights(const struct ref_call *call) {
    size_t inputs = (size_t)call->in_shape[0].c, outputs = (size_t)call->node->out.c;
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < inputs; i++) {
            double sum = 0.0;
            for (size_t image = 0; image < (size_t)call->n; image++)
                sum += (double)call->out_grad[image * outputs + o] * (double)call->in[0][image * inputs + i];
            call->gradient[0][o * inputs + i] = (float)sum;
        }
}

static void backward_bias(const struct ref_call *call) {
    size_t outputs = (size_t)call->node->out.c;
    for (size_t o = 0; o < outputs; o++) {
        double sum = 0.0;
        for (size_t image = 0; image < (size_t)call->n; image++)
            sum += (double)call->out_grad[image * outputs + o];
        call->gradient[1][o] = (float)sum;
    }
}

void ref_linear_backward(const struct ref_call *call) {
    backward_weights(call);
    if (call->node->bias)
        backward_bias(call);
    if (call->in_grad[0] != NULL)
        backward_data(call);
}
