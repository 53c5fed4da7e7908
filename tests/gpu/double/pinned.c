/* Pinned host memory: copies read it when they are done, not when they are queued, so until then it is write-protected. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/gpu/double/double.h"

enum { PAGE = 4096 };

struct pinned {
    struct pinned *next;
    unsigned char *at;
    size_t bytes, pages_bytes;
    int readers; /* queued copies that read it */
};

static struct pinned *find(const void *at) {
    struct pinned *pinned = state()->pinned;
    while (pinned != NULL && !((const unsigned char *)at >= pinned->at && (const unsigned char *)at < pinned->at + pinned->bytes))
        pinned = pinned->next;
    return pinned;
}

bool pinned_has(const void *at, size_t bytes, const char *what) {
    const struct pinned *pinned = find(at);
    if (pinned != NULL && bytes > pinned->bytes - (size_t)((const unsigned char *)at - pinned->at))
        violation("%s: %zu bytes leave pinned memory of %zu bytes", what, bytes, pinned->bytes);
    return pinned != NULL;
}

bool pinned_describe(uint64_t address, char *ret_text, size_t size) {
    const struct pinned *pinned = find((const void *)(uintptr_t)address);
    if (pinned == NULL)
        return false;
    snprintf(ret_text, size, "byte %llu of %zu", (unsigned long long)(address - (uint64_t)(uintptr_t)pinned->at), pinned->bytes);
    return pinned->readers > 0;
}

/* The whole allocation: pages cannot be protected in part. */
void pinned_protect(const void *at) {
    struct pinned *pinned = find(at);
    if (pinned != NULL && pinned->readers++ == 0)
        mprotect(pinned->at, pinned->pages_bytes, PROT_READ);
}

void pinned_unprotect(const void *at) {
    struct pinned *pinned = find(at);
    if (pinned != NULL && --pinned->readers == 0)
        mprotect(pinned->at, pinned->pages_bytes, PROT_READ | PROT_WRITE);
}

/* --- the table's functions --- */

static CUresult allocate(void **ret_at, size_t bytes) {
    CUresult result = call_begin("cuMemAllocHost", CALL_SYNC);
    if (result == CUDA_SUCCESS && bytes == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return call_end("cuMemAllocHost", result);
    struct pinned *pinned = must_allocate(sizeof *pinned);
    *pinned = (struct pinned){.next = state()->pinned, .bytes = bytes, .pages_bytes = (bytes + PAGE - 1) / PAGE * PAGE};
    pinned->at = mmap(NULL, pinned->pages_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pinned->at == MAP_FAILED)
        violation("no memory for the double itself (%zu bytes)", bytes);
    memory_poison(pinned->at, pinned->pages_bytes);
    state()->pinned = pinned;
    *ret_at = pinned->at;
    return CUDA_SUCCESS;
}

static CUresult release(void *at) {
    CUresult result = call_begin("cuMemFreeHost", CALL_CLEANUP);
    struct pinned **link = &state()->pinned;
    while (*link != NULL && (*link)->at != at)
        link = &(*link)->next;
    if (*link == NULL)
        violation("cuMemFreeHost: %p is not the start of pinned memory, or was freed before", at);
    struct pinned *pinned = *link;
    if (pinned->readers > 0 && result == CUDA_SUCCESS)
        violation("cuMemFreeHost: a copy that is still queued reads these %zu bytes", pinned->bytes);
    *link = pinned->next;
    munmap(pinned->at, pinned->pages_bytes);
    free(pinned);
    return result;
}

void pinned_done(void) {
    while (state()->pinned != NULL) {
        struct pinned *pinned = state()->pinned;
        if (state()->fault.sticky == CUDA_SUCCESS)
            violation("%zu bytes of pinned memory were never freed", pinned->bytes);
        state()->pinned = pinned->next;
        munmap(pinned->at, pinned->pages_bytes);
        free(pinned);
    }
}

void pinned_fill(struct gpu_driver *driver) {
    driver->cuMemAllocHost = allocate;
    driver->cuMemFreeHost = release;
}
