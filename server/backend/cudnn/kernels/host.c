/* Runs the kernels as C: see host.h. */
#include "server/backend/cudnn/kernels/host.h"

#include <assert.h>

#include "server/backend/cudnn/kernels/target.h"

enum { PARAMS_MAX = 256 }; /* bytes */

/* --- orders --- */

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

/* Whose turn is number i of n. The shuffled order takes steps that have no divisor in common with n. */
static uint32_t turn_of(enum kernel_order order, uint32_t n, uint32_t i) {
    switch (order) {
    case KERNEL_FORWARD:
        break;
    case KERNEL_BACKWARD:
        return n - 1 - i;
    case KERNEL_SHUFFLED: {
        uint32_t step = 97;
        while (common_divisor(step, n) != 1)
            step++;
        return (uint32_t)(((uint64_t)i * step + 41) % n);
    }
    }
    return i;
}

/* --- runs --- */

/* A copy of the parameters whose addresses are pointers. */
static void shift_addresses(const struct kernel_c *kernel, const void *params, ptrdiff_t shift, unsigned char *copy) {
    memcpy(copy, params, kernel->params_size);
    for (int i = 0; i < kernel->addresses; i++) {
        uint64_t address;
        memcpy(&address, copy + (size_t)i * sizeof address, sizeof address);
        if (address != 0)
            address += (uint64_t)shift;
        memcpy(copy + (size_t)i * sizeof address, &address, sizeof address);
    }
}

void kernel_c_run(const struct kernel_c *kernel, const void *params, const struct kernel_grid *grid) {
    _Alignas(16) unsigned char copy[PARAMS_MAX];
    uint32_t threads[KERNEL_THREADS + 1] = {0}, blocks = grid->blocks_x * grid->blocks_y;
    assert(kernel->params_size <= sizeof copy);
    shift_addresses(kernel, params, grid->shift, copy);
    for (uint32_t i = 0; i < KERNEL_THREADS; i++)
        threads[i] = turn_of(grid->order, KERNEL_THREADS, i);
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t block = turn_of(grid->order, blocks, i);
        struct launch launch = {.block_x = block % grid->blocks_x,
                                .block_y = block / grid->blocks_x,
                                .blocks_x = grid->blocks_x,
                                .blocks_y = grid->blocks_y,
                                .threads = threads,
                                .shift = grid->shift};
        kernel->block(copy, &launch);
    }
}

/* --- the table --- */

#define KERNEL_BLOCK(name, addresses)                                         \
    static void run_##name(const void *params, const struct launch *launch) { \
        residuum_##name((const struct kernel_##name *)params, launch);        \
    }
KERNELS(KERNEL_BLOCK)

static const struct kernel_c table[] = {
#define KERNEL_ROW(name, addresses) {"residuum_" #name, sizeof(struct kernel_##name), addresses, run_##name},
    KERNELS(KERNEL_ROW)};

const struct kernel_c *kernel_c_table(void) {
    return table;
}

const struct kernel_c *kernel_c_find(const char *symbol) {
    for (int i = 0; i < KERNELS_N; i++)
        if (strcmp(table[i].symbol, symbol) == 0)
            return &table[i];
    return NULL;
}
