/* Tensors of the self-check: see check.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "server/backend/cudnn/check.h"
#include "server/backend/cudnn/layout.h"

/* --- making them --- */

static CUdeviceptr allocate(struct check_tensors *tensors, int64_t bytes) {
    struct backend *backend = tensors->backend;
    CUdeviceptr at = 0;
    if (tensors->failed == 0)
        tensors->failed =
            core_check(backend, backend->driver.cuMemAlloc(&at, (size_t)bytes), "reserve memory for a comparison", tensors->err);
    if (tensors->failed != 0)
        return 0;
    tensors->at[tensors->n++] = at;
    return at;
}

CUdeviceptr check_copy(struct check_tensors *tensors, const void *values, int64_t bytes) {
    CUdeviceptr at = allocate(tensors, bytes);
    if (tensors->failed == 0)
        tensors->failed = core_upload(tensors->backend, at, values, (size_t)bytes, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = core_wait(tensors->backend, "copy to its memory", tensors->err);
    return tensors->failed == 0 ? at : 0;
}

CUdeviceptr check_empty(struct check_tensors *tensors, int64_t bytes) {
    struct backend *backend = tensors->backend;
    CUdeviceptr at = allocate(tensors, bytes);
    if (tensors->failed == 0)
        tensors->failed = core_check(backend, backend->driver.cuMemsetD8Async(at, 0xff, (size_t)bytes, backend->stream),
                                     "fill memory", tensors->err);
    return tensors->failed == 0 ? at : 0;
}

/* 24 significant bits: an engine that quietly takes fewer is seen. */
static float draw(uint32_t word) {
    return 2 * rng_unit(word) - 1;
}

/* bf16: the upper half, so that what is cut off was never there. */
static void put(unsigned char *values, size_t at, float value, bool bf16) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (bf16)
        memcpy(values + at * sizeof half, &half, sizeof half);
    else
        memcpy(values + at * sizeof bits, &bits, sizeof bits);
}

CUdeviceptr check_random(struct check_tensors *tensors, int64_t count, bool bf16) {
    enum { WORDS = 4 };
    size_t element = bf16 ? sizeof(uint16_t) : sizeof(float);
    unsigned char *values = malloc((size_t)count * element);
    if (values == NULL && tensors->failed == 0)
        tensors->failed = err_set(tensors->err, ERR_MEMORY, "No memory for %lld random numbers", (long long)count);
    if (tensors->failed != 0) {
        free(values);
        return 0;
    }
    uint32_t words[WORDS];
    for (int64_t i = 0; i < count; i++) {
        if (i % WORDS == 0)
            rng_block(0, RNG_INIT, (uint32_t)tensors->n, 0, (uint32_t)(i / WORDS), words);
        put(values, (size_t)i, draw(words[i % WORDS]), bf16);
    }
    CUdeviceptr at = check_copy(tensors, values, count * (int64_t)element);
    free(values);
    return at;
}

void check_free(struct check_tensors *tensors) {
    (void)core_wait(tensors->backend, "end its work", NULL);
    for (int i = 0; i < tensors->n; i++)
        (void)tensors->backend->driver.cuMemFree(tensors->at[i]);
    tensors->n = 0;
}

/* --- comparing them --- */

/* Copies of two tensors in one piece of memory, the second behind the first; NULL after a failure. */
static unsigned char *fetch(struct check_tensors *tensors, CUdeviceptr a, CUdeviceptr b, size_t bytes) {
    unsigned char *both = tensors->failed == 0 ? malloc(2 * bytes) : NULL;
    if (both == NULL && tensors->failed == 0)
        tensors->failed = err_set(tensors->err, ERR_MEMORY, "No memory to compare %zu bytes", bytes);
    if (tensors->failed == 0)
        tensors->failed = core_download(tensors->backend, both, a, bytes, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = core_download(tensors->backend, both + bytes, b, bytes, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = core_wait(tensors->backend, "copy from its memory", tensors->err);
    if (tensors->failed == 0)
        return both;
    free(both);
    return NULL;
}

double check_distance(struct check_tensors *tensors, CUdeviceptr a, CUdeviceptr b, int64_t count, bool bf16) {
    size_t bytes = (size_t)count * (bf16 ? sizeof(uint16_t) : sizeof(float));
    unsigned char *both = fetch(tensors, a, b, bytes);
    double difference = 0, norm = 0;
    if (both == NULL)
        return -1;
    for (size_t i = 0; i < (size_t)count; i++) {
        double x = (double)layout_element(both, i, bf16), y = (double)layout_element(both + bytes, i, bf16);
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    free(both);
    return norm > 0 || difference > 0 || isnan(difference) ? sqrt(difference / norm) : 0;
}

bool check_same(struct check_tensors *tensors, CUdeviceptr a, CUdeviceptr b, int64_t bytes) {
    unsigned char *both = fetch(tensors, a, b, (size_t)bytes);
    bool same = both != NULL && memcmp(both, both + bytes, (size_t)bytes) == 0;
    free(both);
    return same;
}

void check_program(struct check_tensors *tensors, const struct program *program) {
    if (tensors->failed == 0)
        tensors->failed = program_run(program, tensors->backend, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = core_wait(tensors->backend, "run a comparison", tensors->err);
}
