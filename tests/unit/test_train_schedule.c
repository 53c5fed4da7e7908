/* Runs every case of tests/cases/schedule: a job document, the steps of an epoch, and PyTorch's learning rate at every step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/spec.h"
#include "tests/unit/case_rig.h"

static const char folder[] = "tests/cases/schedule";

static void check_rates(const char *name, const json_t *test, const struct spec *spec) {
    uint64_t steps = (uint64_t)json_integer_value(json_object_get(test, "steps_per_epoch"));
    const json_t *rates = json_object_get(test, "lr");
    assert_int_equal(json_array_size(rates), steps * (uint64_t)spec->epochs);
    for (size_t i = 0; i < json_array_size(rates); i++) {
        double want = json_number_value(json_array_get(rates, i)), got = spec_lr(spec, i, steps);
        /* PyTorch multiplies step by step, so rounding adds up; relative to the largest rate where one comes near 0. */
        if (!(fabs(got - want) <= 1e-10 * want + 1e-13 * spec->schedule.lr))
            fail_msg("%s: the rate of step %zu is %.17g; PyTorch's is %.17g", name, i, got, want);
    }
}

static void run_case(const char *name) {
    char path[512];
    json_error_t error;
    struct spec spec;
    struct err_list errors = {0};
    struct spec_context context = spec_context_builtin(1, 1);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_t *test = json_load_file(path, 0, &error);
    if (test == NULL)
        fail_msg("%s: %s", path, error.text);
    if (spec_parse(json_object_get(test, "spec"), &context, &spec, &errors) != 0)
        fail_msg("%s: %s %s", name, errors.items[0].pointer, errors.items[0].text);
    check_rates(name, test, &spec);
    json_decref(test);
}

static void rates_are_those_of_pytorch(void **state) {
    (void)state;
    assert_true(case_rig_each(folder, run_case) >= 11);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rates_are_those_of_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
