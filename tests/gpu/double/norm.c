/* Graphs of batch norm by plain loops, in double: norms forward and backward, and element by element what is fused with them. */
#include <math.h>
#include <stdlib.h>

#include "tests/gpu/double/double.h"

enum { INNER_MAX = 4, WORD = 8 };

/* A run of a graph: the tensors between its operations. */
struct run {
    const struct op *op;
    struct {
        int64_t uid;
        double *values;
    } inner[INNER_MAX];
    int inner_n;
};

/* --- tensors --- */

/* A bit an element, in memory order. (In which order cuDNN lays them, only cuDNN knows.) */
static double *unpack_mask(const struct tensor *tensor, const unsigned char *from) {
    int64_t count = tensor_count(tensor);
    double *values = must_allocate((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = from[i / WORD] >> (i % WORD) & 1;
    return values;
}

static void pack_mask(const struct tensor *tensor, const double *values, unsigned char *to) {
    for (int64_t i = 0, count = tensor_count(tensor); i < count; i++) {
        unsigned char bit = (unsigned char)(1u << (i % WORD));
        to[i / WORD] = (unsigned char)(values[i] != 0 ? to[i / WORD] | bit : to[i / WORD] & ~bit);
    }
}

static double *copy_inner(const struct run *run, const struct tensor *tensor) {
    int64_t count = tensor_count(tensor);
    double *values = must_allocate((size_t)count * sizeof *values);
    for (int i = 0; i < run->inner_n; i++)
        if (run->inner[i].uid == tensor->uid) {
            for (int64_t k = 0; k < count; k++)
                values[k] = run->inner[i].values[k];
            return values;
        }
    violation("%s: tensor %lld is read before an operation made it", run->op->name, (long long)tensor->uid);
}

static double *take(const struct run *run, const struct descriptor *operation, cudnnBackendAttributeName_t name,
                    struct tensor *ret_tensor) {
    struct tensor tensor = tensor_of(descriptor_child(operation, name, 0));
    *ret_tensor = tensor;
    if (tensor.is_virtual)
        return copy_inner(run, &tensor);
    if (tensor.by_value) {
        double *value = must_allocate(sizeof *value);
        *value = execute_value(run->op, tensor.uid);
        return value;
    }
    const void *from = execute_pointer(run->op, tensor.uid);
    return tensor.type == CUDNN_DATA_BOOLEAN ? unpack_mask(&tensor, from) : tensor_gather(&tensor, from, false);
}

/* Takes the values. */
static void give(struct run *run, const struct descriptor *operation, cudnnBackendAttributeName_t name, double *values) {
    struct tensor tensor = tensor_of(descriptor_child(operation, name, 0));
    if (tensor.is_virtual) {
        if (run->inner_n == INNER_MAX)
            violation("%s: more than %d tensors between operations", run->op->name, INNER_MAX);
        run->inner[run->inner_n].uid = tensor.uid;
        run->inner[run->inner_n++].values = values;
        return;
    }
    void *to = execute_pointer(run->op, tensor.uid);
    if (tensor.type == CUDNN_DATA_BOOLEAN)
        pack_mask(&tensor, values, to);
    else
        tensor_scatter(&tensor, values, to);
    free(values);
}

/* --- norms: x is [rows, c] --- */

struct norm {
    int64_t rows, c;
    double *x, *gamma, *mean, *inverse;
};

static struct norm begin(const struct tensor *tensor, double *x, double *gamma) {
    struct norm norm = {.c = tensor->dims[1], .x = x, .gamma = gamma};
    norm.rows = tensor_count(tensor) / norm.c;
    return norm;
}

static void moments(const struct norm *norm, int64_t c, double *ret_mean, double *ret_var) {
    double mean = 0, var = 0, rows = (double)norm->rows;
    for (int64_t row = 0; row < norm->rows; row++)
        mean += norm->x[row * norm->c + c] / rows;
    for (int64_t row = 0; row < norm->rows; row++)
        var += pow(norm->x[row * norm->c + c] - mean, 2) / rows;
    *ret_mean = mean;
    *ret_var = var;
}

/* Reads a running statistic, and gives it back moved. */
static void move_running(struct run *run, const struct descriptor *operation, cudnnBackendAttributeName_t in,
                         cudnnBackendAttributeName_t out, const double *batch, double factor, int64_t channels) {
    struct tensor tensor;
    double *running = take(run, operation, in, &tensor);
    for (int64_t c = 0; c < channels; c++)
        running[c] = (1 - factor) * running[c] + factor * batch[c];
    give(run, operation, out, running);
}

static double scalar(const struct run *run, const struct descriptor *operation, cudnnBackendAttributeName_t name) {
    struct tensor tensor;
    double *value = take(run, operation, name, &tensor), result = *value;
    free(value);
    return result;
}

static void norm_forward(struct run *run, const struct descriptor *operation) {
    struct tensor tensor, other;
    double *x = take(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, &tensor);
    struct norm norm = begin(&tensor, x, take(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, &other));
    double *beta = take(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, &other);
    double epsilon = scalar(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC);
    double factor = scalar(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC);
    size_t bytes = (size_t)norm.c * sizeof(double);
    double *mean = must_allocate(bytes), *inverse = must_allocate(bytes), *unbiased = must_allocate(bytes);
    for (int64_t c = 0; c < norm.c; c++) {
        double var;
        moments(&norm, c, &mean[c], &var);
        inverse[c] = 1 / sqrt(var + epsilon);
        unbiased[c] = norm.rows > 1 ? var * (double)norm.rows / (double)(norm.rows - 1) : var;
        for (int64_t row = 0; row < norm.rows; row++) {
            double *value = &x[row * norm.c + c];
            *value = norm.gamma[c] * (*value - mean[c]) * inverse[c] + beta[c];
        }
    }
    move_running(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC,
                 CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, mean, factor, norm.c);
    move_running(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC,
                 CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, unbiased, factor, norm.c);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, mean);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, inverse);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, x);
    free(unbiased);
    free(norm.gamma);
    free(beta);
}

/* dbeta = sum dy, dgamma = sum dy x', dx = gamma inverse (dy - mean(dy) - x' mean(dy x')); x becomes dx. */
static void back_channel(const struct norm *norm, const double *dy, int64_t c, double *ret_dgamma, double *ret_dbeta) {
    double sum = 0, product = 0, rows = (double)norm->rows;
    for (int64_t at = c; at < norm->rows * norm->c; at += norm->c) {
        norm->x[at] = (norm->x[at] - norm->mean[c]) * norm->inverse[c];
        sum += dy[at];
        product += dy[at] * norm->x[at];
    }
    for (int64_t at = c; at < norm->rows * norm->c; at += norm->c)
        norm->x[at] = norm->gamma[c] * norm->inverse[c] * (dy[at] - sum / rows - norm->x[at] * product / rows);
    *ret_dgamma = product;
    *ret_dbeta = sum;
}

static void norm_back(struct run *run, const struct descriptor *operation) {
    struct tensor tensor, other;
    double *x = take(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, &tensor);
    struct norm norm = begin(&tensor, x, take(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, &other));
    norm.mean = take(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, &other);
    norm.inverse = take(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, &other);
    double *dy = take(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, &other);
    double *dgamma = must_allocate((size_t)norm.c * sizeof(double)), *dbeta = must_allocate((size_t)norm.c * sizeof(double));
    for (int64_t c = 0; c < norm.c; c++)
        back_channel(&norm, dy, c, &dgamma[c], &dbeta[c]);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, dgamma);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, dbeta);
    give(run, operation, CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, x);
    free(norm.gamma);
    free(norm.mean);
    free(norm.inverse);
    free(dy);
}

/* --- element by element --- */

static double combine(int64_t mode, double x, double b) {
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_MUL:
        return x * b;
    case CUDNN_POINTWISE_CMP_GT:
        return x > b;
    case CUDNN_POINTWISE_RELU_FWD:
        return x < 0 ? 0 : x;
    }
    violation("the double does not compute cuDNN's pointwise mode %lld", (long long)mode);
}

static void pointwise(struct run *run, const struct descriptor *operation) {
    struct tensor tensor, other = {0};
    const struct descriptor *function = descriptor_child(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 0);
    int64_t mode = descriptor_integer(function, CUDNN_ATTR_POINTWISE_MODE, 0);
    double *x = take(run, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &tensor), *b = NULL;
    if (descriptor_attribute(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC) != NULL)
        b = take(run, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &other);
    bool single = b != NULL && tensor_count(&other) == 1;
    for (int64_t i = 0, count = tensor_count(&tensor); i < count; i++)
        x[i] = combine(mode, x[i], b == NULL ? 0 : b[single ? 0 : i]);
    free(b);
    give(run, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, x);
}

void norm_run(const struct descriptor *graph, const struct op *op) {
    struct run run = {.op = op};
    int64_t n = descriptor_attribute(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)->n;
    for (int i = 0; i < n; i++) {
        const struct descriptor *operation = descriptor_child(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
        if (operation->type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR)
            norm_forward(&run, operation);
        else if (operation->type == CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR)
            norm_back(&run, operation);
        else
            pointwise(&run, operation);
    }
    for (int i = 0; i < run.inner_n; i++)
        free(run.inner[i].values);
}
