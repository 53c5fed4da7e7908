/* The double's rules of cuDNN's plans, each one broken once, and its convolutions against loops written down once more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/backend/cudnn/library.h"
#include "server/backend/cudnn/plans.h"
#include "tests/gpu/double_rig.h"

enum { WORKSPACE = 1 << 20 };

/* A convolution with its memory. */
struct work {
    struct gpu gpu;
    cudnnHandle_t handle;
    struct planner *planner;
    struct conv_plan *plan;
    CUdeviceptr x, w, y, workspace;
    size_t x_n, w_n, y_n; /* elements */
};

static const struct conv_key small = {.op = CONV_FORWARD,
                                      .precision = PRECISION_F32,
                                      .n = 2,
                                      .h = 5,
                                      .w = 7,
                                      .c = 16,
                                      .oh = 3,
                                      .ow = 4,
                                      .k = 8,
                                      .kernel_h = 3,
                                      .kernel_w = 3,
                                      .stride_h = 2,
                                      .stride_w = 2,
                                      .pad_h = 1,
                                      .pad_w = 1,
                                      .dilation_h = 1,
                                      .dilation_w = 1,
                                      .groups = 1};

/* The planner keeps the address of the driver's table, so the work stays where it is. */
static struct work *work_new(struct conv_key key) {
    struct work *work = calloc(1, sizeof *work);
    struct err err = {0};
    assert_non_null(work);
    gpu_init(&work->gpu);
    assert_int_equal(work->gpu.driver.cudnnCreate(&work->handle), 0);
    assert_int_equal(work->gpu.driver.cudnnSetStream(work->handle, work->gpu.stream), 0);
    struct planner_options options = {.driver = &work->gpu.driver, .compute = 90, .workspace_bytes = WORKSPACE};
    if (planner_new(&options, &work->planner, &err) != 0 || conv_plan_new(work->planner, &key, &work->plan, &err) != 0)
        fail_msg("%s", err.text);
    work->x_n = (size_t)(key.n * key.h * key.w * key.c);
    work->w_n = (size_t)(key.k * key.kernel_h * key.kernel_w * key.c / key.groups);
    work->y_n = (size_t)(key.n * key.oh * key.ow * key.k);
    work->x = gpu_memory(&work->gpu, work->x_n * sizeof(float));
    work->w = gpu_memory(&work->gpu, work->w_n * sizeof(float));
    work->y = gpu_memory(&work->gpu, work->y_n * sizeof(float));
    work->workspace = gpu_memory(&work->gpu, WORKSPACE);
    return work;
}

static void work_done(struct work *work) {
    conv_plan_free(work->plan);
    planner_free(work->planner);
    work->gpu.driver.cudnnDestroy(work->handle);
    const CUdeviceptr blocks[] = {work->x, work->w, work->y, work->workspace};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        work->gpu.driver.cuMemFree(blocks[i]);
    gpu_done(&work->gpu);
    free(work);
}

static void bind_and_run(struct work *work, CUdeviceptr x, CUdeviceptr y, CUdeviceptr workspace) {
    struct err err = {0};
    if (conv_plan_bind(work->plan, x, work->w, y, workspace, &err) != 0 || conv_plan_run(work->plan, work->handle, &err) != 0)
        fail_msg("%s", err.text);
}

/* --- results --- */

/* Small whole numbers, so that all sums are exact in every order. */
static float *numbers(size_t n, unsigned seed) {
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)((int)(seed >> 28) - 8);
    }
    return values;
}

/* Adds each product of the convolution to the tensor that the operation makes. */
static void expected(const struct conv_key *key, float *x, float *w, float *y) {
    int wi = key->c / key->groups, kg = key->k / key->groups, products = key->n * key->oh * key->ow * key->k;
    for (int out = 0; out < products; out++)
        for (int i = 0; i < key->kernel_h * key->kernel_w * wi; i++) {
            int k = out % key->k, ow = out / key->k % key->ow, oh = out / key->k / key->ow % key->oh;
            int n = out / key->k / key->ow / key->oh, c = i % wi, s = i / wi % key->kernel_w, r = i / wi / key->kernel_w;
            int h = oh * key->stride_h - key->pad_h + r * key->dilation_h;
            int column = ow * key->stride_w - key->pad_w + s * key->dilation_w;
            if (h < 0 || h >= key->h || column < 0 || column >= key->w)
                continue;
            float *at_x = x + ((n * key->h + h) * key->w + column) * key->c + k / kg * wi + c;
            float *at_w = w + (k * key->kernel_h * key->kernel_w + r * key->kernel_w + s) * wi + c;
            switch (key->op) {
            case CONV_FORWARD:
                y[out] += *at_x * *at_w;
                break;
            case CONV_BACK_X:
                *at_x += y[out] * *at_w;
                break;
            case CONV_BACK_W:
                *at_w += y[out] * *at_x;
                break;
            }
        }
}

static void computes(enum conv_op op, int groups) {
    struct conv_key key = small;
    key.op = op;
    key.groups = groups;
    struct work *work = work_new(key);
    float *x = numbers(work->x_n, 1), *w = numbers(work->w_n, 2), *y = numbers(work->y_n, 3);
    gpu_put(&work->gpu, work->x, x, work->x_n * sizeof(float));
    gpu_put(&work->gpu, work->w, w, work->w_n * sizeof(float));
    gpu_put(&work->gpu, work->y, y, work->y_n * sizeof(float));
    bind_and_run(work, work->x, work->y, work->workspace);
    float *made = op == CONV_FORWARD ? y : op == CONV_BACK_X ? x : w;
    size_t n = op == CONV_FORWARD ? work->y_n : op == CONV_BACK_X ? work->x_n : work->w_n;
    CUdeviceptr at = op == CONV_FORWARD ? work->y : op == CONV_BACK_X ? work->x : work->w;
    float *got = numbers(n, 0);
    gpu_get(&work->gpu, got, at, n * sizeof(float));
    memset(made, 0, n * sizeof(float));
    expected(&key, x, w, y);
    assert_memory_equal(got, made, n * sizeof(float));
    free(x);
    free(w);
    free(y);
    free(got);
    work_done(work);
}

static void forward(void) {
    computes(CONV_FORWARD, 1);
}

static void back_x(void) {
    computes(CONV_BACK_X, 1);
}

static void back_w(void) {
    computes(CONV_BACK_W, 1);
}

static void grouped(void) {
    computes(CONV_FORWARD, 2);
    computes(CONV_BACK_X, 2);
    computes(CONV_BACK_W, 2);
}

/* Where NVIDIA's library is, it has made the plan: the double's own has but one engine, which always wants the same workspace. */
static void engine_of_the_real_library(void) {
    enum { MADE_UP = 4096 };
    if (library_open("libcudnn.so.9", NULL) == NULL)
        return;
    struct work *work = work_new(small);
    char text[PLAN_TEXT_MAX];
    conv_plan_describe(work->plan, text);
    if (conv_plan_workspace(work->plan) == MADE_UP)
        fail_msg("made up: %s", text);
    work_done(work);
}

/* --- rules --- */

static void short_tensor(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x + 16, work->y, work->workspace);
}

static void unaligned(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x + 4, work->y, work->workspace);
}

static void no_workspace(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x, work->y, 0);
}

static void short_workspace(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x, work->y, work->workspace + WORKSPACE - 16);
}

static void in_place(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x, work->x, work->workspace);
}

static void workspace_inside(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->workspace, work->y, work->workspace);
}

static void no_stream(void) {
    struct work *work = work_new(small);
    work->gpu.driver.cudnnCreate(&work->handle);
    bind_and_run(work, work->x, work->y, work->workspace);
}

static void freed(void) {
    struct work *work = work_new(small);
    work->gpu.driver.cuMemFree(work->y);
    bind_and_run(work, work->x, work->y, work->workspace);
}

static void plan_leaked(void) {
    struct work *work = work_new(small);
    work->plan = NULL;
    work_done(work);
}

/* Two plans with one workspace, in two streams that nothing orders. */
static void shared_workspace(void) {
    struct work *work = work_new(small);
    bind_and_run(work, work->x, work->y, work->workspace);
    work->gpu.driver.cudnnSetStream(work->handle, gpu_stream(&work->gpu));
    bind_and_run(work, work->x, gpu_memory(&work->gpu, work->y_n * sizeof(float)), work->workspace);
}

static void tensor_incomplete(void) {
    struct gpu gpu;
    cudnnBackendDescriptor_t tensor;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    gpu_init(&gpu);
    gpu.driver.cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &tensor);
    gpu.driver.cudnnBackendSetAttribute(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    gpu.driver.cudnnBackendFinalize(tensor);
}

static void results(void **unused) {
    (void)unused;
    static const char *const environments[] = {"RESIDUUM_DOUBLE_CUDNN=own", NULL};
    for (size_t i = 0; i < sizeof environments / sizeof environments[0]; i++) {
        expect(forward, environments[i], NULL);
        expect(back_x, environments[i], NULL);
        expect(back_w, environments[i], NULL);
    }
    expect(grouped, environments[0], NULL);
    expect(engine_of_the_real_library, NULL, NULL);
}

static void rules_are_broken(void **unused) {
    (void)unused;
    const char *own = "RESIDUUM_DOUBLE_CUDNN=own"; /* its plans always need a workspace */
    expect(short_tensor, own, "cuDNN's convolution, x: 4480 bytes from byte 16 of a block of 4480 bytes leave it");
    expect(unaligned, own, "cuDNN's convolution, x: address");
    expect(no_workspace, own, "the plan needs 4096 bytes of workspace, and gets none");
    expect(short_workspace, own, "cuDNN's convolution, workspace: 4096 bytes from byte");
    expect(in_place, own, "cuDNN's convolution: y and x overlap");
    expect(workspace_inside, own, "cuDNN's convolution: workspace and x overlap");
    expect(no_stream, own, "the handle has no stream");
    expect(freed, own, "cuDNN's convolution, y: 768 bytes from byte 0 of a freed block");
    expect(plan_leaked, own, "a cuDNN descriptor was never destroyed");
    expect(shared_workspace, own, "race: cuDNN's convolution (workspace) and cuDNN's convolution (workspace)");
    expect(tensor_incomplete, own, "a descriptor of type 17 lacks attribute");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(results), cmocka_unit_test(rules_are_broken)};
    return cmocka_run_group_tests_name("double_plans", tests, NULL, NULL);
}
