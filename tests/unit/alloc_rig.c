/* The linker puts these in the place of malloc and calloc: see alloc_rig.h. */
#include "tests/unit/alloc_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

/* Allocations that may still succeed; negative: all of them. */
static long allowed = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static bool may_allocate(void) {
    if (allowed > 0)
        allowed--;
    else if (allowed == 0)
        return false;
    return true;
}

void *__wrap_malloc(size_t size) {
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size) {
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

int alloc_rig_starve(bool (*attempt)(void), int limit) {
    json_set_alloc_funcs(malloc, free);
    for (int n = 0; n <= limit; n++) {
        allowed = n;
        bool done = attempt();
        allowed = -1;
        if (done)
            return n;
    }
    fail_msg("it fails even with memory for %d allocations", limit);
    return -1;
}
