/* One allocation for all tensors of a plan; tensors that are never alive together share memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "server/backend/onednn/private.h"

enum { HUGE_PAGE = 2 << 20, SMALL_PAGE = 4096 };

/* Transparent huge pages gave 5 to 15 % of a training step (notes of the project): a step walks through far more memory than
 * the TLB covers with small pages. Pages that the kernel takes back read as zeros (madvise(2)) and are cleared when they are
 * first touched, which the first step does with all threads: clearing 1.2 GiB here took a second before a job's first progress.
 */
void *arena_pages(size_t size) {
    size_t page = size >= HUGE_PAGE ? HUGE_PAGE : SMALL_PAGE;
    if (size > SIZE_MAX - HUGE_PAGE)
        return NULL;
    size = round_up(size ? size : 1, page);
    void *data = aligned_alloc(page, size);
    if (!data)
        return NULL;
    if (page == HUGE_PAGE) {
        (void)madvise(data, size, MADV_HUGEPAGE); /* only a hint: small pages work too */
        if (madvise(data, size, MADV_DONTNEED) == 0)
            return data;
    }
    return memset(data, 0, size);
}

int arena_buffer(struct arena *arena, size_t size, int time, struct err *err) {
    if (arena->buffers_n == arena->buffers_max) {
        int max = arena->buffers_max ? 2 * arena->buffers_max : 64;
        struct buffer *grown = realloc(arena->buffers, (size_t)max * sizeof *grown);
        if (!grown) {
            err_set(err, ERR_MEMORY, "out of memory while planning the buffers of a model");
            return NO_BUFFER;
        }
        arena->buffers = grown;
        arena->buffers_max = max;
    }
    arena->buffers[arena->buffers_n] = (struct buffer){.size = round_up(size, ALIGNMENT), .first = time, .last = time};
    return arena->buffers_n++;
}

void arena_touch(struct arena *arena, int buffer, int time) {
    if (buffer != NO_BUFFER && arena->buffers[buffer].last < time)
        arena->buffers[buffer].last = time;
}

static bool meet(const struct buffer *a, const struct buffer *b) {
    return a->first <= b->last && b->first <= a->last;
}

static int by_offset(const void *a, const void *b) {
    const struct buffer *left = *(const struct buffer *const *)a, *right = *(const struct buffer *const *)b;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* The lowest gap that holds buffer, given the already placed ones that live at the same time, sorted by offset. */
static size_t lowest_gap(struct buffer *const *placed, int placed_n, size_t size) {
    size_t offset = 0;
    for (int i = 0; i < placed_n && placed[i]->offset < offset + size; i++)
        if (placed[i]->offset + placed[i]->size > offset)
            offset = placed[i]->offset + placed[i]->size;
    return offset;
}

/* Places buffers in the order of their birth, each as low as it fits: what follows in time then reuses memory that is still in
 * the caches. */
int arena_commit(struct arena *arena, struct err *err) {
    struct buffer **placed = malloc(((size_t)arena->buffers_n + 1) * sizeof(struct buffer *));
    if (!placed)
        return err_set(err, ERR_MEMORY, "out of memory while planning the buffers of a model");
    for (int i = 0; i < arena->buffers_n; i++) {
        struct buffer *buffer = &arena->buffers[i];
        int n = 0;
        for (int j = 0; j < i; j++)
            if (meet(buffer, &arena->buffers[j]))
                placed[n++] = &arena->buffers[j];
        qsort(placed, (size_t)n, sizeof(struct buffer *), by_offset);
        buffer->offset = lowest_gap(placed, n, buffer->size);
        if (buffer->offset + buffer->size > arena->size)
            arena->size = buffer->offset + buffer->size;
    }
    free(placed);
    arena->data = arena_pages(arena->size);
    if (!arena->data)
        return err_set(err, ERR_MEMORY, "out of memory: this model needs %zu MiB for its activations; use a smaller batch",
                       arena->size >> 20);
    return 0;
}

void *arena_block(struct arena *arena, size_t size, struct err *err) {
    if (arena->blocks_n == arena->blocks_max) {
        int max = arena->blocks_max ? 2 * arena->blocks_max : 64;
        void **grown = realloc(arena->blocks, (size_t)max * sizeof *grown);
        if (!grown) {
            err_set(err, ERR_MEMORY, "out of memory while compiling a model");
            return NULL;
        }
        arena->blocks = grown;
        arena->blocks_max = max;
    }
    size = round_up(size ? size : 1, ALIGNMENT);
    bool large = size >= HUGE_PAGE;
    void *block = large ? arena_pages(size) : aligned_alloc(ALIGNMENT, size);
    if (!block) {
        err_set(err, ERR_MEMORY, "out of memory: %zu bytes for the working data of a model", size);
        return NULL;
    }
    arena->blocks[arena->blocks_n++] = large ? block : memset(block, 0, size);
    arena->blocks_bytes += (int64_t)size;
    return block;
}

void arena_done(struct arena *arena) {
    for (int i = 0; i < arena->blocks_n; i++)
        free(arena->blocks[i]);
    free(arena->blocks);
    free(arena->buffers);
    free(arena->data);
}
