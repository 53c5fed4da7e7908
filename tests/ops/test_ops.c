/* Tests of all ops of the compute modules from one case table.
 *
 *     test_ops                     everything: `fd`, then every module of the build
 *     test_ops fd                  gradients of the reference against finite differences of its loss
 *     test_ops module PATH         one module against the reference, in f32 and, where it offers it, in bf16
 *
 * Either may be followed by a word: only cases with it in their name. The build is RESIDUUM_BUILD, or build/release. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/checks.h"

enum { TESTS_MAX = 2048 };

/* One test: a case and what is done with it. */
struct job {
    const struct residuum_backend *ref, *module; /* no module: finite differences of the reference */
    enum spec_precision precision;
    const struct op_case *op_case;
    char name[160];
};

struct suite {
    const struct residuum_backend *ref;
    const char *only; /* NULL: all cases */
    struct job jobs[TESTS_MAX];
    struct CMUnitTest tests[TESTS_MAX];
    size_t n;
};

static void run_job(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    if (job->module == NULL)
        check_differences(job->ref, job->op_case, &report);
    else
        check_against(job->ref, job->module, job->precision, job->op_case, &report);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

static void add_jobs(struct suite *suite, const struct residuum_backend *module, enum spec_precision precision) {
    for (size_t i = 0; i < op_cases_n && suite->n < TESTS_MAX; i++) {
        if (suite->only != NULL && strstr(op_cases[i].name, suite->only) == NULL)
            continue;
        struct job *job = &suite->jobs[suite->n];
        *job = (struct job){.ref = suite->ref, .module = module, .precision = precision, .op_case = &op_cases[i]};
        snprintf(job->name, sizeof job->name, "%s %s: %s", module == NULL ? "finite differences," : module->name,
                 spec_precision_name(precision), op_cases[i].name);
        suite->tests[suite->n++] = (struct CMUnitTest){.name = job->name, .test_func = run_job, .initial_state = job};
    }
}

static int add_module(struct suite *suite, const char *path) {
    struct report report = {0};
    const struct residuum_backend *module = module_open(path, &report);
    struct backend_info info;
    struct err err = {0};
    if (module == NULL || module->probe(&info, &err) < 0) {
        fprintf(stderr, "%s: %s\n", path, module == NULL ? report.first : err.text);
        return -1;
    }
    add_jobs(suite, module, PRECISION_F32);
    if (info.bf16)
        add_jobs(suite, module, PRECISION_BF16);
    else
        printf("%s does not offer bf16 on this machine\n", module->name);
    return 0;
}

static const char *build_folder(void) {
    const char *folder = getenv("RESIDUUM_BUILD");
    return folder != NULL && folder[0] != '\0' ? folder : "build/release";
}

static int add_all(struct suite *suite) {
    char pattern[512];
    glob_t found;
    add_jobs(suite, NULL, PRECISION_F32);
    snprintf(pattern, sizeof pattern, "%s/backend-*.so", build_folder());
    int rc = glob(pattern, 0, NULL, &found);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
        rc = add_module(suite, found.gl_pathv[i]);
    globfree(&found);
    return rc;
}

static int open_ref(struct suite *suite) {
    char path[512];
    struct report report = {0};
    snprintf(path, sizeof path, "%s/backend-ref.so", build_folder());
    suite->ref = module_open(path, &report);
    if (suite->ref == NULL)
        fprintf(stderr, "%s\n", report.first);
    return suite->ref == NULL ? -1 : 0;
}

static int plan_jobs(struct suite *suite, int argc, char **argv) {
    if (open_ref(suite) < 0)
        return -1;
    if (argc == 1)
        return add_all(suite);
    bool fd = strcmp(argv[1], "fd") == 0, module = strcmp(argv[1], "module") == 0 && argc > 2;
    if (!fd && !module) {
        fprintf(stderr, "usage: test_ops [fd [WORD] | module PATH [WORD]]\n");
        return -1;
    }
    int words = fd ? 2 : 3;
    suite->only = argc > words ? argv[words] : NULL;
    if (module)
        return add_module(suite, argv[2]);
    add_jobs(suite, NULL, PRECISION_F32);
    return 0;
}

int main(int argc, char **argv) {
    struct suite *suite = calloc(1, sizeof *suite);
    if (suite == NULL || plan_jobs(suite, argc, argv) < 0) {
        free(suite);
        return 2;
    }
    int failed = _cmocka_run_group_tests("ops", suite->tests, suite->n, NULL, NULL);
    printf("%zu passed, %d failed\n", suite->n - (size_t)failed, failed);
    free(suite);
    return failed == 0 ? 0 : 1;
}
