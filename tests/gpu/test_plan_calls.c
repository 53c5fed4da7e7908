/* What plans say to cuDNN: tensors as they are, every address, and every descriptor given back, also when a call fails. The real
 * cuDNN is behind a table that listens. Without a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tests/gpu/plan_rig.h"
#include "tests/unit/alloc_rig.h"

enum { UIDS_MAX = 64 };

/* cuDNN, and what went through the table. */
static struct gpu_driver real;
static long calls, failing_call, live; /* live: descriptors that were not given back */
static struct {
    int64_t dims[4], uids[UIDS_MAX]; /* uids: of tensors that are in memory or given by value */
    int uids_n, tensors, packs;
    cudnnDataType_t type; /* of all tensors of values */
} said;

static bool fails(void) {
    return ++calls == failing_call;
}

/* --- the table --- */

static cudnnStatus_t create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *ret_descriptor) {
    if (fails())
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    live++;
    return real.cudnnBackendCreateDescriptor(type, ret_descriptor);
}

static cudnnStatus_t destroy(cudnnBackendDescriptor_t descriptor) {
    live--;
    return real.cudnnBackendDestroyDescriptor(descriptor);
}

static void hear_strides(const int64_t *strides, int64_t count) {
    const int64_t *dims = said.dims, expected[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    assert_int_equal(count, 4);
    assert_memory_equal(strides, expected, sizeof expected);
    said.tensors++;
}

/* A pack names each tensor that is not between two operations, once, with an address. */
static void hear_pack(const int64_t *uids, int64_t count) {
    assert_int_equal(count, said.uids_n);
    for (int i = 0; i < said.uids_n; i++) {
        int found = 0;
        for (int64_t k = 0; k < count; k++)
            found += uids[k] == said.uids[i];
        assert_int_equal(found, 1);
    }
    said.packs++;
}

static void hear_addresses(void *const *addresses, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        assert_non_null(addresses[i]);
        for (int64_t k = 0; k < i; k++)
            assert_ptr_not_equal(addresses[i], addresses[k]);
    }
}

static cudnnStatus_t set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t count, const void *values) {
    const int64_t *numbers = values;
    if (fails())
        return CUDNN_STATUS_INTERNAL_ERROR;
    if (name == CUDNN_ATTR_TENSOR_DIMENSIONS)
        memcpy(said.dims, values, sizeof said.dims);
    if (name == CUDNN_ATTR_TENSOR_STRIDES)
        hear_strides(numbers, count);
    if (name == CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)
        assert_int_equal(numbers[0], 16);
    if (name == CUDNN_ATTR_TENSOR_UNIQUE_ID) {
        assert_true(said.uids_n < UIDS_MAX);
        said.uids[said.uids_n++] = numbers[0];
    }
    if (name == CUDNN_ATTR_TENSOR_IS_VIRTUAL)
        said.uids_n--;
    if (name == CUDNN_ATTR_TENSOR_DATA_TYPE)
        said.type = *(const cudnnDataType_t *)values;
    if (name == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)
        hear_pack(numbers, count);
    if (name == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)
        hear_addresses(values, count);
    return real.cudnnBackendSetAttribute(descriptor, name, type, count, values);
}

static cudnnStatus_t get(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t room, int64_t *ret_count, void *ret_values) {
    return fails() ? CUDNN_STATUS_INTERNAL_ERROR
                   : real.cudnnBackendGetAttribute(descriptor, name, type, room, ret_count, ret_values);
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t descriptor) {
    return fails() ? CUDNN_STATUS_INTERNAL_ERROR : real.cudnnBackendFinalize(descriptor);
}

static struct gpu_driver listening(void) {
    struct gpu_driver driver = real;
    driver.cudnnBackendCreateDescriptor = create;
    driver.cudnnBackendDestroyDescriptor = destroy;
    driver.cudnnBackendSetAttribute = set;
    driver.cudnnBackendGetAttribute = get;
    driver.cudnnBackendFinalize = finalize;
    memset(&said, 0, sizeof said);
    return driver;
}

/* --- convolutions --- */

/* x, w and y of different sizes, so that one in the place of another is seen. */
static struct conv_key key_of(enum conv_op op, enum spec_precision precision) {
    return (struct conv_key){.op = op,
                             .precision = precision,
                             .n = 8,
                             .h = 16,
                             .w = 12,
                             .c = 32,
                             .oh = 8,
                             .ow = 6,
                             .k = 64,
                             .kernel_h = 3,
                             .kernel_w = 3,
                             .stride_h = 2,
                             .stride_w = 2,
                             .pad_h = 1,
                             .pad_w = 1,
                             .dilation_h = 1,
                             .dilation_w = 1,
                             .groups = 1};
}

static struct planner_options options_of(const struct gpu_driver *driver) {
    return (struct planner_options){
        .driver = driver, .profile = gpu_profile_json("h100"), .compute = 90, .workspace_bytes = 512 << 20};
}

/* Plans and binds on a fresh planner. Returns whether all went well; what did not has an error, and only that. */
static bool plan_conv(const struct conv_key *key) {
    struct gpu_driver driver = listening();
    const struct planner_options options = options_of(&driver);
    struct planner *planner = NULL;
    struct conv_plan *plan = NULL;
    struct err err = {0};
    bool done = planner_new(&options, &planner, &err) == 0 && conv_plan_new(planner, key, &plan, &err) == 0 &&
                conv_plan_bind(plan, 1 << 20, 2 << 20, 3 << 20, 4 << 20, &err) == 0;
    if (done != (err.code == ERR_NONE) || done != (err.text[0] == '\0'))
        fail_msg("call %ld, %s: %s", failing_call, done ? "all went well" : "it failed", err.text);
    conv_plan_free(plan);
    planner_free(planner);
    assert_int_equal(live, 0);
    return done;
}

static bool attempt(void) {
    struct conv_key key = key_of(CONV_FORWARD, PRECISION_BF16);
    return plan_conv(&key);
}

static void test_no_descriptor_is_lost_when_a_call_fails(void **state) {
    (void)state;
    int failed = 0;
    real = plan_rig_need();
    failing_call = 0;
    do {
        failing_call++;
        calls = 0;
        failed += !attempt();
        assert_true(failing_call < 1000);
    } while (calls >= failing_call);
    failing_call = 0;
    assert_true(failed > 30);
}

static void test_memory_that_runs_out_is_said(void **state) {
    (void)state;
    real = plan_rig_need();
    assert_int_equal(alloc_rig_starve(attempt, 20), 3);
}

/* cuDNN plans for any strides and types: only what is said tells whether they are those of our tensors. */
static void test_tensors_are_said_as_they_are(void **state) {
    (void)state;
    real = plan_rig_need();
    for (int i = 0; i <= CONV_BACK_W; i++)
        for (int p = 0; p <= PRECISION_TF32; p++) {
            struct conv_key key = key_of((enum conv_op)i, (enum spec_precision)p);
            assert_true(plan_conv(&key));
            assert_int_equal(said.tensors, 3);
            assert_int_equal(said.packs, 1);
            assert_int_equal(said.type, p == PRECISION_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT);
        }
}

/* --- batch norms --- */

/* Every address is another one, so that none stands for two. */
static const struct norm_addresses forward_at = {.x = 1 << 20,
                                                 .mean = 2 << 20,
                                                 .inverse = 3 << 20,
                                                 .gamma = 4 << 20,
                                                 .mask = 5 << 20,
                                                 .y = 6 << 20,
                                                 .beta = 7 << 20,
                                                 .add = 8 << 20,
                                                 .running_mean = 9 << 20,
                                                 .running_var = 10 << 20,
                                                 .running_mean_out = 11 << 20,
                                                 .running_var_out = 12 << 20,
                                                 .workspace = 13 << 20};
static const struct norm_addresses back_at = {.x = 1 << 20,
                                              .mean = 2 << 20,
                                              .inverse = 3 << 20,
                                              .gamma = 4 << 20,
                                              .mask = 5 << 20,
                                              .dy = 6 << 20,
                                              .dx = 7 << 20,
                                              .dadd = 8 << 20,
                                              .dgamma = 9 << 20,
                                              .dbeta = 10 << 20,
                                              .workspace = 11 << 20};

static void test_a_batch_norm_is_given_all_its_addresses(void **state) {
    (void)state;
    real = plan_rig_need();
    struct gpu_driver driver = listening();
    const struct planner_options options = options_of(&driver);
    struct planner *planner = NULL;
    struct err err = {0};
    assert_int_equal(planner_new(&options, &planner, &err), 0);
    for (int i = 0; i < 6; i++) {
        struct norm_key key = {.op = i % 2 == 0 ? NORM_FORWARD : NORM_BACK, .n = 8, .h = 8, .w = 8, .c = 16};
        struct norm_plan *plan = NULL;
        memset(&said, 0, sizeof said);
        key.relu = i > 1;
        key.add = i > 3;
        if (norm_plan_new(planner, &key, &plan, &err) != 0 ||
            norm_plan_bind(plan, key.op == NORM_FORWARD ? &forward_at : &back_at, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(said.packs, 1);
        norm_plan_free(plan);
    }
    planner_free(planner);
    assert_int_equal(live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_descriptor_is_lost_when_a_call_fails),
        cmocka_unit_test(test_memory_that_runs_out_is_said),
        cmocka_unit_test(test_tensors_are_said_as_they_are),
        cmocka_unit_test(test_a_batch_norm_is_given_all_its_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
