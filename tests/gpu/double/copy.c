/* Copies and memsets. */
#include <string.h>

#include "tests/gpu/double/double.h"

static void *place(uint64_t at) {
    return memory_is_device(at) ? memory_shadow(at) : (void *)(uintptr_t)at;
}

static void run_copy(const struct op *op) {
    memcpy(place(op->copy.to), place(op->copy.from), op->copy.bytes);
}

static void run_set(const struct op *op) {
    unsigned char *to = memory_shadow(op->set.at);
    for (size_t i = 0; i < op->set.count; i++)
        memcpy(to + i * op->set.width, &op->set.value, op->set.width);
}

static CUresult begin(const char *function, CUstream stream) {
    CUresult result = call_begin(function, CALL_PLAIN);
    if (stream == NULL)
        violation("%s goes into the default stream, which waits for all others", function);
    object_check(stream, OBJECT_STREAM, function);
    return result;
}

/* Memory that is not pinned is copied while the caller waits, after what the stream has to do before. */
static CUresult copy_now(const struct op *op, CUstream stream, uint64_t device, uint64_t host) {
    if (stream->capture != NULL)
        violation("%s: memory that is not pinned (%#llx) is copied in a captured graph", op->name, (unsigned long long)host);
    CUresult result = stream_run(&stream->clock);
    if (result != CUDA_SUCCESS)
        return result;
    memory_check(device, op->copy.bytes, op->name);
    fault_operation();
    if (state()->fault.sticky == CUDA_SUCCESS)
        run_copy(op);
    return state()->fault.sticky;
}

static CUresult copy(const char *function, uint64_t to, uint64_t from, size_t bytes, CUstream stream) {
    CUresult result = begin(function, stream);
    if (result != CUDA_SUCCESS)
        return call_end(function, result);
    struct op op = op_new(function, run_copy);
    op.copy.to = to;
    op.copy.from = from;
    op.copy.bytes = bytes;
    bool in = !memory_is_device(from), out = !memory_is_device(to);
    uint64_t host = in ? from : to;
    if ((in || out) && !pinned_has((const void *)(uintptr_t)host, bytes, function))
        return call_end(function, copy_now(&op, stream, in ? to : from, host));
    op_access(&op, from, bytes, true, false, "source");
    op_access(&op, to, bytes, false, true, "target");
    return call_end(function, op_submit(&op, stream));
}

static void check_host(const char *function, const void *at) {
    if (memory_is_device((uint64_t)(uintptr_t)at))
        violation("%s takes an address of the host, and was given one of the device", function);
}

static void check_device(const char *function, CUdeviceptr at) {
    if (!memory_is_device(at))
        violation("%s: %#llx is no address of the device", function, (unsigned long long)at);
}

static CUresult copy_in(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    check_host("cuMemcpyHtoDAsync", from);
    check_device("cuMemcpyHtoDAsync", to);
    return copy("cuMemcpyHtoDAsync", to, (uint64_t)(uintptr_t)from, bytes, stream);
}

static CUresult copy_out(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    check_host("cuMemcpyDtoHAsync", to);
    check_device("cuMemcpyDtoHAsync", from);
    return copy("cuMemcpyDtoHAsync", (uint64_t)(uintptr_t)to, from, bytes, stream);
}

static CUresult set(const char *function, CUdeviceptr at, uint32_t value, size_t count, size_t width, CUstream stream) {
    CUresult result = begin(function, stream);
    if (at % width != 0)
        violation("%s: the address is not aligned to %zu bytes", function, width);
    struct op op = op_new(function, run_set);
    op.set.at = at;
    op.set.value = value;
    op.set.count = count;
    op.set.width = width;
    op_access(&op, at, count * width, false, true, "target");
    if (result == CUDA_SUCCESS)
        result = op_submit(&op, stream);
    return call_end(function, result);
}

static CUresult set_bytes(CUdeviceptr at, unsigned char value, size_t count, CUstream stream) {
    return set("cuMemsetD8Async", at, value, count, 1, stream);
}

static CUresult set_words(CUdeviceptr at, unsigned int value, size_t count, CUstream stream) {
    return set("cuMemsetD32Async", at, value, count, sizeof value, stream);
}

void copy_fill(struct gpu_driver *driver) {
    driver->cuMemcpyHtoDAsync = copy_in;
    driver->cuMemcpyDtoHAsync = copy_out;
    driver->cuMemsetD8Async = set_bytes;
    driver->cuMemsetD32Async = set_words;
}
