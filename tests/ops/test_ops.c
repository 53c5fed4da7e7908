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
#include "tests/ops/random.h"

enum { TESTS_MAX = 2048, MODULES_MAX = 8 };

/* One test: what is done, with what. */
struct job {
    void (*run)(const struct job *job, struct report *report);
    const struct residuum_backend *ref, *module;
    enum spec_precision precision;
    const struct op_case *op_case;
    const struct training_case *training_case;
    int random; /* the number of a random graph */
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
    job->run(job, &report);
    if (report.n > 0)
        fail_msg("%s: %s (%d findings)", job->name, report.first, report.n);
}

static void run_differences(const struct job *job, struct report *report) {
    check_differences(job->ref, job->op_case, report);
}

static void run_training(const struct job *job, struct report *report) {
    check_training(job->ref, job->module, job->precision, job->training_case, report);
}

static void check_subject(const struct job *job, int built, struct subject *subject, const struct err *err,
                          struct report *report) {
    if (built < 0)
        report_add(report, "%s", err->text);
    else
        check_against(job->ref, job->module, job->precision, subject, report);
    subject_done(subject);
}

static void run_case(const struct job *job, struct report *report) {
    struct subject subject = {0};
    struct err err = {0};
    check_subject(job, case_subject(job->op_case, &subject, &err), &subject, &err, report);
}

static void run_random(const struct job *job, struct report *report) {
    struct subject subject = {0};
    struct err err = {0};
    check_subject(job, random_build(job->random, &subject, &err), &subject, &err, report);
}

/* Adds a test when the words of the command line want it. */
static void add_job(struct suite *suite, struct job plan, const char *who, const char *name) {
    if ((suite->only != NULL && strstr(name, suite->only) == NULL) || suite->n == TESTS_MAX)
        return;
    struct job *job = &suite->jobs[suite->n];
    *job = plan;
    job->ref = suite->ref;
    snprintf(job->name, sizeof job->name, "%s %s: %s", who, spec_precision_name(plan.precision), name);
    suite->tests[suite->n++] = (struct CMUnitTest){.name = job->name, .test_func = run_job, .initial_state = job};
}

static void add_differences(struct suite *suite) {
    for (size_t i = 0; i < op_cases_n; i++)
        add_job(suite, (struct job){.run = run_differences, .op_case = &op_cases[i]}, "finite differences,", op_cases[i].name);
}

static void add_jobs(struct suite *suite, const struct residuum_backend *module, enum spec_precision precision) {
    struct job job = {.module = module, .precision = precision};
    job.run = run_case;
    for (size_t i = 0; i < op_cases_n; i++) {
        job.op_case = &op_cases[i];
        add_job(suite, job, module->name, op_cases[i].name);
    }
    job.run = run_training;
    for (size_t i = 0; i < training_cases_n; i++) {
        job.training_case = &training_cases[i];
        add_job(suite, job, module->name, training_cases[i].name);
    }
    job.run = run_random;
    for (job.random = 0; job.random < RANDOM_GRAPHS; job.random++) {
        char name[32];
        snprintf(name, sizeof name, "random graph %d", job.random);
        add_job(suite, job, module->name, name);
    }
}

/* A precision that a module does not offer must be refused when a plan is compiled. */
static void run_refusal(const struct job *job, struct report *report) {
    struct report refused = {0};
    struct err err = {0};
    struct subject subject = {0};
    struct rig rig = {0};
    struct backend_plan_options options = {.batch = 1, .precision = job->precision};
    if (case_subject(&op_cases[0], &subject, &err) < 0)
        report_add(report, "%s", err.text);
    else if (rig_init(&rig, job->module, subject.graph, &options, &refused) == 0)
        report_add(report, "%s does not offer %s, but compiles for it", job->module->name, spec_precision_name(job->precision));
    rig_done(&rig);
    subject_done(&subject);
}

static void add_module(struct suite *suite, const struct residuum_backend *module, struct report *report) {
    add_jobs(suite, module, PRECISION_F32);
    if (module_offers(module, PRECISION_BF16, report))
        add_jobs(suite, module, PRECISION_BF16);
    else
        add_job(suite, (struct job){.run = run_refusal, .module = module, .precision = PRECISION_BF16}, module->name,
                "is refused");
}

static void add_all(struct suite *suite, struct report *report) {
    const struct residuum_backend *modules[MODULES_MAX];
    size_t n = modules_open(modules, MODULES_MAX, report);
    add_differences(suite);
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
        add_differences(suite);
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
