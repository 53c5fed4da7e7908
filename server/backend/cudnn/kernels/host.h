/* The GPU's kernels compiled as C, for tests on machines without one: each is a row of a table and runs block by block, phase by
 * phase, thread by thread. */
#ifndef BACKEND_CUDNN_KERNELS_HOST_H
#define BACKEND_CUDNN_KERNELS_HOST_H

#include <stddef.h>
#include <stdint.h>

/* In which order threads take their turns in a phase, and blocks in a launch: a result that depends on it is a missing barrier.
 */
enum kernel_order { KERNEL_FORWARD, KERNEL_BACKWARD, KERNEL_SHUFFLED };

struct kernel_grid {
    uint32_t blocks_x, blocks_y;
    enum kernel_order order;
    /* Bytes from an address of the device, as it stands in the parameters and in struct kernel_step, to where the test has that
     * memory; 0: addresses are pointers. Null stays null. */
    ptrdiff_t shift;
};

struct launch; /* of target.h */

struct kernel_c {
    const char *symbol; /* "residuum_images" */
    size_t params_size;
    int addresses; /* the parameters begin with so many addresses of the device, 8 bytes each */
    void (*block)(const void *params, const struct launch *launch);
};

/* The kernels in the order of enum kernel. */
const struct kernel_c *kernel_c_table(void);

/* The kernel of a symbol, or NULL. */
const struct kernel_c *kernel_c_find(const char *symbol);

/* Runs all blocks of a launch. */
void kernel_c_run(const struct kernel_c *kernel, const void *params, const struct kernel_grid *grid);

#endif
