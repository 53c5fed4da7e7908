/* Softmax and cross-entropy: loss = mean over the images of the sum over the classes of target * (log(sum exp z) - z). */
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

/* What class c of an image should get: the formula of struct backend_batch. Evaluation takes neither mixup nor smoothing. */
static double target_of(const struct ref_call *call, int image, int c) {
    const struct backend_batch *batch = call->batch;
    double share = call->training && batch->shares != NULL ? (double)batch->shares[image] : 1.0;
    double smoothing = call->training ? (double)batch->smoothing : 0.0;
    double target = batch->labels[image] == c ? share : 0.0;
    if (share < 1.0 && batch->others[image] == c)
        target += 1.0 - share;
    return (1.0 - smoothing) * target + smoothing / (double)call->node->out.c;
}

/* A class without a target adds nothing, however unlikely it is. */
static double image_loss(const struct ref_call *call, int image, const float *logits) {
    double whole = log_sum_exp(logits, call->node->out.c), loss = 0.0;
    for (int c = 0; c < call->node->out.c; c++) {
        double target = target_of(call, image, c);
        loss += target > 0.0 ? target * (whole - (double)logits[c]) : 0.0;
    }
    return loss;
}

struct backend_result ref_loss_result(const struct ref_call *call) {
    struct backend_result result = {0};
    int classes = call->node->out.c;
    for (int image = 0; image < call->n; image++) {
        const float *logits = call->in[0] + (size_t)image * (size_t)classes;
        result.loss_sum += image_loss(call, image, logits);
        result.correct += largest(logits, classes) == call->batch->labels[image] ? 1 : 0;
    }
    return result;
}

/* d loss / d z = (softmax - target) / n */
void ref_loss_backward(const struct ref_call *call) {
    int classes = call->node->out.c;
    for (int image = 0; image < call->n && call->in_grad[0] != NULL; image++)
        for (int c = 0; c < classes; c++) {
            size_t at = (size_t)image * (size_t)classes + (size_t)c;
            call->in_grad[0][at] += (float)(((double)call->out[at] - target_of(call, image, c)) / (double)call->n);
        }
}
