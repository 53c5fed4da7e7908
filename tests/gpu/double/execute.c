/* Execution of cuDNN's plans: checks the addresses against the graph, queues, and computes by loops. */
#include <stdio.h>
#include <string.h>

#include "tests/gpu/double/double.h"

enum { TENSORS_MAX = 24, OPERANDS_MAX = 4 };

/* --- operations: their tensors, and which ones they make --- */

struct operand {
    cudnnBackendAttributeName_t name;
    const char *what;
    bool made;
};

static const struct {
    cudnnBackendDescriptorType_t type;
    const char *name;
    struct operand operands[OPERANDS_MAX];
    cudnnBackendAttributeName_t alpha, beta;
    void (*run)(const struct descriptor *operation, const struct op *op);
} rows[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     "cuDNN's convolution",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, "x", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, "w", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, "y", true}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
     conv_run},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     "cuDNN's gradient of a convolution's input",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, "dx", true},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, "w", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, "dy", false}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
     conv_run},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     "cuDNN's gradient of a convolution's weights",
     {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, "x", false},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, "dw", true},
      {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, "dy", false}},
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
     conv_run},
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

static CUdeviceptr address(const struct op *op, int64_t uid) {
    for (int i = 0; i < op->execute.n; i++)
        if (op->execute.uids[i] == uid)
            return op->execute.pointers[i];
    violation("%s: no address for the tensor with the unique id %lld", op->name, (long long)uid);
}

void *execute_pointer(const struct op *op, int64_t uid) {
    return memory_shadow(address(op, uid));
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

static void add_operand(struct op *op, const struct descriptor *operation, const struct operand *operand) {
    struct tensor tensor = tensor_of(descriptor_child(operation, operand->name, 0));
    CUdeviceptr at = address(op, tensor.uid);
    if (at == 0 || at % (uint64_t)tensor.alignment != 0)
        violation("%s, %s: address %#llx is not aligned to the %lld bytes that its descriptor promises", op->name, operand->what,
                  (unsigned long long)at, (long long)tensor.alignment);
    op_access(op, at, tensor_bytes(&tensor), !operand->made, operand->made, operand->what);
    if (operand->made && tensor_bytes(&tensor) == (size_t)tensor_count(&tensor) * tensor_element_bytes(&tensor))
        op->accesses[op->accesses_n - 1].element = tensor_element_bytes(&tensor);
}

static bool overlap(const struct access *a, const struct access *b) {
    return a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

/* What cuDNN makes must lie beside everything else: its engines read their inputs while they write. */
static void check_apart(const struct op *op) {
    for (int i = 0; i < op->accesses_n; i++)
        for (int k = 0; k < op->accesses_n; k++)
            if (i != k && op->accesses[i].writes && overlap(&op->accesses[i], &op->accesses[k]))
                violation("%s: %s and %s overlap", op->name, op->accesses[i].what, op->accesses[k].what);
}

/* --- running --- */

static void run(const struct op *op) {
    const struct descriptor *operation = descriptor_child(op->execute.plan->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, 0);
    op_poison(op);
    if (op->execute.plan->workspace_bytes > 0)
        memory_poison(memory_shadow(op->execute.workspace), (size_t)op->execute.plan->workspace_bytes);
    rows[row_of(operation)].run(operation, op);
    op_check_written(op);
}

cudnnStatus_t execute_plan(cudnnHandle_t handle, const struct descriptor *plan, const struct descriptor *pack) {
    CUresult result = call_begin("cudnnBackendExecute", CALL_PLAIN);
    if (!plan->final || plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !pack->final)
        violation("cudnnBackendExecute: the plan or the variant pack is not finalized");
    if (handle->stream == NULL)
        violation("cudnnBackendExecute: the handle has no stream, so it uses the default one");
    const struct descriptor *operation = descriptor_child(plan->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, 0);
    size_t row = row_of(operation);
    struct op op = op_new(rows[row].name, run);
    op.execute.plan = plan;
    read_pack(&op, pack);
    int operands_n = 0;
    while (operands_n < OPERANDS_MAX && rows[row].operands[operands_n].what != NULL)
        add_operand(&op, operation, &rows[row].operands[operands_n++]);
    if (op.execute.n != operands_n)
        violation("%s: %d addresses for %d tensors", op.name, op.execute.n, operands_n);
    if (factor(operation, rows[row].alpha, 1) != 1 || factor(operation, rows[row].beta, 0) != 0)
        violation("%s: the double computes with alpha 1 and beta 0 only", op.name);
    op_access(&op, op.execute.workspace, (size_t)plan->workspace_bytes, true, true, "workspace");
    if (plan->workspace_bytes > 0 && op.execute.workspace == 0)
        violation("%s: the plan needs %lld bytes of workspace, and gets none", op.name, (long long)plan->workspace_bytes);
    check_apart(&op);
    if (result == CUDA_SUCCESS)
        result = op_submit(&op, handle->stream);
    return result == CUDA_SUCCESS ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}
