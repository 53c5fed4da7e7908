/* Softmax and cross-entropy: loss = mean over the images of log(sum exp z) - z[label]. */
#include <math.h>

#include "server/backend/ref/ref.h"

static int largest(const float *logits, int classes) {
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (logits[c] > logits[best])
            best = c;
    return best;
}

/* log of the sum of exp z; the largest logit is taken out first so that nothing overflows. */
static double log_sum_exp(const float *logits, int classes) {
    double top = (double)logits[largest(logits, classes)], sum = 0.0;
    for (int c = 0; c < classes; c++)
        sum += exp((double)logits[c] - top);
    return top + log(sum);
}

void ref_loss_forward(const struct ref_call *call) {
    int classes = call->node->out.c;
    for (int image = 0; image < call->n; image++) {
        const float *logits = call->in[0] + (size_t)image * (size_t)classes;
        float *out = call->out + (size_t)image * (size_t)classes;
        double whole = log_sum_exp(logits, classes);
        for (int c = 0; c < classes; c++)
            out[c] = (float)exp((double)logits[c] - whole);
    }
}

struct backend_result ref_loss_result(const struct ref_call *call) {
    struct backend_result result = {0};
    int classes = call->node->out.c;
    for (int image = 0; image < call->n; image++) {
        const float *logits = call->in[0] + (size_t)image * (size_t)classes;
        int label = call->batch->labels[image];
        result.loss_sum += log_sum_exp(logits, classes) - (double)logits[label];
        result.correct += largest(logits, classes) == label ? 1 : 0;
    }
    return result;
}

/* d loss / d z = (softmax - one-hot label) / n */
void ref_loss_backward(const struct ref_call *call) {
    int classes = call->node->out.c;
    for (int image = 0; image < call->n && call->in_grad[0] != NULL; image++)
        for (int c = 0; c < classes; c++) {
            size_t at = (size_t)image * (size_t)classes + (size_t)c;
            double target = call->batch->labels[image] == c ? 1.0 : 0.0;
            call->in_grad[0][at] += (float)(((double)call->out[at] - target) / (double)call->n);
        }
}
