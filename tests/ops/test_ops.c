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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/checks.h"

enum { TESTS_MAX = 2048, MODULES_MAX = 8 };

/* One test: a case and what is done with it. */
struct job {
    const struct residuum_backend *ref, *module; /* no module: finite differences of the reference */
    enum spec_precision precision;
    const struct op_case *op_case;             /* either */
    const struct training_case *training_case; /* or */
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
    else if (job->op_case != NULL)
        check_against(job->ref, job->module, job->precision, job->op_case, &report);
    else
        check_training(job->ref, job->module, job->precision, job->training_case, &report);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

/* Adds a test when the words of the command line want it. */
static void add_job(struct suite *suite, struct job plan, const char *name) {
    if ((suite->only != NULL && strstr(name, suite->only) == NULL) || suite->n == TESTS_MAX)
        return;
    struct job *job = &suite->jobs[suite->n];
    *job = plan;
    snprintf(job->name, sizeof job->name, "%s %s: %s", plan.module == NULL ? "finite differences," : plan.module->name,
             spec_precision_name(plan.precision), name);
    suite->tests[suite->n++] = (struct CMUnitTest){.name = job->name, .test_func = run_job, .initial_state = job};
}

static void add_jobs(struct suite *suite, const struct residuum_backend *module, enum spec_precision precision) {
    for (size_t i = 0; i < op_cases_n; i++)
        add_job(suite, (struct job){suite->ref, module, precision, .op_case = &op_cases[i]}, op_cases[i].name);
    for (size_t i = 0; module != NULL && i < training_cases_n; i++)
        add_job(suite, (struct job){suite->ref, module, precision, .training_case = &training_cases[i]}, training_cases[i].name);
}

/* A precision that a module does not offer must be refused when a plan is compiled. */
static void run_refusal(void **state) {
    const struct job *job = *state;
    struct report report = {0};
    struct err err = {0};
    struct graph *graph = case_build(job->op_case, &err);
    if (graph == NULL)
        fail_msg("%s", err.text);
    struct rig rig;
    struct backend_plan_options options = {.batch = 1, .precision = PRECISION_BF16};
    int rc = rig_init(&rig, job->module, graph, &options, &report);
    rig_done(&rig);
    graph_free(graph);
    if (rc == 0)
        fail_msg("%s does not offer bf16, but compiles for it", job->module->name);
}

static void add_refusal(struct suite *suite, const struct residuum_backend *module) {
    struct job *job = &suite->jobs[suite->n];
    *job = (struct job){.module = module, .op_case = &op_cases[0]};
    snprintf(job->name, sizeof job->name, "%s bf16: is refused", module->name);
    suite->tests[suite->n++] = (struct CMUnitTest){.name = job->name, .test_func = run_refusal, .initial_state = job};
}

static void add_module(struct suite *suite, const struct residuum_backend *module, struct report *report) {
    add_jobs(suite, module, PRECISION_F32);
    if (module_offers(module, PRECISION_BF16, report))
        add_jobs(suite, module, PRECISION_BF16);
    else
        add_refusal(suite, module);
}

static void add_all(struct suite *suite, struct report *report) {
    const struct residuum_backend *modules[MODULES_MAX];
    size_t n = modules_open(modules, MODULES_MAX, report);
    add_jobs(suite, NULL, PRECISION_F32);
    for (size_t i = 0; i < n; i++)
        add_module(suite, modules[i], report);
}

static void add_path(struct suite *suite, const char *path, struct report *report) {
    const struct residuum_backend *module = module_open(path, report);
    if (module != NULL)
        add_module(suite, module, report);
}

static void plan_jobs(struct suite *suite, int argc, char **argv, struct report *report) {
    char path[512];
    snprintf(path, sizeof path, "%s/backend-ref.so", build_folder());
    suite->ref = module_open(path, report);
    bool fd = argc > 1 && strcmp(argv[1], "fd") == 0, module = argc > 2 && strcmp(argv[1], "module") == 0;
    int words = module ? 3 : 2;
    suite->only = argc > words ? argv[words] : NULL;
    if (module)
        add_path(suite, argv[2], report);
    else if (fd)
        add_jobs(suite, NULL, PRECISION_F32);
    else if (argc == 1)
        add_all(suite, report);
    else
        report_add(report, "usage: test_ops [fd [WORD] | module PATH [WORD]]");
}

int main(int argc, char **argv) {
    struct suite *suite = calloc(1, sizeof *suite);
    struct report report = {0};
    if (suite == NULL || setenv("OMP_WAIT_POLICY", "passive", 0) != 0) /* threads that wait for others leave them the core */
        return 2;
    plan_jobs(suite, argc, argv, &report);
    if (report.n > 0) {
        fprintf(stderr, "%s\n", report.first);
        free(suite);
        return 2;
    }
    int failed = _cmocka_run_group_tests("ops", suite->tests, suite->n, NULL, NULL);
    printf("%zu passed, %d failed\n", suite->n - (size_t)failed, failed);
    free(suite);
    return failed == 0 ? 0 : 1;
}
