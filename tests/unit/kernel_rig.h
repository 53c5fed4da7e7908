/* Runs the GPU's kernels as C: memory with guards, tensors as the kernels have them, launches in three orders of threads and
 * several grids that must agree in every bit. */
#ifndef TESTS_UNIT_KERNEL_RIG_H
#define TESTS_UNIT_KERNEL_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/backend/cudnn/kernels/kernels.h"

/* [rows][cp], of which c channels are real. values holds what the tensor held before any launch: real channels are random numbers
 * around 0, as the type rounds them, and padding is zero; of an output all is NaN. */
struct tensor {
    uint64_t at; /* its address */
    int64_t rows;
    int c, cp;
    bool bf16;
    double *values; /* [rows * cp] */
};

struct rig;

/* state: of the test; it notes which kernels have run. */
struct rig *rig_new(void **state);
/* Checks that nothing but outputs has changed, and all guards. */
void rig_free(struct rig *rig);

int rig_padded(int c); /* to a multiple of 8 */
struct tensor rig_tensor(struct rig *rig, int64_t rows, int c, bool bf16, uint32_t seed);
/* A tensor that a launch writes: poisoned, or where the launch accumulates, random. */
struct tensor rig_output(struct rig *rig, int64_t rows, int c, bool bf16, bool accumulate, uint32_t seed);
/* Dense: no padding; c numbers a row, any c. */
struct tensor rig_dense(struct rig *rig, int64_t rows, int c, bool bf16, uint32_t seed);
struct tensor rig_dense_output(struct rig *rig, int64_t rows, int c, bool bf16);
/* Other memory: to be read, with this content; to be written, poisoned where content is NULL. */
uint64_t rig_input(struct rig *rig, const void *content, size_t size);
uint64_t rig_target(struct rig *rig, const void *content, size_t size);
/* Changes what every launch finds. */
void rig_set(struct rig *rig, struct tensor *tensor, int64_t row, int channel, double value);

/* A step of n images, else zero. */
uint64_t rig_step(struct rig *rig, int n);
/* What an address is on the host: of what the last launch left, or of an input. */
const void *rig_read(uint64_t address);

/* Runs a kernel many times: orders of threads, numbers of blocks (1, 3 and blocks). */
void rig_run(struct rig *rig, enum kernel kernel, const void *params, uint32_t blocks, uint32_t blocks_y);
/* What the last launch left. */
double rig_get(const struct tensor *tensor, int64_t row, int channel);
/* A value is as expected, but for rounding: limit is relative to the size of the value or 1, whichever is larger; a tensor of
 * bf16 may be off by half of its last place besides. */
void rig_expect(const struct tensor *tensor, int64_t row, int channel, double expected, double limit);
/* Padded channels, and all channels of rows from this one on, are zero. */
void rig_expect_zeros(const struct tensor *tensor, int64_t from_row);

bool rig_close(double got, double expected, double limit, bool bf16);

double rig_random(uint32_t seed, uint32_t i); /* -1 to 1 */
double rig_round(double value, bool bf16);    /* as the type does */

/* Calls a test's body for f32 and bf16. */
#define RIG_BOTH(call)                     \
    for (int both = 0; both < 2; both++) { \
        bool bf16 = both == 1;             \
        call;                              \
    }

#endif
