/* The GPU's kernels, compiled as C, against plain loops in double (or, where every bit counts, against the trainer): any number
 * of blocks and any order of threads give the same bits, and nothing beside the outputs is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/backend/cudnn/kernels/host.h"
#include "server/backend/cudnn/kernels/kernels.h"
#include "tests/unit/gpu_kernels.h"

static int start(void **state) {
    *state = calloc(KERNELS_N, sizeof(bool));
    return *state == NULL ? -1 : 0;
}

static int finish(void **state) {
    free(*state);
    return 0;
}

/* The last test: by then all others have run. */
static void every_kernel_has_a_test(void **state) {
    const bool *ran = *state;
    for (int kernel = 0; kernel < KERNELS_N; kernel++)
        if (!ran[kernel])
            fail_msg("no test has run %s", kernel_c_table()[kernel].symbol);
}

static void kernels_are_found_by_symbol(void **state) {
    (void)state;
    assert_ptr_equal(kernel_c_find("residuum_update"), &kernel_c_table()[KERNEL_update]);
    assert_null(kernel_c_find("update"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define ROW(name) cmocka_unit_test(test_##name),
        GPU_KERNEL_TESTS(ROW)
#undef ROW
            cmocka_unit_test(kernels_are_found_by_symbol),
        cmocka_unit_test(every_kernel_has_a_test)};
    return cmocka_run_group_tests(tests, start, finish);
}
