/* Gradients against central finite differences, (loss(w + h) - loss(w - h)) / 2h, of single weights. */
#include <math.h>

#include "tests/ops/checks.h"

/* A step across the kink of a relu or to another maximum of a pool makes a difference that is no derivative; a smaller step then
 * is not across it, but feels the rounding of f32 activations more: about 1e-7 / h. A value is right when any step agrees. */
static const double steps[] = {1e-2, 3e-3, 1e-3};
static const double tolerance_relative = 2e-3; /* of the tensor's largest gradient: truncation, h^2 times the third derivative */
static const double tolerance_rounding = 3e-7; /* divided by h */
enum { RELU_OUTPUTS_MAX = 500, SAMPLES = 24 }; /* SAMPLES: weights tried per tensor */

static const struct backend_optimizer still = {.lr = 0.0f};

static double loss_with(struct rig *rig, const struct batch *batch, int param, float *values, size_t at, double h) {
    float kept = values[at];
    values[at] = (float)((double)kept + h);
    rig_set(rig, TENSOR_VALUE, param, values);
    values[at] = kept;
    return rig_train(rig, batch, batch->n, &still).loss_sum / batch->n;
}

/* Whether a finite difference agrees with gradient; the last one is left in *ret_difference. */
static bool agrees(struct rig *rig, const struct batch *batch, int param, float *values, size_t at, double gradient,
                   double largest, double *ret_difference) {
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        double h = steps[i];
        double up = loss_with(rig, batch, param, values, at, h), down = loss_with(rig, batch, param, values, at, -h);
        *ret_difference = (up - down) / ((double)(float)((double)values[at] + h) - (double)(float)((double)values[at] - h));
        if (fabs(*ret_difference - gradient) <= tolerance_relative * largest + tolerance_rounding / h)
            return true;
    }
    return false;
}

static double largest_of(const float *values, size_t n) {
    double largest = 0.0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)values[i]));
    return largest;
}

static void check_param(struct rig *rig, const struct batch *batch, int param) {
    const struct graph_param *row = &rig->graph->params[param];
    rig_train(rig, batch, batch->n, &still);
    struct buffer gradients = rig_get(rig, TENSOR_GRADIENT, param), values = rig_get(rig, TENSOR_VALUE, param);
    const float *gradient = buffer_floats(&gradients);
    double largest = largest_of(gradient, row->count), difference = 0.0;
    size_t stride = row->count / SAMPLES + 1;
    for (size_t i = 0; i < row->count; i += stride)
        if (!agrees(rig, batch, param, buffer_floats(&values), i, (double)gradient[i], largest, &difference))
            report_add(rig->report, "gradient of %s[%zu] is %g; the loss differs by %g", row->name, i, (double)gradient[i],
                       difference);
    rig_set(rig, TENSOR_VALUE, param, buffer_floats(&values));
    buffer_free(&gradients);
    buffer_free(&values);
}

/* Where a batch has thousands of relu outputs, some are always within a step of their kink: such graphs are tried with elu, which
 * has none. The derivative of relu itself is checked by the smaller cases, their joints by these. */
static void smooth(struct graph *graph, int batch) {
    int64_t outputs = 0;
    for (int i = 0; i < graph->nodes_n; i++)
        if (graph->nodes[i].op == OP_ACT && graph->nodes[i].activation == ACTIVATION_RELU)
            outputs += graph->nodes[i].activation_bytes / (int64_t)sizeof(float) * batch;
    for (int i = 0; i < graph->nodes_n && outputs > RELU_OUTPUTS_MAX; i++)
        if (graph->nodes[i].op == OP_ACT && graph->nodes[i].activation == ACTIVATION_RELU)
            graph->nodes[i].activation = ACTIVATION_ELU;
}

void check_differences(const struct residuum_backend *module, const struct op_case *op_case, struct report *report) {
    struct err err = {0};
    struct graph *graph = case_build(op_case, &err);
    if (graph == NULL) {
        report_add(report, "%s", err.text);
        return;
    }
    smooth(graph, op_case->batch);
    struct rig rig = {0};
    struct batch batch = batch_new(graph, op_case->batch);
    values_fill_batch(graph, &batch);
    struct backend_plan_options options = {.batch = op_case->batch, .precision = PRECISION_F32};
    if (rig_init(&rig, module, graph, &options, report) == 0) {
        values_set(&rig);
        for (int i = 0; i < graph->params_n; i++)
            if (graph->params[i].trainable)
                check_param(&rig, &batch, i);
    }
    rig_done(&rig);
    batch_free(&batch);
    graph_free(graph);
}
