/* Where blocks of memory with known lifetimes lie in one region: the largest first, each at the lowest place that is free for as
 * long as it is needed ("greedy by size", Pisarchyk and Lee 2020, arXiv:2001.03288). */
#include <stdlib.h>
#include <string.h>

#include "server/graph/gpu_private.h"

/* Larger ones first; equal ones in their order, so that the same blocks always lie in the same places. */
static int compare(const void *a, const void *b) {
    const struct gpu_block *x = *(struct gpu_block *const *)a, *y = *(struct gpu_block *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool meet(const struct gpu_block *a, const struct gpu_block *b) {
    return (a->kept && b->kept) || (a->first <= b->last && b->first <= a->last);
}

/* The lowest place for block beside the placed ones, which are sorted by their places. */
static int64_t lowest_place(const struct gpu_block *block, struct gpu_block *const *placed, int n) {
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        if (!meet(block, placed[i]))
            continue;
        if (placed[i]->at >= at + block->bytes)
            break;
        int64_t end = gpu_round_up(placed[i]->at + placed[i]->bytes, GPU_ALIGN);
        at = end > at ? end : at;
    }
    return at;
}

static void insert(struct gpu_block *block, struct gpu_block **placed, int n) {
    int i = n;
    while (i > 0 && placed[i - 1]->at > block->at)
        i--;
    memmove(placed + i + 1, placed + i, (size_t)(n - i) * sizeof(struct gpu_block *));
    placed[i] = block;
}

int gpu_place(struct gpu_block *blocks, int n, int64_t *ret_bytes, struct err *err) {
    struct gpu_block **order = calloc((size_t)n, sizeof *order), **placed = calloc((size_t)n, sizeof *placed);
    int failed = order == NULL || placed == NULL ? err_set(err, ERR_MEMORY, "No memory for placing %d tensors", n) : 0;
    int64_t bytes = 0;
    int taking = 0;
    for (int i = 0; i < n && failed == 0; i++)
        if (blocks[i].bytes > 0)
            order[taking++] = &blocks[i];
    if (failed == 0)
        qsort(order, (size_t)taking, sizeof *order, compare);
    for (int i = 0; i < taking; i++) {
        order[i]->at = lowest_place(order[i], placed, i);
        insert(order[i], placed, i);
        int64_t end = gpu_round_up(order[i]->at + order[i]->bytes, GPU_ALIGN);
        bytes = end > bytes ? end : bytes;
    }
    free(order);
    free(placed);
    if (failed == 0)
        *ret_bytes = bytes;
    return failed;
}
