/* Tests of layer figures on a small made-up network with a backend that puts out what the test says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/train/layers.h"
#include "tests/unit/alloc_rig.h"

enum { INPUT, CONV, NORM, RELU, GELU, FLATTEN, LINEAR, LOSS, NODES_N };
enum { CONV_WEIGHT, GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR, LINEAR_WEIGHT, LINEAR_BIAS, PARAMS_N };

static struct graph_node nodes[NODES_N] = {
    [INPUT] = {.name = "input", .op = OP_INPUT, .out = {1, 2, 1}},
    [CONV] = {.name = "conv1", .op = OP_CONV, .out = {2, 2, 1}, .params = {CONV_WEIGHT}, .params_n = 1},
    [NORM] = {.name = "bn1", .op = OP_NORM, .out = {2, 2, 1}, .params = {GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR}, .params_n = 4},
    [RELU] = {.name = "relu1", .op = OP_ACT, .activation = ACTIVATION_RELU, .out = {2, 2, 1}},
    [GELU] = {.name = "gelu1", .op = OP_ACT, .activation = ACTIVATION_GELU, .out = {2, 2, 1}},
    [FLATTEN] = {.name = "flatten", .op = OP_FLATTEN, .out = {4, 1, 1}},
    [LINEAR] = {.name = "fc", .op = OP_LINEAR, .out = {3, 1, 1}, .params = {LINEAR_WEIGHT, LINEAR_BIAS}, .params_n = 2},
    [LOSS] = {.name = "loss", .op = OP_LOSS, .out = {3, 1, 1}},
};
/* All others are running statistics. */
static struct graph_param params[PARAMS_N] = {
    [CONV_WEIGHT] = {.trainable = true},   [GAMMA] = {.trainable = true},       [BETA] = {.trainable = true},
    [LINEAR_WEIGHT] = {.trainable = true}, [LINEAR_BIAS] = {.trainable = true},
};
static const struct graph graph = {.nodes = nodes, .nodes_n = NODES_N, .params = params, .params_n = PARAMS_N};

static void assert_column(const json_t *columns, const char *key, size_t n, const double *want) {
    const json_t *column = json_object_get(columns, key);
    assert_int_equal(json_array_size(column), n);
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(column, i);
        if (isnan(want[i]) ? !json_is_null(value) : !json_is_real(value) || json_real_value(value) != want[i])
            fail_msg("%s %zu is %g; %g expected", key, i, json_real_value(value), want[i]);
    }
}

static void assert_names(const json_t *columns, size_t n, const char *const *want) {
    const json_t *column = json_object_get(columns, "name");
    assert_int_equal(json_array_size(column), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(json_string_value(json_array_get(column, i)), want[i]);
}

static void assert_weights(const struct layers *layers, const double *gradients, const double *weights, const double *ratios) {
    static const char *const names[] = {"conv1", "bn1", "fc"};
    json_t *columns = layers_weights_json(layers);
    assert_int_equal(json_object_size(columns), 4);
    assert_names(columns, 3, names);
    assert_column(columns, "gradient_norm", 3, gradients);
    assert_column(columns, "weight_norm", 3, weights);
    assert_column(columns, "update_ratio", 3, ratios);
    json_decref(columns);
}

/* --- over steps --- */

/* Rows of two steps: gradient, weight, update. gamma starts at 0, as a zero-initialized last one does. */
static const struct backend_statistics first_step[PARAMS_N] = {[CONV_WEIGHT] = {1, 10, 2},
                                                               [GAMMA] = {3, 0, 1},
                                                               [BETA] = {4, 0, 1},
                                                               [LINEAR_WEIGHT] = {0, 3, 0.3},
                                                               [LINEAR_BIAS] = {0, 4, 0.4}};
static const struct backend_statistics second_step[PARAMS_N] = {
    [CONV_WEIGHT] = {2, 20, 6}, [GAMMA] = {6, 3, 3}, [BETA] = {8, 4, 4}, [LINEAR_WEIGHT] = {1, 6, 0}, [LINEAR_BIAS] = {0, 8, 0}};

static void norms_are_means_over_steps(void **state) {
    (void)state;
    struct layers layers;
    struct err err = {0};
    assert_int_equal(layers_init(&layers, &graph, &err), 0);
    layers_add(&layers, first_step);
    layers_add(&layers, second_step);
    assert_weights(&layers, (double[]){1.5, 7.5, 0.5}, (double[]){15, 2.5, 7.5}, (double[]){0.25, 1, 0.05});
    layers_reset(&layers);
    layers_add(&layers, first_step);
    assert_weights(&layers, (double[]){1, 5, 0}, (double[]){10, 0, 5}, (double[]){0.2, NAN, 0.1});
    layers_reset(&layers);
    assert_weights(&layers, (double[]){NAN, NAN, NAN}, (double[]){NAN, NAN, NAN}, (double[]){NAN, NAN, NAN});
    layers_done(&layers);
}

/* A third is written with six digits, an infinite gradient as null. */
static void norms_are_rounded_or_null(void **state) {
    (void)state;
    struct backend_statistics rows[PARAMS_N] = {
        [CONV_WEIGHT] = {1.0 / 3, 3, 1}, [GAMMA] = {INFINITY, 1, INFINITY}, [LINEAR_WEIGHT] = {NAN, 1, NAN}};
    struct layers layers;
    struct err err = {0};
    assert_int_equal(layers_init(&layers, &graph, &err), 0);
    layers_add(&layers, rows);
    assert_weights(&layers, (double[]){0.333333, NAN, NAN}, (double[]){3, 1, 1}, (double[]){0.333333, NAN, NAN});
    layers_done(&layers);
}

/* What a checkpoint keeps is all that an interrupted epoch needs. */
static void state_carries_over(void **state) {
    (void)state;
    struct layers layers, resumed;
    struct err err = {0};
    assert_int_equal(layers_init(&layers, &graph, &err), 0);
    assert_int_equal(layers_init(&resumed, &graph, &err), 0);
    assert_int_equal(layers.state_n, resumed.state_n);
    layers_add(&layers, first_step);
    memcpy(resumed.state, layers.state, layers.state_n * sizeof *layers.state);
    layers_add(&resumed, second_step);
    assert_weights(&resumed, (double[]){1.5, 7.5, 0.5}, (double[]){15, 2.5, 7.5}, (double[]){0.25, 1, 0.05});
    layers_done(&layers);
    layers_done(&resumed);
}

/* --- over images --- */

enum { IMAGES = 3, SIZE = 4 };

/* What the made-up backend puts out: conv and linear -1, 0, 1, ..., norms 2, activations the table. */
static int give_activation(struct backend_plan *plan, int node, int n, float *ret_values, struct err *err) {
    static const float relu[IMAGES * SIZE] = {0, 0, 1, 0, 0, 0, 0, 5, 0, 3, 0, 0};
    int first = plan == NULL ? 0 : 2, size = node == LINEAR ? 3 : SIZE;
    if (node == GELU && n == 0)
        return err_set(err, ERR_BACKEND, "no images were asked for");
    for (int i = 0; i < n * size; i++)
        ret_values[i] = nodes[node].op == OP_ACT ? relu[first * SIZE + i] : node == NORM ? 2 : (float)(i % size - 1);
    return 0;
}

static const struct residuum_backend api = {.abi = BACKEND_ABI, .name = "made up", .get_activation = give_activation};

/* Two images, then one (the plan says which). */
static void outputs_are_summed_over_images(void **state) {
    (void)state;
    static const char *const names[] = {"conv1", "bn1", "relu1", "gelu1", "fc"};
    struct activations activations;
    struct err err = {0};
    assert_int_equal(activations_init(&activations, &graph, 2, &err), 0);
    assert_int_equal(activations_add(&activations, &api, NULL, 2, &err), 0);
    assert_int_equal(activations_add(&activations, &api, (struct backend_plan *)&activations, 1, &err), 0);
    json_t *columns = activations_json(&activations);
    assert_int_equal(json_object_size(columns), 4);
    assert_names(columns, 5, names);
    /* relu: 1, 5 and 3 among 12 values: mean 9/12, deviation sqrt(35/12 - 9/16) */
    assert_column(columns, "mean", 5, (double[]){0.5, 2, 0.75, 0.75, 0});
    assert_column(columns, "deviation", 5, (double[]){1.11803, 0, 1.53433, 1.53433, 0.816497});
    assert_column(columns, "dead", 5, (double[]){NAN, NAN, 0.25, NAN, NAN});
    json_decref(columns);
    activations_done(&activations);
}

static void a_backend_that_fails_is_heard(void **state) {
    (void)state;
    struct activations activations;
    struct err err = {0};
    assert_int_equal(activations_init(&activations, &graph, 1, &err), 0);
    assert_int_equal(activations_add(&activations, &api, NULL, 0, &err), -1);
    assert_int_equal(err.code, ERR_BACKEND);
    activations_done(&activations);
}

/* --- both --- */

static bool sum_steps(void) {
    struct layers layers;
    struct err err = {0};
    if (layers_init(&layers, &graph, &err) != 0) {
        assert_int_equal(err.code, ERR_MEMORY);
        return false;
    }
    layers_add(&layers, first_step);
    json_t *columns = layers_weights_json(&layers);
    bool done = columns != NULL;
    json_decref(columns);
    layers_done(&layers);
    return done;
}

static bool sum_images(void) {
    struct activations activations;
    struct err err = {0};
    if (activations_init(&activations, &graph, 2, &err) != 0) {
        assert_int_equal(err.code, ERR_MEMORY);
        return false;
    }
    assert_int_equal(activations_add(&activations, &api, NULL, 2, &err), 0);
    json_t *columns = activations_json(&activations);
    bool done = columns != NULL;
    json_decref(columns);
    activations_done(&activations);
    return done;
}

static void memory_may_run_out(void **state) {
    (void)state;
    assert_true(alloc_rig_starve(sum_steps, 500) > 20);
    assert_true(alloc_rig_starve(sum_images, 500) > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_means_over_steps),
        cmocka_unit_test(norms_are_rounded_or_null),
        cmocka_unit_test(state_carries_over),
        cmocka_unit_test(outputs_are_summed_over_images),
        cmocka_unit_test(a_backend_that_fails_is_heard),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
