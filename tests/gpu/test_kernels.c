/* How the kernels come onto a device: those that nvcc has compiled, or the embedded source compiled by the real NVRTC, which
 * needs no GPU. The driver is a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/backend/cudnn/kernels/embedded.h"
#include "server/backend/cudnn/kernels/kernels.h"
#include "server/backend/cudnn/kernels/load.h"

enum { CUDA_VERSION_OF_TEST = 13000 };

static const char *const symbols[] = {
#define SYMBOL(name, addresses) "residuum_" #name,
    KERNELS(SYMBOL)
#undef SYMBOL
};

/* --- the fake driver --- */

/* What it answers to the first image, and what it has been given. */
static struct {
    CUresult first;
    int loads;
    const void *image;
    char start[4]; /* of the last image */
} fake;

static CUresult load_data(CUmodule *ret_module, const void *image) {
    CUresult result = fake.loads++ == 0 ? fake.first : CUDA_SUCCESS;
    fake.image = image;
    memcpy(fake.start, image, sizeof fake.start);
    if (result == CUDA_SUCCESS)
        *ret_module = (CUmodule)(uintptr_t)1;
    return result;
}

static CUresult version(int *ret_version) {
    *ret_version = CUDA_VERSION_OF_TEST;
    return CUDA_SUCCESS;
}

static CUresult no_text(CUresult result, const char **ret_text) {
    (void)result;
    *ret_text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

static struct gpu_driver driver_that_answers(CUresult first) {
    memset(&fake, 0, sizeof fake);
    fake.first = first;
    return (struct gpu_driver){
        .cuModuleLoadData = load_data, .cuDriverGetVersion = version, .cuGetErrorName = no_text, .cuGetErrorString = no_text};
}

static bool has_compiler(void) {
    struct gpu_compiler compiler;
    if (gpu_compiler_open(CUDA_VERSION_OF_TEST, &compiler, NULL) != 0)
        return false;
    gpu_compiler_close(&compiler);
    return true;
}

/* --- NVRTC --- */

static bool holds(const char *code, size_t size, const char *name) {
    return memmem(code, size, name, strlen(name) + 1) != NULL;
}

static void check_code(const struct gpu_compiler *compiler, int compute) {
    struct err err = {0};
    void *code = NULL;
    size_t size = 0;
    if (kernels_compile(compiler, compute, &code, &size, &err) != 0)
        fail_msg("%s", err.text);
    assert_memory_equal(code, "\177ELF", 4);
    for (int kernel = 0; kernel < KERNELS_N; kernel++)
        if (!holds(code, size, symbols[kernel]))
            fail_msg("the cubin for %d has no %s", compute, symbols[kernel]);
    free(code);
}

static void source_compiles_on_its_own(void **state) {
    (void)state;
    struct gpu_compiler compiler;
    if (gpu_compiler_open(CUDA_VERSION_OF_TEST, &compiler, NULL) != 0)
        skip();
    check_code(&compiler, 75);
    check_code(&compiler, 90);
    gpu_compiler_close(&compiler);
}

static void unknown_device_is_told(void **state) {
    (void)state;
    struct gpu_compiler compiler;
    struct err err = {0};
    void *code = &err;
    size_t size = 7;
    if (gpu_compiler_open(CUDA_VERSION_OF_TEST, &compiler, NULL) != 0)
        skip();
    assert_int_equal(kernels_compile(&compiler, 999, &code, &size, &err), -1);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "compute capability 99.9"));
    assert_true(code == &err && size == 7);
    gpu_compiler_close(&compiler);
}

/* --- loading --- */

static void fatbin_is_taken_first(void **state) {
    (void)state;
    struct gpu_driver driver = driver_that_answers(CUDA_SUCCESS);
    struct err err = {0};
    CUmodule module = NULL;
    if (kernels_fatbin_size == 0)
        skip();
    assert_int_equal(kernels_load(&driver, 90, &module, &err), 0);
    assert_non_null(module);
    assert_int_equal(fake.loads, 1);
    assert_ptr_equal(fake.image, kernels_fatbin);
    assert_int_equal((uintptr_t)fake.image % 8, 0);
}

static void what_does_not_fit_is_compiled(void **state) {
    (void)state;
    static const CUresult reasons[] = {CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_JIT_COMPILER_NOT_FOUND};
    if (!has_compiler())
        skip();
    for (int i = 0; i < (kernels_fatbin_size == 0 ? 1 : 2); i++) {
        struct gpu_driver driver = driver_that_answers(kernels_fatbin_size == 0 ? CUDA_SUCCESS : reasons[i]);
        struct err err = {0};
        CUmodule module = NULL;
        if (kernels_load(&driver, 80, &module, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(fake.loads, kernels_fatbin_size == 0 ? 1 : 2);
        assert_memory_equal(fake.start, "\177ELF", 4);
    }
}

static void other_errors_are_errors(void **state) {
    (void)state;
    struct gpu_driver driver = driver_that_answers(CUDA_ERROR_OUT_OF_MEMORY);
    struct err err = {0};
    CUmodule module = NULL;
    if (kernels_fatbin_size == 0)
        skip();
    assert_int_equal(kernels_load(&driver, 90, &module, &err), -1);
    assert_int_equal(err.code, ERR_MEMORY);
    assert_int_equal(fake.loads, 1);
    assert_null(module);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(source_compiles_on_its_own), cmocka_unit_test(unknown_device_is_told),
                                       cmocka_unit_test(fatbin_is_taken_first), cmocka_unit_test(what_does_not_fit_is_compiled),
                                       cmocka_unit_test(other_errors_are_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
