/* Runs the GPU's kernels as C: see kernel_rig.h. */
#include "tests/unit/kernel_rig.h"

#include <math.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/rng.h"
#include "server/backend/cudnn/kernels/host.h"

enum { BUFFERS_MAX = 32, ALIGNMENT = 256, GUARD = 0xA5, POISON = 0xFF };

/* Guard bytes lie before and behind; the sanitizer, where there is one, refuses them. */
struct buffer {
    unsigned char *block, *initial, *first; /* first: what the first launch left */
    size_t size;
    bool output;
};

struct rig {
    struct buffer buffers[BUFFERS_MAX];
    double *values[BUFFERS_MAX];
    int n, values_n;
    bool *ran; /* [KERNELS_N] */
};

static void *checked(void *memory) {
    assert_non_null(memory);
    return memory;
}

static unsigned char *content(const struct buffer *buffer) {
    return buffer->block + ALIGNMENT;
}

static size_t block_size(size_t size) {
    return 2 * ALIGNMENT + (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* --- memory --- */

struct rig *rig_new(void **state) {
    struct rig *rig = checked(calloc(1, sizeof *rig));
    rig->ran = *state;
    return rig;
}

static uint64_t add_buffer(struct rig *rig, const void *initial, size_t size, bool output) {
    assert_true(rig->n < BUFFERS_MAX);
    struct buffer *buffer = &rig->buffers[rig->n++];
    *buffer = (struct buffer){.block = checked(aligned_alloc(ALIGNMENT, block_size(size))),
                              .initial = checked(malloc(size + 1)),
                              .first = checked(malloc(size + 1)),
                              .size = size,
                              .output = output};
    memset(buffer->block, GUARD, block_size(size));
    memset(buffer->initial, POISON, size);
    if (initial != NULL)
        memcpy(buffer->initial, initial, size);
    memcpy(content(buffer), buffer->initial, size);
    ASAN_POISON_MEMORY_REGION(buffer->block, ALIGNMENT);
    ASAN_POISON_MEMORY_REGION(content(buffer) + size, block_size(size) - ALIGNMENT - size);
    return (uint64_t)(uintptr_t)content(buffer);
}

uint64_t rig_input(struct rig *rig, const void *initial, size_t size) {
    return add_buffer(rig, initial, size, false);
}

uint64_t rig_target(struct rig *rig, const void *initial, size_t size) {
    return add_buffer(rig, initial, size, true);
}

const void *rig_read(uint64_t address) {
    return (const void *)(uintptr_t)address;
}

static struct buffer *buffer_of(struct rig *rig, uint64_t address) {
    for (int i = 0; i < rig->n; i++)
        if ((uint64_t)(uintptr_t)content(&rig->buffers[i]) == address)
            return &rig->buffers[i];
    fail_msg("no buffer starts at this address");
    return NULL;
}

static void check_buffer(const struct buffer *buffer) {
    ASAN_UNPOISON_MEMORY_REGION(buffer->block, block_size(buffer->size));
    for (size_t i = 0; i < block_size(buffer->size); i++)
        if ((i < ALIGNMENT || i >= ALIGNMENT + buffer->size) && buffer->block[i] != GUARD)
            fail_msg("byte %td beside a buffer of %zu bytes was written", (ptrdiff_t)i - ALIGNMENT, buffer->size);
    if (!buffer->output && memcmp(content(buffer), buffer->initial, buffer->size) != 0)
        fail_msg("an input of %zu bytes was written", buffer->size);
}

void rig_free(struct rig *rig) {
    for (int i = 0; i < rig->n; i++) {
        check_buffer(&rig->buffers[i]);
        free(rig->buffers[i].block);
        free(rig->buffers[i].initial);
        free(rig->buffers[i].first);
    }
    for (int i = 0; i < rig->values_n; i++)
        free(rig->values[i]);
    free(rig);
}

/* --- numbers --- */

double rig_random(uint32_t seed, uint32_t i) {
    uint32_t words[4];
    rng_block(seed, RNG_SHAPES, 0, 0, i, words);
    return 2 * (double)rng_unit(words[0]) - 1;
}

static uint16_t narrow(double value) {
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    uint32_t low = bits & 0xffff, high = bits >> 16;
    return (uint16_t)(low > 0x8000 || (low == 0x8000 && (high & 1)) ? high + 1 : high);
}

static double widen(uint16_t narrowed) {
    uint32_t bits = (uint32_t)narrowed << 16;
    float single;
    memcpy(&single, &bits, sizeof single);
    return (double)single;
}

double rig_round(double value, bool bf16) {
    return bf16 ? widen(narrow(value)) : (double)(float)value;
}

/* --- tensors --- */

int rig_padded(int c) {
    return (c + 7) / 8 * 8;
}

static size_t element_bytes(bool bf16) {
    return bf16 ? 2 : 4;
}

static void put(void *memory, size_t at, bool bf16, double value) {
    if (bf16) {
        uint16_t narrowed = narrow(value);
        memcpy((char *)memory + at * 2, &narrowed, sizeof narrowed);
    } else {
        float single = (float)value;
        memcpy((char *)memory + at * 4, &single, sizeof single);
    }
}

void rig_set(struct rig *rig, struct tensor *tensor, int64_t row, int channel, double value) {
    size_t at = (size_t)(row * tensor->cp + channel);
    struct buffer *buffer = buffer_of(rig, tensor->at);
    tensor->values[at] = rig_round(value, tensor->bf16);
    put(buffer->initial, at, tensor->bf16, value);
    put(content(buffer), at, tensor->bf16, value);
}

/* Memory of the type; unless it is poisoned, with random numbers in its real channels. */
static struct tensor make(struct rig *rig, int64_t rows, int c, int cp, bool bf16, bool output, bool poisoned, uint32_t seed) {
    size_t count = (size_t)rows * (size_t)cp;
    struct tensor tensor = {.rows = rows, .c = c, .cp = cp, .bf16 = bf16, .values = checked(malloc(count * sizeof(double)))};
    unsigned char *bytes = checked(malloc(count * element_bytes(bf16)));
    rig->values[rig->values_n++] = tensor.values;
    for (size_t i = 0; i < count; i++) {
        bool real = (int)(i % (size_t)cp) < c;
        tensor.values[i] = poisoned ? (double)NAN : real ? rig_round(rig_random(seed, (uint32_t)i), bf16) : 0;
        put(bytes, i, bf16, tensor.values[i]);
    }
    tensor.at = add_buffer(rig, poisoned ? NULL : bytes, count * element_bytes(bf16), output);
    free(bytes);
    return tensor;
}

struct tensor rig_tensor(struct rig *rig, int64_t rows, int c, bool bf16, uint32_t seed) {
    return make(rig, rows, c, rig_padded(c), bf16, false, false, seed);
}

struct tensor rig_output(struct rig *rig, int64_t rows, int c, bool bf16, bool accumulate, uint32_t seed) {
    return make(rig, rows, c, rig_padded(c), bf16, true, !accumulate, seed);
}

struct tensor rig_dense(struct rig *rig, int64_t rows, int c, bool bf16, uint32_t seed) {
    return make(rig, rows, c, c, bf16, false, false, seed);
}

struct tensor rig_dense_output(struct rig *rig, int64_t rows, int c, bool bf16) {
    return make(rig, rows, c, c, bf16, true, true, 0);
}

uint64_t rig_step(struct rig *rig, int n) {
    struct kernel_step step = {.n = n};
    return rig_input(rig, &step, sizeof step);
}

/* --- launches --- */

static void compare_outputs(const struct rig *rig, const char *name, const struct kernel_grid *grid, bool is_first) {
    for (int i = 0; i < rig->n; i++) {
        const struct buffer *buffer = &rig->buffers[i];
        if (!is_first && memcmp(buffer->first, content(buffer), buffer->size) != 0)
            fail_msg("%s: with %u blocks in order %d output %d has other bits", name, grid->blocks_x, (int)grid->order, i);
        memcpy(buffer->first, content(buffer), buffer->size);
    }
}

void rig_run(struct rig *rig, enum kernel kernel, const void *params, uint32_t blocks, uint32_t blocks_y) {
    static const enum kernel_order orders[] = {KERNEL_FORWARD, KERNEL_BACKWARD, KERNEL_SHUFFLED};
    const uint32_t grids[] = {blocks, 3, 1};
    const struct kernel_c *row = &kernel_c_table()[kernel];
    rig->ran[kernel] = true;
    for (int g = 0; g < 3; g++)
        for (int o = 0; o < 3; o++) {
            for (int i = 0; i < rig->n; i++)
                memcpy(content(&rig->buffers[i]), rig->buffers[i].initial, rig->buffers[i].size);
            struct kernel_grid grid = {.blocks_x = grids[g], .blocks_y = blocks_y, .order = orders[o]};
            kernel_c_run(row, params, &grid);
            compare_outputs(rig, row->symbol, &grid, g == 0 && o == 0);
        }
}

/* --- expectations --- */

double rig_get(const struct tensor *tensor, int64_t row, int channel) {
    size_t at = (size_t)(row * tensor->cp + channel);
    const char *memory = rig_read(tensor->at);
    float single;
    uint16_t narrowed;
    if (tensor->bf16) {
        memcpy(&narrowed, memory + at * 2, sizeof narrowed);
        return widen(narrowed);
    }
    memcpy(&single, memory + at * 4, sizeof single);
    return (double)single;
}

bool rig_close(double got, double expected, double limit, bool bf16) {
    double room = limit * fmax(1, fabs(expected)) + (bf16 ? fabs(expected) * 0x1.01p-8 : 0);
    return fabs(got - expected) <= room;
}

void rig_expect(const struct tensor *tensor, int64_t row, int channel, double expected, double limit) {
    double got = rig_get(tensor, row, channel);
    if (!rig_close(got, expected, limit, tensor->bf16))
        fail_msg("row %lld, channel %d: %.9g instead of %.9g", (long long)row, channel, got, expected);
}

void rig_expect_zeros(const struct tensor *tensor, int64_t from_row) {
    for (int64_t row = 0; row < tensor->rows; row++)
        for (int c = row < from_row ? tensor->c : 0; c < tensor->cp; c++)
            if (rig_get(tensor, row, c) != 0)
                fail_msg("row %lld, channel %d of %d: %.9g instead of 0", (long long)row, c, tensor->c, rig_get(tensor, row, c));
}
