/* The GPU backend on the strict double: a captured step gives the bits of one that is launched kernel by kernel, images that lie
 * on the device those of the trainer's, a small ResNet the losses of the reference; and what fails is said and leaves nothing
 * behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gpu/noise.h"
#include "tests/ops/checks.h"

static const struct op_case net = {"net",
                                   {CHANNELS, HEIGHT, WIDTH},
                                   BATCH,
                                   "conv o=20 k=3 p=1; norm; act kind=relu; dropout rate=0.3; conv o=32 k=3 p=1; norm;"
                                   "conv o=32 k=1 in=4; add in=6,7; act kind=relu; max k=2 s=2; conv o=48 k=3 s=2 p=1 bias;"
                                   "act kind=gelu; gap; linear o=33 bias; act kind=tanh"};

static void load(struct rig *rig, const struct noise *noise) {
    struct backend_data data = noise_data(noise);
    struct err err = {0};
    if (rig->module->load_data(rig->backend, SET_TRAIN, &data, &err) != 0)
        fail_msg("%s", err.text);
}

/* --- steps --- */

/* The same batch, its images taken from the device. */
static struct backend_batch from_set(const struct noise_batch *made) {
    struct backend_batch view = made->view;
    view.images = NULL;
    view.set = SET_TRAIN;
    return view;
}

static double train(struct rig *rig, const struct backend_batch *view, int step) {
    struct backend_optimizer optimizer = {
        .lr = 0.05f / (float)(step + 1), .momentum = 0.9f, .weight_decay = 1e-3f, .clip_norm = 2, .step = step + 1};
    struct backend_result result = {0};
    struct err err = {0};
    if (rig->module->train_step(rig->plan, view, &optimizer, &result, &err) != 0)
        fail_msg("step %d: %s", step, err.text);
    return result.loss_sum;
}

static double evaluate(struct rig *rig, const struct backend_batch *view) {
    struct backend_result result = {0};
    struct err err = {0};
    if (rig->module->eval_step(rig->plan, view, NULL, &result, &err) != 0)
        fail_msg("evaluation: %s", err.text);
    return result.loss_sum;
}

static void assert_same_values(struct rig *one, struct rig *other) {
    for (int i = 0; i < one->graph->params_n; i++) {
        struct buffer a = rig_get(one, TENSOR_VALUE, i), b = rig_get(other, TENSOR_VALUE, i);
        if (memcmp(buffer_floats(&a), buffer_floats(&b), a.size_bytes) != 0)
            fail_msg("%s differs", one->graph->params[i].name);
        buffer_free(&a);
        buffer_free(&b);
    }
}

/* --- pairs of plans --- */

struct pair {
    struct report report;
    struct graph *graph;
    struct rig one, other;
    struct noise *noise;
};

static const struct residuum_backend *open_module(const char *name, struct report *report) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", build_folder(), name);
    return module_open(path, report);
}

static void pair_begin(struct pair *pair, enum spec_precision precision, enum backend_steps steps) {
    struct err err = {0};
    *pair = (struct pair){0};
    const struct residuum_backend *module = open_module("double/backend-cudnn.so", &pair->report);
    struct backend_plan_options options = {.batch = BATCH, .precision = precision};
    pair->noise = noise_new();
    pair->graph = case_build(&net, &err);
    if (module == NULL || pair->graph == NULL || rig_init(&pair->one, module, pair->graph, &options, &pair->report) != 0)
        fail_msg("%s%s", pair->report.first, err.text);
    options.steps = steps;
    if (rig_init(&pair->other, module, pair->graph, &options, &pair->report) != 0)
        fail_msg("%s", pair->report.first);
    values_set(&pair->one);
    values_set(&pair->other);
    load(&pair->one, pair->noise);
    load(&pair->other, pair->noise);
}

static void pair_end(struct pair *pair) {
    assert_same_values(&pair->one, &pair->other);
    if (pair->report.n > 0)
        fail_msg("%s", pair->report.first);
    rig_done(&pair->one);
    rig_done(&pair->other);
    graph_free(pair->graph);
    noise_free(pair->noise);
}

/* --- tests --- */

/* Steps, evaluations in between, learning rates that change, both sources of images. */
static void run_captured(enum spec_precision precision) {
    struct pair pair;
    struct noise_batch made;
    pair_begin(&pair, precision, STEPS_EAGER);
    for (int step = 0; step < STEPS; step++) {
        noise_batch(pair.noise, &noise_everything, step, &made);
        struct backend_batch views[] = {made.view, from_set(&made)};
        for (int i = 0; i < 2; i++) {
            assert_true(train(&pair.one, &views[i], step) == train(&pair.other, &views[i], step));
            assert_true(evaluate(&pair.one, &views[i]) == evaluate(&pair.other, &views[i]));
        }
    }
    pair_end(&pair);
}

static void captured_f32(void **state) {
    (void)state;
    run_captured(PRECISION_F32);
}

static void captured_bf16(void **state) {
    (void)state;
    run_captured(PRECISION_BF16);
}

static void captured_tf32(void **state) {
    (void)state;
    run_captured(PRECISION_TF32);
}

static void captured_fused(void **state) {
    (void)state;
    setenv("RESIDUUM_DOUBLE_CUDNN", "own", 1);
    setenv("RESIDUUM_GPU_FEATURES", "captured-steps,fused-norm", 1);
    run_captured(PRECISION_BF16);
    unsetenv("RESIDUUM_GPU_FEATURES");
    unsetenv("RESIDUUM_DOUBLE_CUDNN");
}

/* One plan is given the images by the host, the other takes them from the device. */
static void run_images(const struct augment *augment) {
    struct pair pair;
    struct noise_batch made;
    pair_begin(&pair, PRECISION_F32, STEPS_AUTO);
    for (int step = 0; step < STEPS; step++) {
        noise_batch(pair.noise, augment, step, &made);
        struct backend_batch view = from_set(&made);
        assert_true(train(&pair.one, &made.view, step) == train(&pair.other, &view, step));
    }
    pair_end(&pair);
}

static void images_plain(void **state) {
    (void)state;
    run_images(&(struct augment){0});
}

static void images_moved(void **state) {
    (void)state;
    run_images(&(struct augment){.crop = 3, .flip = true, .cutout = 4, .seed = 9, .epoch = 2});
}

static void images_augmented(void **state) {
    (void)state;
    run_images(&noise_everything);
}

/* What cannot be is refused, and does no harm. */
static void wrong_rows_are_refused(void **state) {
    (void)state;
    struct pair pair;
    struct noise_batch made;
    struct backend_result result;
    struct backend_optimizer optimizer = {.lr = 0.1f, .step = 1};
    pair_begin(&pair, PRECISION_F32, STEPS_AUTO);
    noise_batch(pair.noise, &noise_everything, 0, &made);
    struct backend_batch view = from_set(&made);
    struct err row = {0}, set = {0};
    made.samples[BATCH - 1] = IMAGES;
    assert_int_equal(pair.one.module->train_step(pair.one.plan, &view, &optimizer, &result, &row), -1);
    assert_non_null(strstr(row.text, "image 40 of a data set of 40"));
    view.set = SET_VALIDATION;
    assert_int_equal(pair.one.module->train_step(pair.one.plan, &view, &optimizer, &result, &set), -1);
    assert_non_null(strstr(set.text, "was not copied"));
    pair_end(&pair);
}

static void a_step_tells_its_time(void **state) {
    (void)state;
    struct pair pair;
    struct noise_batch made;
    struct backend_telemetry telemetry;
    struct err err = {0};
    pair_begin(&pair, PRECISION_F32, STEPS_AUTO);
    assert_int_equal(pair.one.module->telemetry(pair.one.backend, &telemetry, &err), 0);
    assert_true(telemetry.step_s < 0);
    noise_batch(pair.noise, &noise_everything, 0, &made);
    train(&pair.one, &made.view, 0);
    train(&pair.other, &made.view, 0);
    assert_int_equal(pair.one.module->telemetry(pair.one.backend, &telemetry, &err), 0);
    assert_true(telemetry.step_s >= 0);
    pair_end(&pair);
}

/* --- a ResNet --- */

static const struct op_case resnet = {"resnet",
                                      {CHANNELS, HEIGHT, WIDTH},
                                      BATCH,
                                      "conv o=16 k=3 p=1; norm; act kind=relu;"
                                      "conv o=16 k=3 p=1; norm; act kind=relu; conv o=16 k=3 p=1; norm; add in=8,3;"
                                      "act kind=relu; conv o=32 k=3 s=2 p=1; norm; act kind=relu; conv o=32 k=3 p=1;"
                                      "norm; conv o=32 k=1 s=2 in=10; norm; add in=15,17; act kind=relu;"
                                      /* another reader of a norm's input: its gradient is added */
                                      "norm in=14; act kind=relu; add in=19,21; gap"};

enum { TRIO = 3 };

/* Three plans of it. */
struct trio {
    struct report report;
    struct graph *graph;
    struct rig rigs[TRIO];
};

static void trio_begin(struct trio *trio) {
    struct err err = {0};
    *trio = (struct trio){.graph = case_build(&resnet, &err)};
    if (trio->graph == NULL)
        fail_msg("%s", err.text);
}

static void trio_add(struct trio *trio, int i, const char *name, const struct backend_plan_options *options) {
    const struct residuum_backend *module = open_module(name, &trio->report);
    if (module == NULL || rig_init(&trio->rigs[i], module, trio->graph, options, &trio->report) != 0)
        fail_msg("%s", trio->report.first);
    values_set(&trio->rigs[i]);
}

/* Two epochs, in which the losses may differ so much. */
static void trio_train(struct trio *trio, double tolerance) {
    struct noise *noise = noise_new();
    for (int step = 0; step < 2 * STEPS; step++) {
        struct noise_batch made;
        noise_batch(noise, &noise_everything, step % STEPS, &made);
        double expected = train(&trio->rigs[0], &made.view, step);
        for (int i = 1; i < TRIO; i++) {
            double loss = train(&trio->rigs[i], &made.view, step);
            if (!(fabs(loss - expected) <= tolerance * fmax(1.0, expected)))
                fail_msg("step %d of plan %d: the loss is %.9g, not %.9g", step, i, loss, expected);
        }
    }
    noise_free(noise);
}

static void trio_end(struct trio *trio) {
    assert_same_values(&trio->rigs[1], &trio->rigs[2]);
    if (trio->report.n > 0)
        fail_msg("%s", trio->report.first);
    for (int i = 0; i < TRIO; i++)
        rig_done(&trio->rigs[i]);
    graph_free(trio->graph);
}

/* Captured and eager. */
static void a_resnet_learns_as_the_reference(void **state) {
    (void)state;
    struct trio trio;
    trio_begin(&trio);
    trio_add(&trio, 0, "backend-ref.so", &(struct backend_plan_options){.batch = BATCH});
    trio_add(&trio, 1, "double/backend-cudnn.so", &(struct backend_plan_options){.batch = BATCH});
    trio_add(&trio, 2, "double/backend-cudnn.so", &(struct backend_plan_options){.batch = BATCH, .steps = STEPS_EAGER});
    trio_train(&trio, 1e-5);
    trio_end(&trio);
}

/* In bf16 our own kernels, beside cuDNN's batch norms, captured and eager. denied: engines of cuDNN, NULL: none. */
static void run_fused(const char *denied) {
    struct trio trio;
    setenv("RESIDUUM_DOUBLE_CUDNN", "own", 1); /* the real one, where it is installed, has none for the double's device */
    struct backend_plan_options options = {.batch = BATCH, .precision = PRECISION_BF16};
    trio_begin(&trio);
    trio_add(&trio, 0, "double/backend-cudnn.so", &options);
    setenv("RESIDUUM_GPU_FEATURES", "captured-steps,fused-norm", 1);
    if (denied != NULL)
        setenv("RESIDUUM_CUDNN_DENY", denied, 1);
    trio_add(&trio, 1, "double/backend-cudnn.so", &options);
    options.steps = STEPS_EAGER;
    trio_add(&trio, 2, "double/backend-cudnn.so", &options);
    unsetenv("RESIDUUM_GPU_FEATURES");
    unsetenv("RESIDUUM_CUDNN_DENY");
    trio_train(&trio, 5e-3);
    trio_end(&trio);
    unsetenv("RESIDUUM_DOUBLE_CUDNN");
}

static void fused_norms_learn_as_our_own(void **state) {
    (void)state;
    run_fused(NULL);
}

/* Without a plan of the forward pass there is no mask for that of the backward pass. */
static void half_fused_norms_learn_as_our_own(void **state) {
    (void)state;
    run_fused("norm_forward:1");
    run_fused("norm_back:1");
}

/* --- faults that the double is told to make --- */

/* Everything that a job does, until it fails. Returns 0, or -1 and *err. */
static int work(const struct residuum_backend *module, const struct graph *graph, const struct noise *noise, struct err *err) {
    struct backend_info info;
    struct backend *backend = NULL;
    struct backend_plan *plan = NULL;
    struct backend_data data = noise_data(noise);
    struct backend_plan_options options = {.batch = BATCH};
    int rc = module->probe(0, &info, err);
    if (rc == 0)
        rc = module->open(&(struct backend_options){.threads = 1, .device_id = info.device_id}, &backend, err);
    if (rc == 0)
        rc = module->load_data(backend, SET_TRAIN, &data, err);
    if (rc == 0)
        rc = module->compile(backend, graph, &options, &plan, err);
    for (int step = 0; step < 4 && rc == 0; step++) {
        struct backend_optimizer optimizer = {.lr = 0.1f, .step = step + 1};
        struct backend_result result;
        struct noise_batch made;
        noise_batch(noise, &noise_everything, step, &made);
        struct backend_batch view = step % 2 == 0 ? made.view : from_set(&made);
        rc = module->train_step(plan, &view, &optimizer, &result, err);
        if (rc == 0)
            rc = module->eval_step(plan, &view, NULL, &result, err);
    }
    module->plan_free(plan);
    module->close(backend);
    return rc;
}

/* Does the work with a fault ordered; the double ends the process when something is left behind. */
static int work_with(const char *fault, struct err *err) {
    struct report report = {0};
    const struct residuum_backend *module = open_module("double/backend-cudnn.so", &report);
    struct graph *graph = case_build(&net, err);
    struct noise *noise = noise_new();
    setenv("RESIDUUM_DOUBLE_FAULT", fault, 1);
    int rc = module == NULL ? -1 : work(module, graph, noise, err);
    unsetenv("RESIDUUM_DOUBLE_FAULT");
    noise_free(noise);
    graph_free(graph);
    return rc;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    int n = 0, rc = -1;
    while (rc != 0) {
        struct err err = {0};
        char fault[32];
        snprintf(fault, sizeof fault, "oom:%d", ++n);
        rc = work_with(fault, &err);
        assert_int_equal(err.code, rc == 0 ? ERR_NONE : ERR_MEMORY);
    }
    assert_int_equal(n, 4); /* workspace, data set, network: they are all */
}

static void a_failed_device_ends_in_a_sentence(void **state) {
    (void)state;
    static const struct {
        const char *fault;
        enum err_code code;
    } rows[] = {{"sticky:700@1", ERR_BACKEND}, {"sticky:719@20", ERR_BACKEND}, {"sticky:700@200", ERR_BACKEND},
                {"ecc@3", ERR_DEVICE},         {"ecc@60", ERR_DEVICE},         {"ecc@250", ERR_DEVICE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        if (work_with(rows[i].fault, &err) == 0)
            fail_msg("%s did not fail", rows[i].fault);
        assert_int_equal(err.code, rows[i].code);
        assert_non_null(strstr(err.text, "the GPU could not "));
    }
}

/* Does the work on a device that can capture nothing, and returns how often that was said. */
static int refused_captures(const char *features) {
    struct err err = {0};
    char said[4096] = "";
    FILE *file = tmpfile();
    int kept = dup(STDERR_FILENO), n = 0;
    assert_true(file != NULL && kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    if (features != NULL)
        setenv("RESIDUUM_GPU_FEATURES", features, 1);
    int rc = work_with("capture", &err);
    unsetenv("RESIDUUM_GPU_FEATURES");
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(rc, 0);
    for (const char *at = said; (at = strstr(at, "could not be captured")) != NULL; at++)
        n++;
    return n;
}

static void what_cannot_be_captured_stays_eager(void **state) {
    (void)state;
    assert_int_equal(refused_captures(NULL), 1);
    assert_int_equal(refused_captures("fused-norm,captured-steps"), 1);
    assert_int_equal(refused_captures("fused-norm"), 0); /* the self-check does not allow it: nothing is tried */
    assert_int_equal(refused_captures(""), 0);
}

/* Compiles what the device cannot do; it is refused in these words. */
static void assert_refused(const struct op_case *network, int batch, const char *words) {
    struct report report = {0};
    struct err err = {0};
    const struct residuum_backend *module = open_module("double/backend-cudnn.so", &report);
    struct graph *graph = case_build(network, &err);
    struct backend_plan_options options = {.batch = batch};
    struct backend_info info;
    struct backend *backend = NULL;
    struct backend_plan *plan = NULL;
    assert_true(module != NULL && graph != NULL);
    assert_int_equal(module->probe(0, &info, &err), 0);
    assert_int_equal(module->open(&(struct backend_options){.threads = 1, .device_id = info.device_id}, &backend, &err), 0);
    assert_int_equal(module->compile(backend, graph, &options, &plan, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, words));
    module->close(backend);
    graph_free(graph);
}

/* Kernels count groups of eight channels in 32 bits, and places of a max pool in 16. */
static void more_than_kernels_count_to_is_refused(void **state) {
    (void)state;
    static const struct op_case wide = {"wide", {1, 257, 257}, 1, "max k=257 s=1; linear o=2 bias"};
    assert_refused(&net, 1 << 28, "more than the 17179869184 that kernels count to");
    assert_refused(&wide, 1, "takes the largest of 257x257 values");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captured_f32),
        cmocka_unit_test(captured_bf16),
        cmocka_unit_test(captured_tf32),
        cmocka_unit_test(captured_fused),
        cmocka_unit_test(images_plain),
        cmocka_unit_test(images_moved),
        cmocka_unit_test(images_augmented),
        cmocka_unit_test(wrong_rows_are_refused),
        cmocka_unit_test(more_than_kernels_count_to_is_refused),
        cmocka_unit_test(a_step_tells_its_time),
        cmocka_unit_test(a_resnet_learns_as_the_reference),
        cmocka_unit_test(fused_norms_learn_as_our_own),
        cmocka_unit_test(half_fused_norms_learn_as_our_own),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_failed_device_ends_in_a_sentence),
        cmocka_unit_test(what_cannot_be_captured_stays_eager),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
