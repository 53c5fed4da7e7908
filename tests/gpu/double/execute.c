/* Execution of cuDNN's plans: checks the addresses against the graph, queues, and computes by loops. */
#include <stdio.h>
#include <string.h>

#include "tests/gpu/double/double.h"

enum { OPERANDS_MAX = 12 };

/* --- operations: their tensors, and which ones they make --- */

struct operand {
    cudnnBackendAttributeName_t name;
    const char *what;
    bool made;
};

/* A running statistic may be moved in its place. */
static const char running_mean[] = "the running mean", running_var[] = "the running variance";

static const struct {
    cudnnBackendDescriptorType_t type;
    const char *name;
    struct operand operands[OPERANDS_MAX];
    cudnnBackendAttributeName_t alpha, beta; /* of convolutions */
} rows[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     "cuDNN's convolution",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, "x", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, "w", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, "y", true}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     "cuDNN's gradient of a convolution's input",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, "dx", true},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, "w", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, "dy", false}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     "cuDNN's gradient of a convolution's weights",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, "x", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, "dw", true},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, "dy", false}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    {.type = CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR,
     .name = "cuDNN's batch norm",
     .operands = {{CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, "x", false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, "mean", true},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, "inverse", true},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, "gamma", false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, "beta", false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, "epsilon", false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, "factor", false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC, running_mean, false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, running_var, false},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, running_mean, true},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, running_var, true},
                  {CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, "y", true}}},
    {.type = CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR,
     .name = "cuDNN's gradient of a batch norm",
     .operands = {{CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, "x", false},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, "mean", false},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, "inverse", false},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, "gamma", false},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, "dy", false},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, "dgamma", true},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, "dbeta", true},
                  {CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, "dx", true}}},
    {.type = CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     .name = "cuDNN's operation element by element",
     .operands = {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, "an operand", false},
                  {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, "the other operand", false},
                  {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, "a result", true}}},
};

static size_t row_of(const struct descriptor *operation) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].type == operation->type)
            return i;
    violation("the double does not compute cuDNN's operations of type %d", (int)operation->type);
}

static float factor(const struct descriptor *operation, cudnnBackendAttributeName_t name, float otherwise) {
    const struct attribute *attribute = descriptor_attribute(operation, name);
    float value = otherwise;
    if (attribute != NULL && attribute->type == CUDNN_TYPE_FLOAT)
        memcpy(&value, attribute->values, sizeof value);
    else if (attribute != NULL)
        violation("a factor of a convolution is no float");
    return value;
}

/* --- addresses --- */

/* Where the address of a tensor stands among those that were given. */
static int place_of(const struct op *op, int64_t uid) {
    for (int i = 0; i < op->execute.n; i++)
        if (op->execute.uids[i] == uid)
            return i;
    violation("%s: no address for the tensor with the unique id %lld", op->name, (long long)uid);
}

void *execute_pointer(const struct op *op, int64_t uid) {
    return memory_shadow(op->execute.pointers[place_of(op, uid)]);
}

float execute_value(const struct op *op, int64_t uid) {
    float value;
    memcpy(&value, &op->execute.pointers[place_of(op, uid)], sizeof value);
    return value;
}

static void read_pack(struct op *op, const struct descriptor *pack) {
    int64_t n = descriptor_attribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)->n;
    if (n > POINTERS_MAX || descriptor_attribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)->n != n)
        violation("%s: there are not as many addresses as unique ids", op->name);
    op->execute.n = (int)n;
    for (int i = 0; i < op->execute.n; i++) {
        op->execute.uids[i] = descriptor_integer(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i);
        op->execute.pointers[i] = (CUdeviceptr)descriptor_integer(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i);
    }
    op->execute.workspace = (CUdeviceptr)descriptor_integer(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, 0);
}

/* cuDNN reads the host's memory when the plan is queued: the value takes the place of its address. */
static void read_value(struct op *op, int place) {
    CUdeviceptr value = 0;
    memcpy(&value, (const void *)(uintptr_t)op->execute.pointers[place], sizeof(float));
    op->execute.pointers[place] = value;
}

static size_t mask_bytes(const struct tensor *tensor) {
    return ((size_t)tensor_count(tensor) + 7) / 8;
}

static void add_access(struct op *op, const struct tensor *tensor, CUdeviceptr at, const struct operand *operand) {
    if (at == 0 || at % (uint64_t)tensor->alignment != 0)
        violation("%s, %s: address %#llx is not aligned to the %lld bytes that its descriptor promises", op->name, operand->what,
                  (unsigned long long)at, (long long)tensor->alignment);
    bool mask = tensor->type == CUDNN_DATA_BOOLEAN;
    op_access(op, at, mask ? mask_bytes(tensor) : tensor_bytes(tensor), !operand->made, operand->made, operand->what);
    if (operand->made && !mask && tensor_bytes(tensor) == (size_t)tensor_count(tensor) * tensor_element_bytes(tensor))
        op->accesses[op->accesses_n - 1].element = tensor_element_bytes(tensor);
}

/* A tensor that an earlier operation of the graph made is no access of its own. */
static void add_operand(struct op *op, const struct descriptor *operation, const struct operand *operand, bool *seen) {
    if (descriptor_attribute(operation, operand->name) == NULL)
        return;
    struct tensor tensor = tensor_of(descriptor_child(operation, operand->name, 0));
    if (tensor.is_virtual)
        return;
    int place = place_of(op, tensor.uid);
    if (!seen[place] && tensor.by_value)
        read_value(op, place);
    else if (!seen[place])
        add_access(op, &tensor, op->execute.pointers[place], operand);
    seen[place] = true;
}

static void check_factors(const struct descriptor *operation, const struct op *op, size_t row) {
    if (rows[row].alpha != 0 && (factor(operation, rows[row].alpha, 1) != 1 || factor(operation, rows[row].beta, 0) != 0))
        violation("%s: the double computes with alpha 1 and beta 0 only", op->name);
}

/* All tensors of the plan's graph, and no others. */
static void add_operands(struct op *op) {
    const struct descriptor *graph = op->execute.plan->graph;
    bool seen[POINTERS_MAX] = {false};
    for (int i = 0; i < (int)descriptor_attribute(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)->n; i++) {
        const struct descriptor *operation = descriptor_child(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
        size_t row = row_of(operation);
        check_factors(operation, op, row);
        for (int k = 0; k < OPERANDS_MAX && rows[row].operands[k].what != NULL; k++)
            add_operand(op, operation, &rows[row].operands[k], seen);
    }
    for (int i = 0; i < op->execute.n; i++)
        if (!seen[i])
            violation("%s: an address for the unique id %lld, which no tensor has", op->name, (long long)op->execute.uids[i]);
}

static bool in_place(const struct access *a, const struct access *b) {
    return a->what == b->what && (a->what == running_mean || a->what == running_var) && a->at == b->at;
}

/* What cuDNN makes must lie beside everything else: its engines read their inputs while they write. */
static void check_apart(const struct op *op) {
    for (int i = 0; i < op->accesses_n; i++)
        for (int k = 0; k < op->accesses_n; k++)
            if (i != k && op->accesses[i].writes && !in_place(&op->accesses[i], &op->accesses[k]) &&
                access_overlap(&op->accesses[i], &op->accesses[k]))
                violation("%s: %s and %s overlap", op->name, op->accesses[i].what, op->accesses[k].what);
}

/* --- running --- */

static void run(const struct op *op) {
    const struct descriptor *operation = descriptor_child(op->execute.plan->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, 0);
    op_poison(op);
    if (op->execute.plan->workspace_bytes > 0)
        memory_poison(memory_shadow(op->execute.workspace), (size_t)op->execute.plan->workspace_bytes);
    if (rows[row_of(operation)].alpha != 0)
        conv_run(operation, op);
    else
        norm_run(op->execute.plan->graph, op);
    op_check_written(op);
    fault_result(op);
}

cudnnStatus_t execute_plan(cudnnHandle_t handle, const struct descriptor *plan, const struct descriptor *pack) {
    CUresult result = call_begin("cudnnBackendExecute", CALL_PLAIN);
    if (!plan->final || plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !pack->final)
        violation("cudnnBackendExecute: the plan or the variant pack is not finalized");
    if (handle->stream == NULL)
        violation("cudnnBackendExecute: the handle has no stream, so it uses the default one");
    const struct descriptor *operation = descriptor_child(plan->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, 0);
    struct op op = op_new(rows[row_of(operation)].name, run);
    op.execute.plan = plan;
    read_pack(&op, pack);
    add_operands(&op);
    op_access(&op, op.execute.workspace, (size_t)plan->workspace_bytes, true, true, "workspace");
    if (plan->workspace_bytes > 0 && op.execute.workspace == 0)
        violation("%s: the plan needs %lld bytes of workspace, and gets none", op.name, (long long)plan->workspace_bytes);
    check_apart(&op);
    if (result == CUDA_SUCCESS)
        result = op_submit(&op, handle->stream);
    return result == CUDA_SUCCESS ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
