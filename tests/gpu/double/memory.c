/* Device memory: addresses that trap for the host, bytes at a fixed distance that only the double touches. An allocation ends at
 * a page that is never used; freed addresses are never given out again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#include "tests/gpu/double/double.h"

#define RESERVED ((size_t)1 << 40)
enum { PAGE = 4096, ALIGN = 256, POISON = 0xFF, CANARY = 0xA5, POISON_FILE = 4 << 20 };

static unsigned char *reserve(void) {
    void *at = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        violation("cannot reserve %zu bytes of addresses", RESERVED);
    return at;
}

/* All bytes set: NaN as f32, double and bf16, -1 as an integer. */
void memory_poison(void *at, size_t bytes) {
    memset(at, POISON, bytes);
}

/* A file whose pages are the fresh memory of all allocations, copied when written. It is made once in a process. */
static int poison_file(void) {
    static int file = -1;
    if (file >= 0)
        return file;
    file = memfd_create("poison", MFD_CLOEXEC);
    void *at = file >= 0 && ftruncate(file, POISON_FILE) == 0 ? mmap(NULL, POISON_FILE, PROT_WRITE, MAP_SHARED, file, 0) : NULL;
    if (at == NULL || at == MAP_FAILED)
        violation("cannot make a file of %d bytes in memory", POISON_FILE);
    memory_poison(at, POISON_FILE);
    munmap(at, POISON_FILE);
    return file;
}

void memory_init(void) {
    state()->memory.addresses = reserve();
    state()->memory.shadow = reserve();
    state()->memory.next = PAGE;
}

bool memory_is_device(uint64_t address) {
    uint64_t start = (uint64_t)(uintptr_t)state()->memory.addresses;
    return start != 0 && address >= start && address < start + RESERVED;
}

ptrdiff_t memory_shift(void) {
    return (ptrdiff_t)((uintptr_t)state()->memory.shadow - (uintptr_t)state()->memory.addresses);
}

void *memory_shadow(CUdeviceptr at) {
    return (void *)((uintptr_t)at + (uintptr_t)memory_shift());
}

/* --- blocks --- */

/* The block whose pages hold the address; freed ones as well. Blocks stand in the order of their addresses. */
static struct block *find(uint64_t address) {
    int low = 0, high = state()->memory.blocks_n;
    while (low < high) {
        int middle = (low + high) / 2;
        struct block *block = &state()->memory.blocks[middle];
        if (address < block->pages)
            high = middle;
        else if (address >= block->pages + block->pages_bytes + PAGE)
            low = middle + 1;
        else
            return block;
    }
    return NULL;
}

void memory_describe(uint64_t address, char *ret_text, size_t size) {
    const struct block *block = find(address);
    if (block == NULL) {
        snprintf(ret_text, size, "address %#llx, which nobody allocated", (unsigned long long)address);
        return;
    }
    const struct region *region = block->regions;
    while (region != NULL && !(address >= region->at && address < region->at + region->bytes))
        region = region->next;
    snprintf(ret_text, size, "byte %lld of %s block of %zu bytes%s%s", (long long)(address - block->at),
             block->live ? "a" : "a freed", block->bytes, region != NULL ? ", in region " : "",
             region != NULL ? region->name : "");
}

static bool inside(uint64_t at, size_t bytes, uint64_t start, size_t size) {
    return at >= start && bytes <= size && at - start <= size - bytes;
}

void memory_check(CUdeviceptr at, size_t bytes, const char *what) {
    char place[256];
    memory_describe(at, place, sizeof place);
    if (!memory_is_device(at))
        violation("%s: %#llx is no address of the device", what, (unsigned long long)at);
    const struct block *block = find(at);
    if (block == NULL || !block->live)
        violation("%s: %zu bytes from %s", what, bytes, place);
    if (!inside(at, bytes, block->at, block->bytes))
        violation("%s: %zu bytes from %s leave it", what, bytes, place);
    bool found = block->regions == NULL;
    for (const struct region *region = block->regions; region != NULL && !found; region = region->next)
        found = inside(at, bytes, region->at, region->bytes);
    if (!found)
        violation("%s: %zu bytes from %s are inside no region that is in use", what, bytes, place);
}

size_t memory_left(CUdeviceptr at) {
    const struct block *block = find(at);
    if (block == NULL || !block->live || !inside(at, 1, block->at, block->bytes))
        return 0;
    size_t left = block->at + block->bytes - at;
    for (const struct region *region = block->regions; region != NULL; region = region->next)
        if (inside(at, 1, region->at, region->bytes) && region->at + region->bytes - at < left)
            left = region->at + region->bytes - at;
    return left;
}

/* --- allocation --- */

/* The bytes of the block's pages before it and after it. */
static void slack(const struct block *block, unsigned char *ret_at[2], size_t ret_bytes[2]) {
    ret_at[0] = memory_shadow(block->pages);
    ret_bytes[0] = block->at - block->pages;
    ret_at[1] = memory_shadow(block->at + block->bytes);
    ret_bytes[1] = block->pages + block->pages_bytes - (block->at + block->bytes);
}

static void canaries_write(const struct block *block) {
    unsigned char *at[2];
    size_t bytes[2];
    slack(block, at, bytes);
    for (int i = 0; i < 2; i++)
        memset(at[i], CANARY, bytes[i]);
}

static void canaries_check(const struct block *block) {
    unsigned char *at[2];
    size_t bytes[2];
    slack(block, at, bytes);
    for (int i = 0; i < 2; i++)
        for (size_t b = 0; b < bytes[i]; b++)
            if (at[i][b] != CANARY)
                violation("something wrote %s a block of %zu bytes", i == 0 ? "before" : "behind", block->bytes);
}

/* Pages of poison that cost nothing until they are written. */
static void map_shadow(const struct block *block) {
    unsigned char *at = memory_shadow(block->pages);
    for (size_t done = 0; done < block->pages_bytes; done += POISON_FILE) {
        size_t bytes = block->pages_bytes - done < POISON_FILE ? block->pages_bytes - done : POISON_FILE;
        if (mmap(at + done, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, poison_file(), 0) == MAP_FAILED)
            violation("no memory for the double itself (%zu bytes)", bytes);
    }
}

static struct block *block_new(size_t bytes) {
    if (state()->memory.blocks_n == state()->memory.blocks_room) {
        state()->memory.blocks_room = 2 * state()->memory.blocks_room + 16;
        size_t size = (size_t)state()->memory.blocks_room * sizeof(struct block);
        struct block *blocks = realloc(state()->memory.blocks, size);
        if (blocks == NULL)
            violation("no memory for the double itself (%zu bytes)", size);
        state()->memory.blocks = blocks;
    }
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN, pages = (rounded + PAGE - 1) / PAGE * PAGE;
    if (pages + PAGE > RESERVED - state()->memory.next)
        violation("more than %zu bytes were allocated over the life of one process", RESERVED);
    struct block *block = &state()->memory.blocks[state()->memory.blocks_n++];
    CUdeviceptr start = (uint64_t)(uintptr_t)state()->memory.addresses + state()->memory.next;
    *block = (struct block){.at = start + pages - rounded,
                            .bytes = bytes,
                            .pages = start,
                            .pages_bytes = pages,
                            .live = true,
                            .device = device_physical(state()->current)};
    state()->memory.next += pages + PAGE;
    return block;
}

/* Free bytes of the current device. */
static size_t room(void) {
    return state()->options.memory_bytes - state()->used[device_physical(state()->current)];
}

static CUresult allocate(CUdeviceptr *ret_at, size_t bytes) {
    CUresult result = call_begin("cuMemAlloc", CALL_SYNC);
    if (result == CUDA_SUCCESS && bytes == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && (fault_allocation() || bytes > room()))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS)
        return call_end("cuMemAlloc", result);
    struct block *block = block_new(bytes);
    map_shadow(block);
    canaries_write(block);
    state()->used[block->device] += block->pages_bytes;
    *ret_at = block->at;
    return CUDA_SUCCESS;
}

static void regions_free(struct block *block) {
    for (struct region *region = block->regions, *next; region != NULL; region = next) {
        next = region->next;
        free(region);
    }
    block->regions = NULL;
}

static CUresult release(CUdeviceptr at) {
    CUresult result = call_begin("cuMemFree", CALL_CLEANUP);
    struct block *block = find(at);
    if (block == NULL || block->at != at)
        violation("cuMemFree: %#llx is not the start of a block", (unsigned long long)at);
    if (!block->live)
        violation("cuMemFree: a block of %zu bytes is freed twice", block->bytes);
    /* The driver waits for everything before it frees. */
    if (result == CUDA_SUCCESS)
        result = stream_run_all();
    canaries_check(block);
    regions_free(block);
    block->live = false;
    state()->used[block->device] -= block->pages_bytes;
    mmap(memory_shadow(block->pages), block->pages_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    return result;
}

static CUresult info(size_t *ret_free, size_t *ret_total) {
    CUresult result = call_begin("cuMemGetInfo", CALL_PLAIN);
    if (result != CUDA_SUCCESS)
        return call_end("cuMemGetInfo", result);
    *ret_total = state()->options.memory_bytes;
    *ret_free = room();
    return CUDA_SUCCESS;
}

/* --- regions --- */

static void region_begin(CUdeviceptr at, size_t bytes, const char *name) {
    struct block *block = find(at);
    if (block == NULL || !block->live || !inside(at, bytes, block->at, block->bytes))
        violation("the region %s (%zu bytes) is in no block", name, bytes);
    struct region *region = must_allocate(sizeof *region);
    *region = (struct region){.next = block->regions, .at = at, .bytes = bytes};
    snprintf(region->name, sizeof region->name, "%s", name);
    block->regions = region;
    memory_poison(memory_shadow(at), bytes);
}

static void region_end(CUdeviceptr at, size_t bytes, const char *name) {
    struct block *block = find(at);
    struct region **link = block != NULL ? &block->regions : NULL;
    while (link != NULL && *link != NULL && ((*link)->at != at || (*link)->bytes != bytes || strcmp((*link)->name, name) != 0))
        link = &(*link)->next;
    if (link == NULL || *link == NULL)
        violation("the region %s (%zu bytes) ends, and never began", name, bytes);
    struct region *region = *link;
    *link = region->next;
    free(region);
    memory_poison(memory_shadow(at), bytes);
}

/* --- what a kernel may touch, when gcc checks its accesses --- */

/* The blocks that a launch touches are closed but for its parts: between blocks lie pages that nobody has. */
void memory_restrict(const struct access *accesses, int n) {
    for (int i = 0; i < n; i++) {
        struct block *block = find(accesses[i].at);
        if (block != NULL && !block->restricted)
            ASAN_POISON_MEMORY_REGION(memory_shadow(block->pages), block->pages_bytes);
        if (block != NULL)
            block->restricted = true;
    }
    for (int i = 0; i < n; i++)
        if (memory_is_device(accesses[i].at))
            ASAN_UNPOISON_MEMORY_REGION(memory_shadow(accesses[i].at), accesses[i].bytes);
}

void memory_release(void) {
    for (int i = 0; i < state()->memory.blocks_n; i++) {
        struct block *block = &state()->memory.blocks[i];
        if (block->restricted)
            ASAN_UNPOISON_MEMORY_REGION(memory_shadow(block->pages), block->pages_bytes);
        block->restricted = false;
    }
}

void memory_done(void) {
    for (int i = 0; i < state()->memory.blocks_n; i++) {
        struct block *block = &state()->memory.blocks[i];
        if (block->live && state()->fault.sticky == CUDA_SUCCESS)
            violation("a block of %zu bytes was never freed", block->bytes);
        regions_free(block);
    }
    free(state()->memory.blocks);
    munmap(state()->memory.addresses, RESERVED);
    munmap(state()->memory.shadow, RESERVED);
}

void memory_fill(struct gpu_driver *driver) {
    driver->cuMemAlloc = allocate;
    driver->cuMemFree = release;
    driver->cuMemGetInfo = info;
    driver->region_begin = region_begin;
    driver->region_end = region_end;
}
