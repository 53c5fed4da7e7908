/* What jobs need of a GPU, the largest batch that fits, and refusals in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/graph/gpu.h"
#include "tests/unit/alloc_rig.h"
#include "tests/unit/model_rig.h"

static const int64_t mib = INT64_C(1) << 20, gib = INT64_C(1) << 30;
enum { IMAGES = 60000 };

/* A job, with the spec and graph that it borrows. */
struct work {
    struct spec spec;
    struct graph *graph;
    struct gpu_job job;
};

static void work_init_of(struct work *work, const char *document, struct graph_shape image) {
    struct err err = {0};
    *work = (struct work){.spec = model_rig_spec(document)};
    if (graph_build(&work->spec.model, image, 10, &work->graph, &err) < 0)
        fail_msg("%s: %s", document, err.text);
    work->job = (struct gpu_job){.graph = work->graph, .spec = &work->spec, .images = IMAGES, .image = image};
}

static void work_init(struct work *work, const char *document) {
    work_init_of(work, document, (struct graph_shape){3, 32, 32});
}

static void work_done(struct work *work) {
    graph_free(work->graph);
    spec_done(&work->spec);
}

static struct gpu_need need_of(const struct work *work, int64_t memory_bytes) {
    struct gpu_need need;
    struct err err = {0};
    if (gpu_need(&work->job, memory_bytes, &need, &err) < 0)
        fail_msg("%s", err.text);
    return need;
}

static const char *const documents[] = {
    "{\"dataset\": \"shapes\", \"model\": \"resnet18\", \"precision\": \"bf16\"}",
    "{\"dataset\": \"shapes\", \"model\": \"resnet20\", \"optimizer\": {\"kind\": \"adam\"}, \"average_decay\": 0.99}",
    "{\"dataset\": \"shapes\", \"model\": \"vgg16\", \"precision\": \"tf32\"}",
    "{\"dataset\": \"shapes\", \"model\": \"mlp\"}",
};
enum { DOCUMENTS_N = sizeof documents / sizeof documents[0] };

/* --- the need --- */

static void a_need_is_the_sum_of_its_parts(void **state) {
    (void)state;
    struct work work;
    work_init(&work, documents[0]);
    struct gpu_options options = {.batch = work.spec.batch_size, .precision = PRECISION_BF16, .train = true};
    struct gpu_plan *plan = NULL;
    struct err err = {0};
    assert_int_equal(gpu_plan_new(work.graph, &options, &plan, &err), 0);
    struct gpu_need need = need_of(&work, 24 * gib);
    assert_int_equal(need.train_bytes, plan->arena_bytes);
    assert_in_range(need.evaluate_bytes, 1, need.train_bytes - 1);
    assert_int_equal(need.data_bytes, IMAGES * 3 * 32 * 32);
    assert_int_equal(need.workspace_bytes, 384 * mib);
    assert_int_equal(need.context_bytes, GPU_CONTEXT_MIB * mib);
    assert_int_equal(need.total_bytes,
                     need.train_bytes + need.evaluate_bytes + need.data_bytes + need.workspace_bytes + need.context_bytes);
    gpu_plan_free(plan);
    work_done(&work);
}

static void it_grows_with_the_batch(void **state) {
    (void)state;
    for (int i = 0; i < DOCUMENTS_N; i++) {
        struct work work;
        int64_t before = 0;
        work_init(&work, documents[i]);
        for (int batch = 1; batch <= SPEC_BATCH_MAX; batch += batch < 70 ? 1 : 97) {
            work.spec.batch_size = batch;
            int64_t total = need_of(&work, 24 * gib).total_bytes;
            if (total < before)
                fail_msg("%s needs less with a batch of %d", documents[i], batch);
            before = total;
        }
        work_done(&work);
    }
}

static void the_average_and_the_optimizer_count(void **state) {
    (void)state;
    static const char *const rising[] = {
        "{\"dataset\": \"shapes\", \"model\": \"resnet18\"}",
        "{\"dataset\": \"shapes\", \"model\": \"resnet18\", \"average_decay\": 0.99}",
        "{\"dataset\": \"shapes\", \"model\": \"resnet18\", \"average_decay\": 0.99, \"optimizer\": {\"kind\": \"adamw\"}}"};
    int64_t before = 0;
    for (int i = 0; i < 3; i++) {
        struct work work;
        work_init(&work, rising[i]);
        int64_t total = need_of(&work, 24 * gib).total_bytes;
        assert_true(i == 0 || total - before >= work.graph->parameters * (int64_t)sizeof(float));
        before = total;
        work_done(&work);
    }
}

/* --- the largest batch --- */

static void the_largest_batch_fits_and_the_next_does_not(void **state) {
    (void)state;
    for (int i = 0; i < DOCUMENTS_N; i++) {
        struct work work;
        work_init(&work, documents[i]);
        work.spec.batch_size = 1;
        int64_t one = need_of(&work, 24 * gib).total_bytes;
        for (int64_t more = 0; more <= 2 * gib; more += 91 * mib) {
            int batch = gpu_largest_batch(&work.job, 24 * gib, one + more);
            assert_in_range(batch, 1, SPEC_BATCH_MAX);
            work.spec.batch_size = batch;
            assert_true(need_of(&work, 24 * gib).total_bytes <= one + more);
            work.spec.batch_size = batch + 1;
            assert_true(batch == SPEC_BATCH_MAX || need_of(&work, 24 * gib).total_bytes > one + more);
        }
        assert_int_equal(gpu_largest_batch(&work.job, 24 * gib, one - 1), 0);
        assert_int_equal(gpu_largest_batch(&work.job, 24 * gib, 1000 * gib), SPEC_BATCH_MAX);
        work_done(&work);
    }
}

/* --- refusals --- */

static const struct gpu_profile *profile_of(const char *name) {
    const struct gpu_profile *profile = gpu_profile_find(name, "", NULL);
    assert_non_null(profile);
    return profile;
}

/* Whether the job is taken; *ret_err says why not. */
static bool taken(const struct work *work, const char *profile, int64_t room_bytes, struct err *ret_err) {
    struct gpu_need need = {.total_bytes = -1};
    *ret_err = (struct err){0};
    int failed = gpu_need_check(&work->job, profile_of(profile), room_bytes, &need, ret_err);
    assert_int_equal(failed < 0, need.total_bytes == -1);
    assert_int_equal(failed < 0, ret_err->code == ERR_UNSUPPORTED);
    return failed == 0;
}

static void too_large_a_batch_is_told_the_largest(void **state) {
    (void)state;
    struct work work;
    struct err err;
    work_init(&work, documents[0]);
    work.spec.batch_size = 4096;
    assert_true(taken(&work, "h100", 79 * gib, &err));
    assert_false(taken(&work, "r4090", 10 * gib, &err));
    assert_string_equal(err.pointer, "/batch_size");
    int largest = gpu_largest_batch(&work.job, profile_of("r4090")->memory_bytes, 10 * gib);
    assert_in_range(largest, 1000, 4095);
    char text[512];
    snprintf(text, sizeof text, "and NVIDIA GeForce RTX 4090 has room for 10.00 GiB; the largest batch_size that fits is %d",
             largest);
    assert_non_null(strstr(err.text, text));
    assert_ptr_equal(strstr(err.text, "Training with a batch_size of 4096 needs 1"), err.text);
    work.spec.batch_size = largest;
    assert_true(taken(&work, "r4090", 10 * gib, &err));
    work.spec.batch_size = largest + 1;
    assert_false(taken(&work, "r4090", 10 * gib, &err));
    work_done(&work);
}

/* One byte is missing: what is needed still reads as more than the room. */
static void a_byte_too_little_reads_so(void **state) {
    (void)state;
    struct work work;
    struct err err;
    double need, train, evaluate, images, workspace, context, rest;
    work_init(&work, documents[0]);
    work.spec.precision = PRECISION_F32;
    int64_t total = need_of(&work, profile_of("t4")->memory_bytes).total_bytes;
    assert_true(taken(&work, "t4", total, &err));
    assert_false(taken(&work, "t4", total - 1, &err));
    int n = sscanf(err.text,
                   "Training with a batch_size of 128 needs %lf GiB (%lf to train, %lf to evaluate, %lf of images, %lf of "
                   "workspace, %lf of CUDA itself), and Tesla T4 has room for %lf GiB",
                   &need, &train, &evaluate, &images, &workspace, &context, &rest);
    assert_int_equal(n, 7);
    assert_true(need > rest && need - rest < 0.02);
    assert_true(train + evaluate + images + workspace + context >= need);
    work_done(&work);
}

static void a_network_that_never_fits_is_told_so(void **state) {
    (void)state;
    struct work work;
    struct err err;
    work_init(&work, documents[0]);
    assert_false(taken(&work, "a100", gib, &err));
    assert_string_equal(err.pointer, "/model");
    assert_non_null(strstr(err.text, "not even one image at a time fits"));
    assert_true(strlen(err.text) < sizeof err.text - 1);
    work_done(&work);
}

static void precision_needs_its_hardware(void **state) {
    (void)state;
    struct work work;
    struct err err;
    work_init(&work, documents[3]);
    for (int i = 0; i < 3; i++) {
        static const enum spec_precision precisions[] = {PRECISION_BF16, PRECISION_TF32, PRECISION_F32};
        work.spec.precision = precisions[i];
        assert_true(taken(&work, "a100", 16 * gib, &err));
        assert_int_equal(taken(&work, "t4", 16 * gib, &err), precisions[i] == PRECISION_F32);
        if (precisions[i] == PRECISION_F32)
            continue;
        assert_string_equal(err.pointer, "/precision");
        assert_non_null(strstr(err.text, spec_precision_name(precisions[i])));
        assert_non_null(strstr(err.text, "Tesla T4 has 7.5"));
    }
    work_done(&work);
}

/* A max pool: its places are saved as 16 bits. */
static bool pool_is_taken(int kernel, struct err *ret_err) {
    char document[400];
    struct work work;
    snprintf(
        document, sizeof document,
        "{\"dataset\": \"shapes\", \"model\": {\"layers\": [{\"name\": \"wide\", \"op\": \"max_pool\", \"kernel\": %d}, "
        "{\"name\": \"flat\", \"op\": \"flatten\"}, {\"name\": \"fc\", \"op\": \"linear\", \"out_features\": \"classes\"}]}}",
        kernel);
    work_init_of(&work, document, (struct graph_shape){1, 257, 257});
    bool done = taken(&work, "h100", 79 * gib, ret_err);
    work_done(&work);
    return done;
}

static void the_largest_pool_is_trained_and_no_larger_one(void **state) {
    (void)state;
    struct err err;
    assert_true(pool_is_taken(256, &err));
    assert_false(pool_is_taken(257, &err));
    assert_string_equal(err.pointer, "/model");
    assert_non_null(strstr(err.text, "Layer 'wide' takes the largest of 257x257 values; a GPU trains with at most 65536"));
}

/* --- no memory --- */

static struct work starved;

static bool check_once(void) {
    struct gpu_need need;
    struct err err = {0};
    int failed = gpu_need_check(&starved.job, profile_of("h100"), INT64_C(1) << 31, &need, &err);
    assert_int_equal(failed, -1);
    assert_true(err.code == ERR_MEMORY || err.code == ERR_UNSUPPORTED);
    return err.code == ERR_UNSUPPORTED;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    work_init(&starved, documents[1]);
    starved.spec.batch_size = SPEC_BATCH_MAX;
    assert_true(alloc_rig_starve(check_once, 2000) >= 100);
    work_done(&starved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_need_is_the_sum_of_its_parts),
        cmocka_unit_test(it_grows_with_the_batch),
        cmocka_unit_test(the_average_and_the_optimizer_count),
        cmocka_unit_test(the_largest_batch_fits_and_the_next_does_not),
        cmocka_unit_test(too_large_a_batch_is_told_the_largest),
        cmocka_unit_test(a_byte_too_little_reads_so),
        cmocka_unit_test(a_network_that_never_fits_is_told_so),
        cmocka_unit_test(precision_needs_its_hardware),
        cmocka_unit_test(the_largest_pool_is_trained_and_no_larger_one),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
