/* The head of a network: linear layers by oneDNN's matrix product in f32, softmax and cross-entropy in double. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "server/backend/onednn/private.h"

void linear_need(struct backend_plan *plan, const struct unit *unit) {
    const struct value *sides[2] = {&plan->values[unit->inputs[0]], &plan->values[unit->out]};
    for (int i = 0; i < 2; i++) {
        size_t size = (size_t)plan->options.batch * sides[i]->image;
        if (plan->wide_size[i] < size)
            plan->wide_size[i] = size;
    }
}

/* The f32 rows of a tensor: itself, or its copy in buffer. */
static float *widen(const struct backend_plan *plan, void *data, const struct value *value, int n, float *buffer) {
    if (!value->bf16)
        return data;
    plan->backend->kernels->load(buffer, data, (size_t)n * value->image, true);
    return buffer;
}

/* C[m,n] = op(A) op(B), all row-major. */
static int multiply(char trans_a, char trans_b, size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                    size_t ldb, float *c, size_t ldc, struct err *err) {
    dnnl_status_t status = dnnl_sgemm(trans_a, trans_b, (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, 1.0f, a, (dnnl_dim_t)lda, b,
                                      (dnnl_dim_t)ldb, 0.0f, c, (dnnl_dim_t)ldc);
    return compat_check(status, "multiply the matrices of a linear layer", err);
}

/* x [n,I], weight [O,I], y [n,O]; rows of x and y are padded to whole blocks with zeros. */
int linear_forward(struct backend_plan *plan, const struct unit *unit, int n, struct err *err) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    const float *weight = params_value(plan, unit->node, ROLE_WEIGHT), *bias = params_value(plan, unit->node, ROLE_BIAS);
    size_t inputs = (size_t)in->c, outputs = (size_t)out->c;
    const float *x = widen(plan, plan_value(plan, unit->inputs[0]), in, n, plan->wide[0]);
    float *y = out->bf16 ? plan->wide[1] : plan_value(plan, unit->out);
    if (multiply('N', 'T', (size_t)n, outputs, inputs, x, in->image, weight, inputs, y, out->image, err) != 0)
        return -1;
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t o = 0; o < out->image; o++)
            y[i * out->image + o] = o >= outputs ? 0.0f : y[i * out->image + o] + (bias ? bias[o] : 0.0f);
    if (out->bf16)
        plan->backend->kernels->store(plan_value(plan, unit->out), y, (size_t)n * out->image, true);
    return 0;
}

static void bias_backward(float *gradient, const float *g, const struct value *out, int n) {
    for (size_t o = 0; o < (size_t)out->c; o++) {
        double sum = 0.0;
        for (size_t i = 0; i < (size_t)n; i++)
            sum += (double)g[i * out->image + o];
        gradient[o] = (float)sum;
    }
}

static int input_backward(struct backend_plan *plan, const struct unit *unit, int n, const float *g, struct err *err) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    size_t inputs = (size_t)in->c;
    void *to = plan_data(plan, unit->input_grads[0]);
    float *dx = in->bf16 ? plan->wide[0] : to;
    if (multiply('N', 'N', (size_t)n, inputs, (size_t)out->c, g, out->image, params_value(plan, unit->node, ROLE_WEIGHT), inputs,
                 dx, in->image, err) != 0)
        return -1;
    for (size_t i = 0; i < (size_t)n; i++)
        memset(dx + i * in->image + inputs, 0, (in->image - inputs) * sizeof *dx);
    if (in->bf16)
        plan->backend->kernels->store(to, dx, (size_t)n * in->image, true);
    return 0;
}

int linear_backward(struct backend_plan *plan, const struct unit *unit, int n, struct err *err) {
    const struct value *in = &plan->values[unit->inputs[0]], *out = &plan->values[unit->out];
    const float *g = widen(plan, plan_data(plan, unit->grads[0]), out, n, plan->wide[1]);
    const float *x = widen(plan, plan_value(plan, unit->inputs[0]), in, n, plan->wide[0]);
    float *bias = params_gradient(plan, unit->node, ROLE_BIAS);
    if (multiply('T', 'N', (size_t)out->c, (size_t)in->c, (size_t)n, g, out->image, x, in->image,
                 params_gradient(plan, unit->node, ROLE_WEIGHT), (size_t)in->c, err) != 0)
        return -1;
    if (bias)
        bias_backward(bias, g, out, n);
    return unit->input_grads[0] == NO_BUFFER ? 0 : input_backward(plan, unit, n, g, err);
}

static int largest(const float *logits, int classes) {
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (logits[c] > logits[best])
            best = c;
    return best;
}

/* The logits of an image in f32; they take the place of its probabilities until those are known. */
static float *logits_of(const struct backend_plan *plan, const struct unit *unit, int image) {
    const struct value *in = &plan->values[unit->inputs[0]];
    const void *from = element_of(plan_value(plan, unit->inputs[0]), (size_t)image * in->image, in->bf16);
    float *to = plan->probabilities + (size_t)image * in->image;
    plan->backend->kernels->load(to, from, in->image, in->bf16);
    return to;
}

/* What class c of an image should get: struct backend_batch has the formula. Evaluation knows the label only. */
static double target_of(const struct backend_plan *plan, const struct backend_batch *batch, int image, int c, bool training) {
    bool mixed = training && batch->shares;
    double smoothing = training ? (double)batch->smoothing : 0.0, share = mixed ? (double)batch->shares[image] : 1.0;
    double target = batch->labels[image] == c ? share : 0.0;
    if (mixed && batch->others[image] == c)
        target += 1.0 - share;
    return (1.0 - smoothing) * target + smoothing / (double)plan->classes;
}

/* Turns the logits z of an image into probabilities; returns its loss. */
static double image_loss(const struct backend_plan *plan, const struct backend_batch *batch, int image, bool training, int best,
                         float *z) {
    double top = (double)z[best], sum = 0.0, loss = 0.0; /* the largest logit is taken out so that nothing overflows */
    for (int c = 0; c < plan->classes; c++)
        sum += exp((double)z[c] - top);
    double whole = top + log(sum);
    for (int c = 0; c < plan->classes; c++) {
        double target = target_of(plan, batch, image, c, training);
        if (target > 0.0)
            loss += target * (whole - (double)z[c]);
        z[c] = (float)exp((double)z[c] - whole);
    }
    return loss;
}

/* Losses are added up in the order of the images, whatever thread made them. */
void loss_forward(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch, bool training,
                  struct backend_result *ret_result) {
    int correct = 0;
#pragma omp parallel for schedule(static) reduction(+ : correct)
    for (int image = 0; image < batch->n; image++) {
        float *z = logits_of(plan, unit, image);
        int best = largest(z, plan->classes);
        correct += best == batch->labels[image];
        plan->losses[image] = image_loss(plan, batch, image, training, best, z);
    }
    *ret_result = (struct backend_result){.correct = correct};
    for (int image = 0; image < batch->n; image++)
        ret_result->loss_sum += plan->losses[image];
}

/* d loss / d z = (softmax - target) / n; lanes behind the last class stay zero. */
void loss_backward(struct backend_plan *plan, const struct unit *unit, const struct backend_batch *batch) {
    const struct value *in = &plan->values[unit->inputs[0]];
    void *to = plan_data(plan, unit->input_grads[0]);
    if (!to)
        return;
#pragma omp parallel for schedule(static)
    for (int image = 0; image < batch->n; image++) {
        float *row = plan->probabilities + (size_t)image * in->image;
        float *g = plan->rows + 3 * (size_t)omp_get_thread_num() * plan->row_size;
        memset(g, 0, in->image * sizeof *g);
        for (int c = 0; c < plan->classes; c++)
            g[c] = (float)(((double)row[c] - target_of(plan, batch, image, c, true)) / (double)batch->n);
        plan->backend->kernels->store(element(to, (size_t)image * in->image, in->bf16), g, in->image, in->bf16);
    }
}
