/* What plans of cuDNN promise, with the real cuDNN and devices that are only described: which engines are taken, that the same
 * one is taken again, and what is refused and how. Without a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/gpu/plan_rig.h"

static const char *const devices[] = {"a100", "h100", "r4090", "r5090"};
enum { DEVICES_N = sizeof devices / sizeof devices[0] };

/* Convolutions of several kinds: input size, channels, filters, kernel, stride. */
static const int shapes[][5] = {
    {32, 8, 16, 3, 1}, {32, 64, 64, 3, 1}, {32, 64, 128, 3, 2}, {16, 128, 64, 1, 1}, {4, 512, 512, 3, 1}, {1, 512, 16, 1, 1},
};
enum { SHAPES_N = sizeof shapes / sizeof shapes[0], OPS_N = CONV_BACK_W + 1 };

static struct conv_key key_of(const int shape[5], enum conv_op op, enum spec_precision precision) {
    int pad = shape[3] / 2, out = (shape[0] + 2 * pad - shape[3]) / shape[4] + 1;
    return (struct conv_key){.op = op,
                             .precision = precision,
                             .n = PLAN_RIG_BATCH,
                             .h = shape[0],
                             .w = shape[0],
                             .c = shape[1],
                             .oh = out,
                             .ow = out,
                             .k = shape[2],
                             .kernel_h = shape[3],
                             .kernel_w = shape[3],
                             .stride_h = shape[4],
                             .stride_w = shape[4],
                             .pad_h = pad,
                             .pad_w = pad,
                             .dilation_h = 1,
                             .dilation_w = 1,
                             .groups = 1};
}

static struct conv_key plain_key(void) {
    return key_of(shapes[1], CONV_FORWARD, PRECISION_BF16);
}

/* The plan's line; a plan that cannot be had fails the test. */
static void describe(struct planner *planner, const struct conv_key *key, char *ret_text) {
    struct err err = {0};
    struct conv_plan *plan = NULL;
    if (conv_plan_new(planner, key, &plan, &err) != 0)
        fail_msg("%s", err.text);
    conv_plan_describe(plan, ret_text);
    conv_plan_free(plan);
}

/* --- which engines --- */

static bool has(const char *text, const char *note) {
    return strstr(text, note) != NULL;
}

/* Calls see with the line of every shape's every operation. */
static void each_plan(const struct gpu_driver *driver, enum spec_precision precision, bool nondeterministic,
                      void (*see)(const char *text, int *count), int *count) {
    for (int d = 0; d < DEVICES_N; d++) {
        struct planner *planner = plan_rig_planner(driver, devices[d], NULL);
        for (int i = 0; i < SHAPES_N * OPS_N; i++) {
            struct conv_key key = key_of(shapes[i / OPS_N], (enum conv_op)(i % OPS_N), precision);
            char text[PLAN_TEXT_MAX];
            key.nondeterministic = nondeterministic;
            describe(planner, &key, text);
            see(text, count);
        }
        planner_free(planner);
    }
}

static void see_strict(const char *text, int *count) {
    (void)count;
    if (has(text, "tensor cores") || has(text, "fewer bits") || has(text, "nondeterministic"))
        fail_msg("strict f32: %s", text);
}

static void see_tensor_cores(const char *text, int *count) {
    if (has(text, "sums of fewer bits") || has(text, "nondeterministic"))
        fail_msg("%s", text);
    *count += has(text, "tensor cores");
}

static void see_nondeterministic(const char *text, int *count) {
    *count += has(text, "nondeterministic");
}

static void test_strict_f32_takes_no_engine_of_fewer_bits(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    each_plan(&driver, PRECISION_F32, false, see_strict, NULL);
}

/* The notes that strict f32 forbids are there to be found in the other precisions. */
static void test_bf16_and_tf32_take_tensor_cores(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    static const enum spec_precision precisions[] = {PRECISION_BF16, PRECISION_TF32};
    for (int i = 0; i < 2; i++) {
        int count = 0;
        each_plan(&driver, precisions[i], false, see_tensor_cores, &count);
        assert_true(count > DEVICES_N * SHAPES_N * OPS_N / 2);
    }
}

/* What the deterministic plans leave out is what cuDNN would have given. */
static void test_nondeterministic_engines_are_taken_where_they_are_allowed(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    int count = 0;
    each_plan(&driver, PRECISION_F32, true, see_nondeterministic, &count);
    each_plan(&driver, PRECISION_BF16, true, see_nondeterministic, &count);
    assert_true(count > 0);
}

static void test_the_same_engine_is_chosen_again(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *first = plan_rig_planner(&driver, "h100", NULL), *second = plan_rig_planner(&driver, "h100", NULL);
    for (int i = 0; i < SHAPES_N * OPS_N; i++) {
        struct conv_key key = key_of(shapes[i / OPS_N], (enum conv_op)(i % OPS_N), PRECISION_BF16);
        char one[PLAN_TEXT_MAX], other[PLAN_TEXT_MAX];
        describe(first, &key, one);
        describe(second, &key, other);
        assert_string_equal(one, other);
    }
    planner_free(first);
    planner_free(second);
}

/* The profile of a device as a planner with other options. */
static struct planner *planner_with(const struct gpu_driver *driver, int64_t workspace_bytes, const char *deny) {
    struct err err = {0};
    struct planner *planner = NULL;
    const struct planner_options options = {
        .driver = driver, .profile = gpu_profile_json("h100"), .compute = 90, .workspace_bytes = workspace_bytes, .deny = deny};
    if (planner_new(&options, &planner, &err) != 0)
        fail_msg("%s", err.text);
    return planner;
}

static int engine_of(const char *text) {
    return atoi(text + strlen("engine "));
}

static void test_a_denied_engine_is_passed_over(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct conv_key forward = plain_key();
    char text[PLAN_TEXT_MAX], deny[64];
    struct planner *planner = planner_with(&driver, 512 << 20, NULL);
    describe(planner, &forward, text);
    int engine = engine_of(text);
    planner_free(planner);

    snprintf(deny, sizeof deny, " norm_back:0  forward:%d", engine);
    planner = planner_with(&driver, 512 << 20, deny);
    describe(planner, &forward, text);
    assert_int_not_equal(engine_of(text), engine);
    planner_free(planner);

    /* Of another operation: nothing changes. */
    snprintf(deny, sizeof deny, "back_w:%d", engine);
    planner = planner_with(&driver, 512 << 20, deny);
    describe(planner, &forward, text);
    assert_int_equal(engine_of(text), engine);
    planner_free(planner);
}

static void test_a_plan_fits_the_workspace(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct conv_key key = key_of(shapes[1], CONV_FORWARD, PRECISION_F32);
    struct planner *wide = planner_with(&driver, 512 << 20, NULL), *narrow = planner_with(&driver, 1 << 20, NULL);
    struct conv_plan *plan = NULL;
    struct err err = {0};
    assert_int_equal(conv_plan_new(wide, &key, &plan, &err), 0);
    assert_true(conv_plan_workspace(plan) > 1 << 20);
    conv_plan_free(plan);
    assert_int_equal(conv_plan_new(narrow, &key, &plan, &err), 0);
    assert_true(conv_plan_workspace(plan) <= 1 << 20);
    conv_plan_free(plan);
    planner_free(wide);
    planner_free(narrow);
}

/* --- what is refused --- */

static void refuse(struct planner *planner, const struct conv_key *key, enum err_code code, const char *words) {
    struct err err = {0};
    struct conv_plan *plan = NULL;
    assert_int_equal(conv_plan_new(planner, key, &plan, &err), -1);
    assert_null(plan);
    if (err.code != code || !has(err.text, words))
        fail_msg("%s: %s", err_name(err.code), err.text);
}

static void test_what_cudnn_does_not_have_is_unsupported(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "h100", NULL), *poor = planner_with(&driver, -1, NULL);
    struct conv_key groups = plain_key(), key = plain_key();
    groups.groups = 3;
    refuse(planner, &groups, ERR_UNSUPPORTED, "128x32x32x64");
    refuse(poor, &key, ERR_UNSUPPORTED, "workspace");
    planner_free(planner);
    planner_free(poor);
}

/* A wrong description is our mistake: it must not pass for an operation that cuDNN lacks. */
static void test_a_wrong_shape_is_no_missing_engine(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "h100", NULL);
    struct conv_key key = plain_key();
    key.oh = 31;
    refuse(planner, &key, ERR_BACKEND, "cuDNN could not accept a description");
    planner_free(planner);
}

/* Convolutions that no preset has: n, h, w, c, k, kernel, stride, padding, dilation (each h and w), groups. */
static const int odd_shapes[][14] = {
    {1, 32, 32, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1},       /* one image */
    {7, 33, 17, 24, 40, 5, 1, 1, 1, 2, 0, 1, 1, 1},     /* a column */
    {7, 33, 17, 24, 40, 1, 7, 2, 3, 0, 3, 1, 1, 1},     /* a row, unequal strides */
    {128, 32, 32, 64, 64, 3, 3, 1, 1, 2, 2, 2, 2, 1},   /* dilated */
    {128, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 2},   /* groups */
    {128, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 8},   /* groups of eight channels */
    {128, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 16},  /* groups of four channels */
    {128, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 64},  /* depthwise */
    {128, 32, 32, 64, 128, 3, 3, 2, 2, 1, 1, 1, 1, 64}, /* depthwise, two filters a channel */
    {128, 32, 32, 64, 64, 2, 2, 2, 2, 0, 0, 1, 1, 1},   /* an even kernel */
    {128, 16, 16, 8, 8, 11, 11, 4, 4, 5, 5, 1, 1, 1},   /* a large kernel */
    {128, 16, 16, 8, 8, 16, 16, 16, 16, 0, 0, 1, 1, 1}, /* one window of the whole image */
    {128, 4, 4, 16, 16, 3, 3, 1, 1, 5, 5, 1, 1, 1},     /* more padding than image */
    {128, 1, 1, 4096, 4096, 1, 1, 1, 1, 0, 0, 1, 1, 1}, /* a large linear layer */
    {64, 224, 224, 8, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1},   /* ImageNet's stem */
    {4096, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1},    /* a large batch */
    {3, 32, 32, 8, 2048, 1, 1, 3, 3, 0, 0, 1, 1, 1},    /* strides wider than the kernel */
};

static int out_of(int size, int kernel, int stride, int pad, int dilation) {
    return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

static struct conv_key odd_key(const int *s, enum conv_op op, enum spec_precision precision) {
    return (struct conv_key){.op = op,
                             .precision = precision,
                             .n = s[0],
                             .h = s[1],
                             .w = s[2],
                             .c = s[3],
                             .oh = out_of(s[1], s[5], s[7], s[9], s[11]),
                             .ow = out_of(s[2], s[6], s[8], s[10], s[12]),
                             .k = s[4],
                             .kernel_h = s[5],
                             .kernel_w = s[6],
                             .stride_h = s[7],
                             .stride_w = s[8],
                             .pad_h = s[9],
                             .pad_w = s[10],
                             .dilation_h = s[11],
                             .dilation_w = s[12],
                             .groups = s[13]};
}

enum { ODD_N = sizeof odd_shapes / sizeof odd_shapes[0], PRECISIONS_N = PRECISION_TF32 + 1 };

/* A plan, or "unsupported", which is said; nothing compiled where nothing can be. */
static void plan_odd(struct planner *planner, const struct conv_key *key, bool compiled) {
    struct conv_plan *plan = NULL;
    struct err err = {0};
    char text[PLAN_TEXT_MAX];
    if (conv_plan_new(planner, key, &plan, &err) != 0) {
        print_message("%s\n", err.text);
        assert_int_equal(err.code, ERR_UNSUPPORTED);
        return;
    }
    conv_plan_describe(plan, text);
    if (!compiled && has(text, "compiled at run time"))
        fail_msg("%s", text);
    conv_plan_free(plan);
}

static void plan_all_odd(const struct gpu_driver *driver, const char *device) {
    struct planner *planner = plan_rig_planner(driver, device, NULL);
    for (int i = 0; i < ODD_N * OPS_N * PRECISIONS_N; i++) {
        struct conv_key key = odd_key(odd_shapes[i / OPS_N / PRECISIONS_N], (enum conv_op)(i % OPS_N),
                                      (enum spec_precision)(i / OPS_N % PRECISIONS_N));
        plan_odd(planner, &key, driver->runtime_compiled);
    }
    planner_free(planner);
}

/* Depthwise convolutions are compiled where they can be, which takes some tenths of a second each: on one device only. */
static void test_odd_shapes_have_a_plan_or_are_unsupported(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    plan_all_odd(&driver, devices[0]);
    driver.runtime_compiled = false;
    for (int d = 0; d < DEVICES_N; d++)
        plan_all_odd(&driver, devices[d]);
}

/* Every preset trains in f32 on a device of compute capability 7.5, and in nothing else. */
static void visit_t4(void *arg, const struct conv_key *key) {
    struct planner *planner = arg;
    char text[PLAN_TEXT_MAX];
    struct conv_key narrow = *key;
    describe(planner, key, text);
    narrow.precision = PRECISION_BF16;
    refuse(planner, &narrow, ERR_UNSUPPORTED, "bf16 needs compute capability 8.0, the device has 7.5: choose precision f32");
    narrow.precision = PRECISION_TF32;
    refuse(planner, &narrow, ERR_UNSUPPORTED, "tf32 needs compute capability 8.0");
}

static void test_compute_capability_7_5_has_f32_only(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    static const char *const presets[] = {"resnet20", "resnet50", "vgg16", "lenet5", "mlp", "wide-resnet16-4", "resnet9"};
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        struct planner *planner = plan_rig_planner(&driver, "t4", NULL);
        struct plan_rig_net net = plan_rig_net(presets[i], PRECISION_F32);
        plan_rig_walk(&net, &(struct plan_rig_visitor){.conv = visit_t4, .arg = planner});
        plan_rig_net_done(&net);
        planner_free(planner);
    }
}

static void refuse_planner(const struct planner_options *options, enum err_code code, const char *words) {
    struct err err = {0};
    struct planner *planner = NULL;
    assert_int_equal(planner_new(options, &planner, &err), -1);
    assert_null(planner);
    if (err.code != code || !has(err.text, words))
        fail_msg("%s: %s", err_name(err.code), err.text);
}

static void test_a_device_or_deny_list_that_cannot_be_read_is_refused(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    static const char *const lists[] = {"forward",    "forward:",   "forward:x", "sideways:3",
                                        "forward:-1", "forward:3x", ":",         "forward:1 back_w"};
    const struct planner_options profile = {.driver = &driver, .profile = "{\"deviceVer\":900}", .compute = 90},
                                 absent = {.driver = &driver, .device = 0, .compute = 90};
    refuse_planner(&profile, ERR_UNAVAILABLE, "cuDNN could not take the device");
    refuse_planner(&absent, ERR_UNAVAILABLE, "cuDNN could not take the device");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const struct planner_options options = {
            .driver = &driver, .profile = gpu_profile_json("h100"), .compute = 90, .deny = lists[i]};
        refuse_planner(&options, ERR_FIELD, "denied engines");
    }
}

static void test_the_profile_comes_back(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "r4090", NULL);
    char text[2048], small[8];
    struct err err = {0};
    assert_int_equal(planner_profile(planner, text, sizeof text, &err), 0);
    assert_true(has(text, "\"multiProcessorCount\":128"));
    assert_null(strchr(text, '\n'));
    assert_int_equal(planner_profile(planner, small, sizeof small, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    planner_free(planner);
}

/* Nothing runs here: cuDNN's refusal must come back as an error. */
static void test_a_run_without_a_handle_is_an_error(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "h100", NULL);
    struct conv_key key = plain_key();
    struct conv_plan *plan = NULL;
    struct err err = {0};
    assert_int_equal(conv_plan_new(planner, &key, &plan, &err), 0);
    assert_int_equal(conv_plan_bind(plan, 1 << 20, 2 << 20, 3 << 20, 4 << 20, &err), 0);
    assert_int_equal(conv_plan_bind(plan, 2 << 20, 3 << 20, 4 << 20, 5 << 20, &err), 0);
    assert_int_equal(conv_plan_run(plan, NULL, &err), -1);
    assert_true(has(err.text, "cuDNN could not run a convolution"));
    conv_plan_free(plan);
    planner_free(planner);
}

/* --- fused batch norm --- */

static const struct norm_key norm_key = {.op = NORM_FORWARD, .n = 128, .h = 8, .w = 8, .c = 16, .relu = true, .add = true};

static void refuse_norm(struct planner *planner, const struct norm_key *key, const char *words) {
    struct err err = {0};
    struct norm_plan *plan = NULL;
    assert_int_equal(norm_plan_new(planner, key, &plan, &err), -1);
    if (err.code != ERR_UNSUPPORTED || !has(err.text, words))
        fail_msg("%s: %s", err_name(err.code), err.text);
}

static void test_fused_batch_norm_needs_lanes_a_relu_and_a_compiler(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "a100", NULL), *old = plan_rig_planner(&driver, "t4", NULL);
    struct norm_key odd = norm_key, bare = norm_key;
    odd.c = 20;
    bare.relu = false;
    refuse_norm(planner, &odd, "multiple of 8");
    refuse_norm(planner, &bare, "needs a ReLU");
    refuse_norm(old, &norm_key, "compute capability 8.0");
    driver.runtime_compiled = false;
    refuse_norm(planner, &norm_key, "not allowed");
    planner_free(planner);
    planner_free(old);
}

static void test_fused_batch_norm_takes_its_addresses(void **state) {
    (void)state;
    struct gpu_driver driver = plan_rig_need();
    struct planner *planner = plan_rig_planner(&driver, "a100", NULL);
    const struct norm_addresses at = {.x = 1 << 20, .mean = 2 << 20, .inverse = 3 << 20, .gamma = 4 << 20, .mask = 5 << 20};
    for (int op = NORM_FORWARD; op <= NORM_BACK; op++) {
        struct norm_key key = norm_key;
        struct norm_plan *plan = NULL;
        struct err err = {0};
        char text[PLAN_TEXT_MAX];
        key.op = (enum norm_op)op;
        assert_int_equal(norm_plan_new(planner, &key, &plan, &err), 0);
        norm_plan_describe(plan, text);
        assert_true(has(text, "compiled at run time"));
        assert_int_equal(norm_plan_bind(plan, &at, &err), 0);
        assert_int_equal(norm_plan_run(plan, NULL, &err), -1);
        assert_true(has(err.text, "cuDNN could not run a batch norm"));
        norm_plan_free(plan);
    }
    assert_int_equal(norm_mask_bytes(&norm_key), 128 * 8 * 8 * 16 / 8);
    planner_free(planner);
}

/* --- units of networks --- */

static void test_units_that_own_kernels_compute_have_no_key(void **state) {
    (void)state;
    struct plan_rig_net narrow = plan_rig_net("resnet8", PRECISION_BF16), wide = plan_rig_net("resnet8", PRECISION_F32);
    struct conv_key key;
    struct norm_key norm;
    int linears = 0, norms = 0;
    for (int i = 0; i < narrow.gpu->units_n; i++) {
        const struct gpu_unit *unit = &narrow.gpu->units[i], *same = &wide.gpu->units[i];
        if (unit->kind == GPU_LINEAR) {
            linears++;
            assert_false(conv_unit_key(narrow.gpu, narrow.graph->nodes, unit, CONV_FORWARD, &key));
            assert_true(conv_unit_key(wide.gpu, wide.graph->nodes, same, CONV_FORWARD, &key));
            assert_int_equal(key.k, 16); /* ten classes */
            assert_int_equal(key.kernel_h * key.kernel_w * key.h * key.w, 1);
        }
        if (unit->kind == GPU_NORM) {
            norms++;
            assert_true(norm_unit_key(narrow.gpu, narrow.graph->nodes, unit, NORM_BACK, &norm));
            assert_false(norm_unit_key(wide.gpu, wide.graph->nodes, same, NORM_BACK, &norm));
        }
    }
    assert_int_equal(linears, 1);
    assert_int_equal(norms, 7);
    plan_rig_net_done(&narrow);
    plan_rig_net_done(&wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strict_f32_takes_no_engine_of_fewer_bits),
        cmocka_unit_test(test_bf16_and_tf32_take_tensor_cores),
        cmocka_unit_test(test_nondeterministic_engines_are_taken_where_they_are_allowed),
        cmocka_unit_test(test_the_same_engine_is_chosen_again),
        cmocka_unit_test(test_a_denied_engine_is_passed_over),
        cmocka_unit_test(test_a_plan_fits_the_workspace),
        cmocka_unit_test(test_what_cudnn_does_not_have_is_unsupported),
        cmocka_unit_test(test_a_wrong_shape_is_no_missing_engine),
        cmocka_unit_test(test_odd_shapes_have_a_plan_or_are_unsupported),
        cmocka_unit_test(test_compute_capability_7_5_has_f32_only),
        cmocka_unit_test(test_a_device_or_deny_list_that_cannot_be_read_is_refused),
        cmocka_unit_test(test_the_profile_comes_back),
        cmocka_unit_test(test_a_run_without_a_handle_is_an_error),
        cmocka_unit_test(test_fused_batch_norm_needs_lanes_a_relu_and_a_compiler),
        cmocka_unit_test(test_fused_batch_norm_takes_its_addresses),
        cmocka_unit_test(test_units_that_own_kernels_compute_have_no_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
