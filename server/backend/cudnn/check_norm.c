/* The self-check of cuDNN's fused batch norm: two steps forward and back, against our own kernels on the same device. Only where
 * it passes do trainings use it (the feature "fused-norm"). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/check.h"

/* Values, gradients, statistics of a batch norm; one side's results, from the same inputs. */
struct side {
    CUdeviceptr y, mean, running_mean, running_var, dx, dadd, dgamma, dbeta; /* mean: [2][c], 1 / deviation behind it */
};

struct inputs {
    CUdeviceptr x, add, gamma, beta, dy, step;
};

struct comparison {
    struct check_tensors tensors;
    struct norm_key key;
    int64_t count; /* of x */
    struct inputs in;
    struct side fused, own;
    CUdeviceptr mask, partial;
};

static const float epsilon = 1e-5f, momentum = 0.1f;

/* --- memory --- */

static CUdeviceptr constant(struct check_tensors *tensors, int c, float value) {
    float *values = malloc((size_t)c * sizeof *values);
    if (values == NULL) {
        tensors->failed = err_set(tensors->err, ERR_MEMORY, "No memory for %d channels", c);
        return 0;
    }
    for (int i = 0; i < c; i++)
        values[i] = value;
    CUdeviceptr at = check_copy(tensors, values, c * (int64_t)sizeof *values);
    free(values);
    return at;
}

static struct side side_new(struct comparison *comparison) {
    struct check_tensors *tensors = &comparison->tensors;
    int64_t values = comparison->count * 2, channels = comparison->key.c * (int64_t)sizeof(float);
    return (struct side){.y = check_empty(tensors, values),
                         .mean = check_empty(tensors, 2 * channels),
                         .running_mean = constant(tensors, comparison->key.c, 0),
                         .running_var = constant(tensors, comparison->key.c, 1),
                         .dx = check_empty(tensors, values),
                         .dadd = check_empty(tensors, values),
                         .dgamma = check_empty(tensors, channels),
                         .dbeta = check_empty(tensors, channels)};
}

static void comparison_init(struct comparison *comparison, struct backend *backend, const struct norm_key *key, struct err *err) {
    *comparison = (struct comparison){
        .tensors = {.backend = backend, .err = err}, .key = *key, .count = (int64_t)key->n * key->h * key->w * key->c};
    struct check_tensors *tensors = &comparison->tensors;
    unsigned char step[KERNEL_STEP_BYTES] = {0};
    struct kernel_step full = {.n = key->n};
    memcpy(step, &full, sizeof full);
    comparison->in = (struct inputs){.x = check_random(tensors, comparison->count, true),
                                     .add = check_random(tensors, comparison->count, true),
                                     .gamma = check_random(tensors, key->c, false),
                                     .beta = check_random(tensors, key->c, false),
                                     .dy = check_random(tensors, comparison->count, true),
                                     .step = check_copy(tensors, step, sizeof step)};
    comparison->fused = side_new(comparison);
    comparison->own = side_new(comparison);
    comparison->mask = check_empty(tensors, norm_mask_bytes(key));
    comparison->partial = check_empty(tensors, GPU_SLICES * 2 * key->c * (int64_t)sizeof(double));
}

/* --- the two ways --- */

static void run_fused(struct comparison *comparison, enum norm_op op, struct norm_plan *plan) {
    const struct norm_key *key = &comparison->key;
    const struct inputs *in = &comparison->in;
    const struct side *to = &comparison->fused;
    struct check_tensors *tensors = &comparison->tensors;
    struct program program = {0};
    bool forward = op == NORM_FORWARD;
    struct norm_addresses at = {.x = in->x,
                                .mean = to->mean,
                                .inverse = to->mean + (CUdeviceptr)key->c * sizeof(float),
                                .gamma = in->gamma,
                                .mask = key->relu ? comparison->mask : 0,
                                .workspace = tensors->backend->workspace};
    if (forward) {
        at.y = to->y;
        at.beta = in->beta;
        at.add = key->add ? in->add : 0;
        at.running_mean = at.running_mean_out = to->running_mean;
        at.running_var = at.running_var_out = to->running_var;
    } else {
        at.dy = in->dy;
        at.dx = to->dx;
        at.dadd = key->add ? to->dadd : 0;
        at.dgamma = to->dgamma;
        at.dbeta = to->dbeta;
    }
    if (tensors->failed == 0)
        tensors->failed = norm_plan_bind(plan, &at, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = program_norm(&program, plan, tensors->err);
    check_program(tensors, &program);
    program_done(&program);
}

static void own_forward(struct build *build, const struct comparison *comparison) {
    const struct norm_key *key = &comparison->key;
    const struct inputs *in = &comparison->in;
    const struct side *to = &comparison->own;
    int64_t rows = (int64_t)key->n * key->h * key->w;
    int slices = slices_of(rows), pixels = key->h * key->w;
    EMIT(build, norm_partial, blocks_sliced(slices, key->c), .x = in->x, .partial = comparison->partial, .step = in->step,
         .pixels = pixels, .cp = key->c, .slices = slices, .bf16 = 1);
    EMIT(build, norm_finish, blocks_of(key->c / GPU_LANES), .partial = comparison->partial, .step = in->step, .saved = to->mean,
         .running_mean = to->running_mean, .running_var = to->running_var, .pixels = pixels, .c = key->c, .cp = key->c,
         .slices = slices, .epsilon = key->epsilon, .momentum = key->momentum);
    EMIT(build, norm_apply, blocks_for(comparison->count), .x = in->x, .add = key->add ? in->add : 0, .y = to->y,
         .saved = to->mean, .running_mean = to->running_mean, .running_var = to->running_var, .gamma = in->gamma,
         .beta = in->beta, .rows = rows, .c = key->c, .cp = key->c, .relu = key->relu, .bf16 = 1, .epsilon = key->epsilon);
}

static void own_back(struct build *build, const struct comparison *comparison) {
    const struct norm_key *key = &comparison->key;
    const struct inputs *in = &comparison->in;
    const struct side *to = &comparison->own;
    int64_t rows = (int64_t)key->n * key->h * key->w;
    int slices = slices_of(rows), pixels = key->h * key->w;
    CUdeviceptr y = key->relu ? to->y : 0;
    EMIT(build, back_partial, blocks_sliced(slices, key->c), .dy = in->dy, .y = y, .x = in->x, .saved = to->mean,
         .partial = comparison->partial, .rows = rows, .pixels = pixels, .batch = key->n, .c = key->c, .cp = key->c,
         .slices = slices, .bf16 = 1);
    EMIT(build, back_finish, blocks_of(key->c / GPU_LANES), .partial = comparison->partial, .a = to->dbeta, .b = to->dgamma,
         .c = key->c, .cp = key->c, .slices = slices);
    EMIT(build, norm_back, blocks_for(comparison->count), .dy = in->dy, .y = y, .x = in->x, .saved = to->mean, .gamma = in->gamma,
         .sum_g = to->dbeta, .sum_gx = to->dgamma, .step = in->step, .dx = to->dx, .dadd = key->add ? to->dadd : 0, .rows = rows,
         .pixels = pixels, .c = key->c, .cp = key->c, .bf16 = 1);
}

static void run_own(struct comparison *comparison) {
    struct check_tensors *tensors = &comparison->tensors;
    struct program program = {0};
    struct build build = {.batch = comparison->key.n,
                          .bf16 = true,
                          .program = &program,
                          .training = true,
                          .failed = tensors->failed,
                          .err = tensors->err};
    own_forward(&build, comparison);
    own_back(&build, comparison);
    tensors->failed = build.failed;
    check_program(tensors, &program);
    program_done(&program);
}

/* --- comparing --- */

struct findings {
    double worst;
    const char *of;
    struct norm_key key;
    int compared;
};

static void compare_sides(struct comparison *comparison, struct findings *findings) {
    const struct side *a = &comparison->fused, *b = &comparison->own;
    int64_t count = comparison->count, c = comparison->key.c;
    const struct {
        const char *name;
        CUdeviceptr a, b;
        int64_t count;
        bool bf16, made;
    } results[] = {{"y", a->y, b->y, count, true, true},
                   {"mean and deviation", a->mean, b->mean, 2 * c, false, true},
                   {"the running mean", a->running_mean, b->running_mean, c, false, true},
                   {"the running variance", a->running_var, b->running_var, c, false, true},
                   {"dx", a->dx, b->dx, count, true, true},
                   {"the gradient of the summand", a->dadd, b->dadd, count, true, comparison->key.add},
                   {"the gradient of gamma", a->dgamma, b->dgamma, c, false, true},
                   {"the gradient of beta", a->dbeta, b->dbeta, c, false, true}};
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        double distance =
            results[i].made ? check_distance(&comparison->tensors, results[i].a, results[i].b, results[i].count, results[i].bf16)
                            : 0;
        if (!isnan(findings->worst) && !(distance <= findings->worst)) {
            findings->worst = distance;
            findings->of = results[i].name;
            findings->key = comparison->key;
        }
    }
    findings->compared++;
}

static int compare_key(struct backend *backend, const struct norm_key *key, struct norm_plan *const plans[2],
                       struct findings *findings, struct err *err) {
    struct comparison comparison;
    comparison_init(&comparison, backend, key, err);
    for (int step = 0; step < 2; step++) {
        run_fused(&comparison, NORM_FORWARD, plans[NORM_FORWARD]);
        run_fused(&comparison, NORM_BACK, plans[NORM_BACK]);
        run_own(&comparison);
    }
    if (comparison.tensors.failed == 0)
        compare_sides(&comparison, findings);
    check_free(&comparison.tensors);
    return comparison.tensors.failed;
}

/* ERR_UNSUPPORTED when cuDNN has no plans. */
static int run_key(struct backend *backend, struct norm_key key, struct findings *findings, struct err *err) {
    struct norm_plan *plans[2] = {NULL, NULL};
    int rc = 0;
    for (int op = NORM_FORWARD; rc == 0 && op <= NORM_BACK; op++) {
        key.op = (enum norm_op)op;
        rc = norm_plan_new(backend->planner, &key, &plans[op], err);
    }
    if (rc == 0)
        rc = compare_key(backend, &key, plans, findings, err);
    norm_plan_free(plans[NORM_FORWARD]);
    norm_plan_free(plans[NORM_BACK]);
    return rc;
}

/* A plan takes tenths of a second to be compiled. */
static int run_keys(struct backend *backend, bool brief, struct findings *findings, struct err *err) {
    static const struct norm_key keys[] = {{.n = 8, .h = 8, .w = 8, .c = 32},
                                           {.n = 128, .h = 32, .w = 32, .c = 16},
                                           {.n = 128, .h = 8, .w = 8, .c = 256},
                                           {.n = 128, .h = 32, .w = 32, .c = 64},
                                           {.n = 1, .h = 4, .w = 4, .c = 64}};
    for (size_t i = 0; i < (brief ? 1 : sizeof keys / sizeof keys[0]); i++)
        for (int fused = 0; fused < 3; fused++) { /* nothing, ReLU, add and ReLU */
            struct norm_key key = keys[i];
            key.relu = fused > 0;
            key.add = fused > 1;
            key.epsilon = epsilon;
            key.momentum = momentum;
            if (run_key(backend, key, findings, err) != 0)
                return -1;
        }
    return 0;
}

int check_norm(struct backend *backend, bool brief, struct backend_check *item, struct err *err) {
    struct findings findings = {.worst = -1};
    struct err reason = {0};
    if ((backend->info.precisions >> PRECISION_BF16 & 1) == 0)
        err_set(&reason, ERR_UNSUPPORTED, "it needs bf16");
    else if (run_keys(backend, brief, &findings, &reason) == 0) {
        item->passed = findings.worst <= 0.01;
        item->measured = findings.worst;
        item->limit = 0.01;
        snprintf(item->text, sizeof item->text,
                 "%d batch norms against our own kernels, after two steps; farthest: %s of %d channels, %dx%d pixels, batch %d%s",
                 findings.compared, findings.of, findings.key.c, findings.key.h, findings.key.w, findings.key.n,
                 findings.key.add    ? ", with add and ReLU"
                 : findings.key.relu ? ", with ReLU"
                                     : "");
        return 0;
    }
    if (reason.code != ERR_UNSUPPORTED)
        return err_set(err, reason.code, "%s", reason.text);
    item->skipped = true;
    snprintf(item->text, sizeof item->text, "our own batch norm is used: %.200s", reason.text);
    return 0;
}
