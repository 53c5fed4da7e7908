/* The self-check of a device's memory: patterns, and how fast copies are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/check.h"

#define MIB ((size_t)1 << 20)

enum { CHUNK_MIB = 64, BRIEF_MIB = 256, CHUNKS_MAX = 16384 };

/* --- patterns --- */

/* Chunks of memory that are all held at the same time. */
struct pool {
    struct backend *backend;
    CUdeviceptr *chunks;
    int n;
    uint32_t *host; /* a chunk's copy, pinned */
    struct err *err;
};

/* Other programs may take memory meanwhile: what is left by then is enough. */
static int fill_pool(struct pool *pool, size_t bytes) {
    struct backend *backend = pool->backend;
    int wanted = (int)(bytes / (CHUNK_MIB * MIB));
    while (pool->n < wanted && pool->n < CHUNKS_MAX) {
        CUresult result = backend->driver.cuMemAlloc(&pool->chunks[pool->n], CHUNK_MIB * MIB);
        struct err err = {0};
        if (core_check(backend, result, "reserve memory to write to", &err) != 0) {
            if (err.code == ERR_MEMORY && pool->n > 0)
                return 0;
            return err_set(pool->err, err.code, "%s", err.text);
        }
        pool->n++;
    }
    return 0;
}

static int pool_init(struct pool *pool, struct backend *backend, size_t bytes, struct err *err) {
    void *host;
    *pool = (struct pool){.backend = backend, .chunks = calloc(CHUNKS_MAX, sizeof *pool->chunks), .err = err};
    if (pool->chunks == NULL)
        return err_set(err, ERR_MEMORY, "No memory to check that of the device");
    if (core_check(backend, backend->driver.cuMemAllocHost(&host, CHUNK_MIB * MIB), "reserve pinned memory of the host", err) !=
        0)
        return -1;
    pool->host = host;
    return fill_pool(pool, bytes);
}

static void pool_done(struct pool *pool) {
    (void)core_wait(pool->backend, "end its work", NULL);
    for (int i = 0; i < pool->n; i++)
        (void)pool->backend->driver.cuMemFree(pool->chunks[i]);
    if (pool->host != NULL)
        (void)pool->backend->driver.cuMemFreeHost(pool->host);
    free(pool->chunks);
}

/* Of every chunk another one (Knuth's multiplicative hash), so that an address that leads to the wrong chunk is seen. */
static uint32_t pattern_of(int chunk, bool inverted) {
    uint32_t pattern = (uint32_t)(chunk + 1) * UINT32_C(2654435761);
    return inverted ? ~pattern : pattern;
}

static int write_all(const struct pool *pool, bool inverted) {
    struct backend *backend = pool->backend;
    for (int i = 0; i < pool->n; i++)
        if (core_check(backend,
                       backend->driver.cuMemsetD32Async(pool->chunks[i], pattern_of(i, inverted),
                                                        CHUNK_MIB * MIB / sizeof(uint32_t), backend->stream),
                       "write a pattern", pool->err) != 0)
            return -1;
    return core_wait(backend, "write a pattern", pool->err);
}

static int read_all(const struct pool *pool, bool inverted, int64_t *wrong) {
    for (int i = 0; i < pool->n; i++) {
        uint32_t pattern = pattern_of(i, inverted);
        if (core_download(pool->backend, pool->host, pool->chunks[i], CHUNK_MIB * MIB, pool->err) != 0 ||
            core_wait(pool->backend, "read a pattern", pool->err) != 0)
            return -1;
        for (size_t k = 0; k < CHUNK_MIB * MIB / sizeof(uint32_t); k++)
            *wrong += pool->host[k] != pattern;
    }
    return 0;
}

static int compare_patterns(const struct pool *pool, struct backend_check *item) {
    int64_t wrong = 0;
    for (int inverted = 0; inverted < 2; inverted++)
        if (write_all(pool, inverted) != 0 || read_all(pool, inverted, &wrong) != 0)
            return -1;
    item->passed = wrong == 0;
    item->measured = (double)wrong;
    snprintf(item->text, sizeof item->text, "words that came back wrong of %d MiB, written twice with opposite bits",
             pool->n * CHUNK_MIB);
    return 0;
}

int check_memory(struct backend *backend, bool brief, struct backend_check *item, struct err *err) {
    size_t free_bytes, total;
    struct pool pool;
    if (core_check(backend, backend->driver.cuMemGetInfo(&free_bytes, &total), "tell its free memory", err) != 0)
        return -1;
    size_t most = free_bytes / 10 * 8;
    if (brief && most > BRIEF_MIB * MIB)
        most = BRIEF_MIB * MIB;
    int rc = pool_init(&pool, backend, most, err);
    if (rc == 0)
        rc = compare_patterns(&pool, item);
    pool_done(&pool);
    return rc;
}

/* --- copies: a figure, no limit --- */

static int copy_some(const struct pool *pool, bool to_device, int times) {
    for (int i = 0; i < times; i++) {
        int rc = to_device ? core_upload(pool->backend, pool->chunks[0], pool->host, CHUNK_MIB * MIB, pool->err)
                           : core_download(pool->backend, pool->host, pool->chunks[0], CHUNK_MIB * MIB, pool->err);
        if (rc != 0)
            return -1;
    }
    return 0;
}

/* The device's own clock. */
static int time_copies(const struct pool *pool, bool to_device, int times, float *ret_ms) {
    struct backend *backend = pool->backend;
    struct gpu_driver *driver = &backend->driver;
    if (core_check(backend, driver->cuEventRecord(backend->began, backend->stream), "time a copy", pool->err) != 0 ||
        copy_some(pool, to_device, times) != 0 ||
        core_check(backend, driver->cuEventRecord(backend->ended, backend->stream), "time a copy", pool->err) != 0 ||
        core_wait(backend, "copy", pool->err) != 0)
        return -1;
    return core_check(backend, driver->cuEventElapsedTime(ret_ms, backend->began, backend->ended), "time a copy", pool->err);
}

static int check_copies(struct backend *backend, bool to_device, bool brief, struct backend_check *item, struct err *err) {
    const int times = brief ? 2 : 16;
    struct pool pool;
    float ms = 0;
    int rc = pool_init(&pool, backend, CHUNK_MIB * MIB, err);
    if (rc == 0)
        rc = time_copies(&pool, to_device, times, &ms);
    pool_done(&pool);
    if (rc != 0)
        return -1;
    item->passed = true;
    item->measured = ms > 0 ? (double)times * CHUNK_MIB / 1024 * 1000 / (double)ms : 0;
    snprintf(item->text, sizeof item->text, "GiB/s, pinned memory of the host, %d copies of %d MiB", times, CHUNK_MIB);
    return 0;
}

int check_to_device(struct backend *backend, bool brief, struct backend_check *item, struct err *err) {
    return check_copies(backend, true, brief, item, err);
}

int check_from_device(struct backend *backend, bool brief, struct backend_check *item, struct err *err) {
    return check_copies(backend, false, brief, item, err);
}
