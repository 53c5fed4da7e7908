/* Memory that runs out when a test says so. A test that uses it is linked with -Wl,--wrap=malloc,--wrap=calloc. */
#ifndef TESTS_ALLOC_RIG_H
#define TESTS_ALLOC_RIG_H

#include <stdbool.h>

/* Calls attempt (our objects' and jansson's allocations) with memory for 0, 1, 2, ... allocations until it succeeds, which it
 * must do within limit. Returns how often it failed. */
int alloc_rig_starve(bool (*attempt)(void), int limit);

#endif
