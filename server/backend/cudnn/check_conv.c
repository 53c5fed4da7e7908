/* The self-check of cuDNN's convolutions: each plan against our own kernel on the same device, and against itself. */
#include <math.h>
#include <stdio.h>

#include "server/backend/cudnn/check.h"

/* The convolutions of ResNet-18 and ResNet-20 on images of 32 x 32 (He et al. 2016), and a linear layer. Of one group; padding
 * keeps the size. */
static const struct shape {
    int h, c, k, kernel, stride;
    bool brief;
} shapes[] = {
    {32, 8, 16, 3, 1, true},    {32, 16, 16, 3, 1, true},    {32, 16, 32, 3, 2, true},   {16, 32, 32, 3, 1, true},
    {16, 32, 64, 3, 2, true},   {8, 64, 64, 3, 1, true},     {32, 16, 32, 1, 2, true},   {1, 64, 16, 1, 1, true},
    {32, 8, 64, 3, 1, false},   {32, 64, 64, 3, 1, false},   {32, 64, 128, 3, 2, false}, {16, 128, 128, 3, 1, false},
    {32, 64, 128, 1, 2, false}, {16, 128, 256, 3, 2, false}, {8, 256, 256, 3, 1, false}, {16, 128, 256, 1, 2, false},
    {8, 256, 512, 3, 2, false}, {4, 512, 512, 3, 1, false},  {8, 256, 512, 1, 2, false},
};
enum { SHAPES_N = sizeof shapes / sizeof shapes[0] };

/* What of all shapes is told. */
struct findings {
    double worst;
    struct conv_key worst_key;
    char engine[PLAN_TEXT_MAX]; /* of the worst one */
    bool unrepeatable;          /* the worst one gave other bits when it ran again */
    int compared, without_plan;
};

static struct conv_key key_of(const struct shape *shape, int n, enum conv_op op, enum spec_precision precision) {
    int out = shape->h / shape->stride;
    return (struct conv_key){.op = op,
                             .precision = precision,
                             .n = n,
                             .h = shape->h,
                             .w = shape->h,
                             .c = shape->c,
                             .oh = out,
                             .ow = out,
                             .k = shape->k,
                             .kernel_h = shape->kernel,
                             .kernel_w = shape->kernel,
                             .stride_h = shape->stride,
                             .stride_w = shape->stride,
                             .pad_h = shape->kernel / 2,
                             .pad_w = shape->kernel / 2,
                             .dilation_h = 1,
                             .dilation_w = 1,
                             .groups = 1};
}

static struct kernel_window window_of(const struct conv_key *key) {
    return (struct kernel_window){.batch = key->n,
                                  .h = key->h,
                                  .w = key->w,
                                  .c = key->c,
                                  .cp = key->c,
                                  .oh = key->oh,
                                  .ow = key->ow,
                                  .oc = key->k,
                                  .ocp = key->k,
                                  .kernel_h = key->kernel_h,
                                  .kernel_w = key->kernel_w,
                                  .stride_h = key->stride_h,
                                  .stride_w = key->stride_w,
                                  .pad_h = key->pad_h,
                                  .pad_w = key->pad_w,
                                  .dilation_h = key->dilation_h,
                                  .dilation_w = key->dilation_w,
                                  .groups = key->groups};
}

/* --- one plan --- */

/* Addresses of x, w and y; the one that the operation makes is replaced by another place. */
struct operands {
    CUdeviceptr x, w, y;
};

static struct operands making(const struct operands *inputs, enum conv_op op, CUdeviceptr made) {
    struct operands at = *inputs;
    switch (op) {
    case CONV_FORWARD:
        at.y = made;
        break;
    case CONV_BACK_X:
        at.x = made;
        break;
    case CONV_BACK_W:
        at.w = made;
        break;
    }
    return at;
}

static void run_cudnn(struct check_tensors *tensors, struct conv_plan *plan, const struct operands *at) {
    struct backend *backend = tensors->backend;
    struct program program = {0};
    if (tensors->failed == 0)
        tensors->failed = conv_plan_bind(plan, at->x, at->w, at->y, backend->workspace, tensors->err);
    if (tensors->failed == 0)
        tensors->failed = program_conv(&program, plan, tensors->err);
    check_program(tensors, &program);
    program_done(&program);
}

static void run_own(struct check_tensors *tensors, const struct conv_key *key, const struct operands *at) {
    struct program program = {0};
    bool bf16 = key->precision == PRECISION_BF16;
    struct kernel_window window = window_of(key);
    struct build build = {.batch = key->n, .bf16 = bf16, .program = &program, .failed = tensors->failed, .err = tensors->err};
    int64_t x = (int64_t)key->n * key->h * key->w * key->c, y = (int64_t)key->n * key->oh * key->ow * key->k;
    int64_t w = (int64_t)key->k * key->kernel_h * key->kernel_w * key->c;
    switch (key->op) {
    case CONV_FORWARD:
        EMIT(&build, conv, blocks_for(y), .x = at->x, .w = at->w, .y = at->y, .window = window, .bf16 = bf16, .w_narrow = bf16);
        break;
    case CONV_BACK_X:
        EMIT(&build, conv_back_x, blocks_for(x), .dy = at->y, .w = at->w, .dx = at->x, .window = window, .bf16 = bf16,
             .w_narrow = bf16);
        break;
    case CONV_BACK_W:
        EMIT(&build, conv_back_w, blocks_of(w / GPU_LANES), .x = at->x, .dy = at->y, .dw = at->w, .window = window, .bf16 = bf16,
             .dw_narrow = bf16);
        break;
    }
    tensors->failed = build.failed;
    check_program(tensors, &program);
    program_done(&program);
}

static int64_t made_count(const struct conv_key *key) {
    switch (key->op) {
    case CONV_FORWARD:
        return (int64_t)key->n * key->oh * key->ow * key->k;
    case CONV_BACK_X:
        return (int64_t)key->n * key->h * key->w * key->c;
    case CONV_BACK_W:
        return (int64_t)key->k * key->kernel_h * key->kernel_w * key->c;
    }
    return 0;
}

static void note(struct findings *findings, const struct conv_key *key, const struct conv_plan *plan, double distance,
                 bool same) {
    findings->compared++;
    if (findings->unrepeatable || isnan(findings->worst) || (same && distance <= findings->worst))
        return;
    findings->worst = distance;
    findings->worst_key = *key;
    findings->unrepeatable = !same;
    conv_plan_describe(plan, findings->engine);
}

static int compare_plan(struct backend *backend, const struct conv_key *key, struct conv_plan *plan, struct findings *findings,
                        struct err *err) {
    struct check_tensors tensors = {.backend = backend, .err = err};
    bool bf16 = key->precision == PRECISION_BF16;
    int64_t made = made_count(key), bytes = made * (bf16 ? 2 : 4);
    struct operands inputs = {check_random(&tensors, (int64_t)key->n * key->h * key->w * key->c, bf16),
                              check_random(&tensors, (int64_t)key->k * key->kernel_h * key->kernel_w * key->c, bf16),
                              check_random(&tensors, (int64_t)key->n * key->oh * key->ow * key->k, bf16)};
    CUdeviceptr once = check_empty(&tensors, bytes), again = check_empty(&tensors, bytes), own = check_empty(&tensors, bytes);
    struct operands to_once = making(&inputs, key->op, once), to_again = making(&inputs, key->op, again),
                    to_own = making(&inputs, key->op, own);
    run_cudnn(&tensors, plan, &to_once);
    run_cudnn(&tensors, plan, &to_again);
    run_own(&tensors, key, &to_own);
    double distance = check_distance(&tensors, once, own, made, bf16);
    bool same = check_same(&tensors, once, again, bytes);
    if (tensors.failed == 0)
        note(findings, key, plan, distance, same);
    check_free(&tensors);
    return tensors.failed;
}

/* --- all of them --- */

static int compare_key(struct backend *backend, const struct conv_key *key, struct findings *findings, struct err *err) {
    struct conv_plan *plan;
    struct err reason = {0};
    if (conv_plan_new(backend->planner, key, &plan, &reason) != 0) {
        findings->without_plan++;
        return reason.code == ERR_UNSUPPORTED ? 0 : err_set(err, reason.code, "%s", reason.text);
    }
    int rc = compare_plan(backend, key, plan, findings, err);
    conv_plan_free(plan);
    return rc;
}

static void tell(const struct findings *findings, double limit, struct backend_check *item) {
    const struct conv_key *key = &findings->worst_key;
    item->skipped = findings->compared == 0;
    item->passed = !item->skipped && findings->worst <= limit && !findings->unrepeatable;
    item->measured = findings->worst;
    item->limit = limit;
    if (item->skipped)
        snprintf(item->text, sizeof item->text, "cuDNN has no plan for any of %d convolutions: our own kernels compute them",
                 findings->without_plan);
    else
        snprintf(item->text, sizeof item->text,
                 "%d plans against our own kernels (%d without plan); %s: %d to %d channels, %dx%d, "
                 "stride %d, %dx%d pixels, batch %d: %.100s",
                 findings->compared, findings->without_plan, findings->unrepeatable ? "ran again with other bits" : "farthest",
                 key->c, key->k, key->kernel_h, key->kernel_w, key->stride_h, key->h, key->w, key->n, findings->engine);
}

int check_conv(struct backend *backend, bool brief, enum conv_op op, enum spec_precision precision, struct backend_check *item,
               struct err *err) {
    /* |a - b| / |b|: sums of f32 in another order; of products of 11 bits; rounded to 8 bits at the end */
    static const double limits[] = {[PRECISION_F32] = 1e-5, [PRECISION_BF16] = 1e-2, [PRECISION_TF32] = 1e-3};
    static const int batches[] = {2, 8, 128};
    struct findings findings = {.worst = -1};
    for (int b = brief ? 0 : 1; b < (brief ? 1 : 3); b++)
        for (int i = 0; i < SHAPES_N; i++) {
            struct conv_key key = key_of(&shapes[i], batches[b], op, precision);
            if ((shapes[i].brief || !brief) && compare_key(backend, &key, &findings, err) != 0)
                return -1;
        }
    tell(&findings, limits[precision], item);
    return 0;
}
