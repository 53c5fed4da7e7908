/* Our kernels: found by name, launched with checks, and run as C. */
#include <stdio.h>
#include <string.h>

#include "server/backend/cudnn/kernels/kernels.h"
#include "tests/gpu/double/double.h"

struct CUmod_st {
    struct object object;
};

/* A function is its row of the kernels' table. */
static const struct kernel_c *row_of(CUfunction function) {
    const struct kernel_c *kernel = (const struct kernel_c *)(const void *)function, *table = kernel_c_table();
    if (kernel < table || kernel >= table + KERNELS_N)
        violation("%p is no function of a module", (const void *)function);
    return kernel;
}

static CUresult load(CUmodule *ret_module, const void *image) {
    CUresult result = call_begin("cuModuleLoadData", CALL_SYNC);
    if (image == NULL)
        violation("cuModuleLoadData: no image");
    if (result != CUDA_SUCCESS)
        return call_end("cuModuleLoadData", result);
    *ret_module = object_new(OBJECT_MODULE, sizeof **ret_module);
    return CUDA_SUCCESS;
}

static CUresult unload(CUmodule module) {
    CUresult result = call_begin("cuModuleUnload", CALL_CLEANUP);
    object_destroy(module, OBJECT_MODULE, "cuModuleUnload");
    return result;
}

static CUresult get_function(CUfunction *ret_function, CUmodule module, const char *name) {
    CUresult result = call_begin("cuModuleGetFunction", CALL_PLAIN);
    object_check(module, OBJECT_MODULE, "cuModuleGetFunction");
    const struct kernel_c *kernel = kernel_c_find(name);
    if (result == CUDA_SUCCESS && kernel == NULL)
        result = CUDA_ERROR_NOT_FOUND;
    if (result == CUDA_SUCCESS)
        *ret_function = (CUfunction)(uintptr_t)kernel;
    return call_end("cuModuleGetFunction", result);
}

/* --- launches --- */

static void run(const struct op *op) {
    int kernel = (int)(op->launch.kernel - kernel_c_table());
    struct op now = op_new(op->name, NULL);
    spans_of(&now, kernel, op->launch.params, true);
    op_check(&now);
    op_poison(&now);
    memory_restrict(now.accesses, now.accesses_n);
    kernel_c_run(op->launch.kernel, op->launch.params, &op->launch.grid);
    memory_release();
    op_check_written(&now);
    fault_result(&now);
}

struct dim {
    unsigned x, y, z;
};

static void check_shape(const struct kernel_c *kernel, struct dim grid, struct dim block, unsigned shared) {
    const struct options *options = &state()->options;
    const unsigned sizes[3] = {grid.x, grid.y, grid.z};
    for (int i = 0; i < 3; i++)
        if (sizes[i] < 1 || sizes[i] > options_property(options, "maxGridSize", i))
            violation("%s: a grid of %u x %u x %u blocks", kernel->symbol, grid.x, grid.y, grid.z);
    if (block.x != KERNEL_THREADS || block.y != 1 || block.z != 1)
        violation("%s: blocks of %u x %u x %u threads, it was compiled for %d", kernel->symbol, block.x, block.y, block.z,
                  KERNEL_THREADS);
    if (grid.z != 1)
        violation("%s: a grid of three dimensions", kernel->symbol);
    if (shared != 0)
        violation("%s: %u bytes of dynamic shared memory, which it has no use for", kernel->symbol, shared);
}

/* The order of threads and blocks changes with the seed: results must not depend on it. */
static enum kernel_order order_of_threads(void) {
    static const enum kernel_order orders[] = {KERNEL_FORWARD, KERNEL_BACKWARD, KERNEL_SHUFFLED};
    return orders[state()->options.seed % 3];
}

static CUresult launch(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
                       unsigned int block_y, unsigned int block_z, unsigned int shared, CUstream stream, void **params,
                       void **extra) {
    CUresult result = call_begin("cuLaunchKernel", CALL_PLAIN);
    const struct kernel_c *kernel = row_of(function);
    if (stream == NULL)
        violation("%s goes into the default stream, which waits for all others", kernel->symbol);
    object_check(stream, OBJECT_STREAM, "cuLaunchKernel");
    check_shape(kernel, (struct dim){grid_x, grid_y, grid_z}, (struct dim){block_x, block_y, block_z}, shared);
    if (params == NULL || params[0] == NULL || extra != NULL || kernel->params_size > PARAMS_MAX)
        violation("%s: its parameters are one struct of %zu bytes", kernel->symbol, kernel->params_size);
    if (result != CUDA_SUCCESS)
        return call_end("cuLaunchKernel", result);
    struct op op = op_new(kernel->symbol, run);
    op.launch.kernel = kernel;
    op.launch.grid = (struct kernel_grid){grid_x, grid_y, order_of_threads(), memory_shift()};
    memcpy(op.launch.params, params[0], kernel->params_size);
    spans_of(&op, (int)(kernel - kernel_c_table()), op.launch.params, false);
    return call_end("cuLaunchKernel", op_submit(&op, stream));
}

void launch_fill(struct gpu_driver *driver) {
    driver->cuModuleLoadData = load;
    driver->cuModuleUnload = unload;
    driver->cuModuleGetFunction = get_function;
    driver->cuLaunchKernel = launch;
}
