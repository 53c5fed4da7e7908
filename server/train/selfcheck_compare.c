/* Items of the self-check that compare a device with the backend ref: every operation, whole steps, curves of losses. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/train/selfcheck_private.h"

/* --- how far two tensors are apart --- */

/* The farthest so far, and which. What is no number is the farthest. */
struct farthest {
    double value;
    char of[GRAPH_NAME_MAX + 40];
};

static void note(struct farthest *farthest, double value, const char *of) {
    if (isnan(farthest->value) || value <= farthest->value)
        return;
    farthest->value = value;
    snprintf(farthest->of, sizeof farthest->of, "%s", of);
}

struct worst {
    bool weights_only;                   /* of gradients: leaves out those of biases, gamma and beta */
    struct farthest error, angle, ratio; /* |a - b| / |b|; 1 - cosine; | |a| / |b| - 1 | */
};

static double square(double x) {
    return x * x;
}

/* floor: norms of b below it count as that much, as nothing is wrong with the direction of what is nearly nothing. */
static void compare(struct worst *worst, const char *name, const float *a, const float *b, size_t n, double floor) {
    double aa = 0, bb = 0, ab = 0, difference = 0;
    for (size_t i = 0; i < n; i++) {
        aa += square((double)a[i]);
        bb += square((double)b[i]);
        ab += (double)a[i] * (double)b[i];
        difference += square((double)a[i] - (double)b[i]);
    }
    double norm = sqrt(bb);
    note(&worst->error, sqrt(difference) / fmax(norm, floor), name);
    if (norm < floor)
        return;
    note(&worst->angle, aa == 0 ? 1 : 1 - ab / sqrt(aa * bb), name);
    note(&worst->ratio, fabs(sqrt(aa) / norm - 1), name);
}

/* --- gradients --- */

/* All gradients of a plan in one piece, one parameter behind the other. */
static int take_gradients(const struct pupil *pupil, float **ret_gradients, struct err *err) {
    const struct graph *graph = pupil->lesson->graph;
    float *gradients = calloc((size_t)graph->parameters, sizeof *gradients), *to = gradients;
    if (gradients == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for %jd gradients", (intmax_t)graph->parameters);
    for (int i = 0; i < graph->params_n; i++) {
        if (!graph->params[i].trainable)
            continue;
        if (pupil->api->get_tensor(pupil->plan, TENSOR_GRADIENT, i, to, err) != 0) {
            free(gradients);
            return -1;
        }
        to += graph->params[i].count;
    }
    *ret_gradients = gradients;
    return 0;
}

static void compare_gradients(const struct graph *graph, const float *a, const float *b, struct worst *worst) {
    const double nearly_nothing = 1e-4; /* of the norm of all gradients */
    double all = 0;
    for (int64_t i = 0; i < graph->parameters; i++)
        all += square((double)b[i]);
    size_t at = 0;
    for (int i = 0; i < graph->params_n; i++) {
        if (!graph->params[i].trainable)
            continue;
        if (!worst->weights_only || graph->params[i].role == ROLE_WEIGHT)
            compare(worst, graph->params[i].name, a + at, b + at, graph->params[i].count, nearly_nothing * sqrt(all));
        at += graph->params[i].count;
    }
}

static int gradients_of_both(const struct pupil *pupil, const struct pupil *truth, struct worst *worst, struct err *err) {
    float *a = NULL, *b = NULL;
    int rc = take_gradients(pupil, &a, err) != 0 || take_gradients(truth, &b, err) != 0 ? -1 : 0;
    if (rc == 0)
        compare_gradients(pupil->lesson->graph, a, b, worst);
    free(a);
    free(b);
    return rc;
}

/* Values and the optimizer's state after the step. */
static int state_of_both(struct pupil *pupil, struct pupil *truth, struct worst *worst, struct err *err) {
    if (pupil_take(pupil, err) != 0 || pupil_take(truth, err) != 0)
        return -1;
    const struct tensors *tensors = &pupil->tensors;
    for (size_t i = 0; i < tensors->n; i++) {
        const struct tensors_row *row = &tensors->rows[i];
        compare(worst, row->name, tensors->floats + row->at, truth->tensors.floats + row->at,
                pupil->lesson->graph->params[row->param].count, 1e-6);
    }
    return 0;
}

/* --- a step on both --- */

struct pair {
    struct lesson lesson;
    struct pupil pupil, truth;
    double loss, truth_loss;
};

static int pair_init(struct pair *pair, const struct selfcheck *check, const char *spec, enum spec_precision precision,
                     struct err *err) {
    *pair = (struct pair){0};
    if (lesson_init(&pair->lesson, check, spec, err) != 0 ||
        pupil_init(&pair->pupil, check, &pair->lesson, &(struct pupil_options){.precision = precision}, err) != 0 ||
        pupil_init(&pair->truth, check, &pair->lesson, &(struct pupil_options){.truth = true}, err) != 0)
        return -1;
    return pupil_train(&pair->pupil, 0, 1, &pair->loss, err) != 0 ? -1 : pupil_train(&pair->truth, 0, 1, &pair->truth_loss, err);
}

static void pair_done(struct pair *pair) {
    pupil_done(&pair->pupil);
    pupil_done(&pair->truth);
    lesson_done(&pair->lesson);
}

static double loss_error(const struct pair *pair) {
    return fabs(pair->loss - pair->truth_loss) / pair->truth_loss;
}

/* --- every operation --- */

/* All ops and activations, odd numbers of channels, groups, dilation; the optimizer's kind stands in the place of %s. */
static const char every_op[] =
    "{\"dataset\": \"shapes\", \"batch_size\": 6, \"seed\": 3, \"label_smoothing\": 0.1, \"average_decay\": "
    "0.9, "
    "\"augment\": {\"crop\": 4, \"flip\": true, \"mixup\": 0.4}, \"optimizer\": {\"kind\": \"%s\", \"clip_norm\": 1}, "
    "\"model\": {\"layers\": ["
    "{\"name\": \"stem\", \"op\": \"conv\", \"out_channels\": 20, \"kernel\": 3, \"stride\": 2, \"padding\": 1, \"bias\": "
    "false}, "
    "{\"name\": \"stem_norm\", \"op\": \"batch_norm\"}, "
    "{\"name\": \"stem_relu\", \"op\": \"activation\", \"kind\": \"relu\"}, "
    "{\"name\": \"wide\", \"op\": \"conv\", \"out_channels\": 24, \"kernel\": 3, \"padding\": 2, \"dilation\": 2}, "
    "{\"name\": \"silu\", \"op\": \"activation\", \"kind\": \"silu\"}, "
    "{\"name\": \"groups\", \"op\": \"conv\", \"out_channels\": 24, \"kernel\": 3, \"padding\": 1, \"groups\": 4, \"bias\": "
    "false}, "
    "{\"name\": \"group_norm\", \"op\": \"group_norm\", \"groups\": 3}, "
    "{\"name\": \"tanh\", \"op\": \"activation\", \"kind\": \"tanh\"}, "
    "{\"name\": \"dropped\", \"op\": \"dropout\", \"rate\": 0.25}, "
    "{\"name\": \"sum\", \"op\": \"add\", \"inputs\": [\"dropped\", \"silu\"]}, "
    "{\"name\": \"half\", \"op\": \"conv\", \"out_channels\": 40, \"kernel\": 3, \"stride\": 2, \"padding\": 1, \"bias\": "
    "false}, "
    "{\"name\": \"half_norm\", \"op\": \"batch_norm\"}, "
    "{\"name\": \"short\", \"op\": \"shortcut\", \"out_channels\": 40, \"stride\": 2, \"inputs\": \"sum\"}, "
    "{\"name\": \"block\", \"op\": \"add\", \"inputs\": [\"half_norm\", \"short\"]}, "
    "{\"name\": \"block_relu\", \"op\": \"activation\", \"kind\": \"relu\"}, "
    "{\"name\": \"largest\", \"op\": \"max_pool\", \"kernel\": 3, \"stride\": 2, \"padding\": 1}, "
    "{\"name\": \"mean\", \"op\": \"avg_pool\", \"kernel\": 2, \"stride\": 2, \"inputs\": \"block_relu\"}, "
    "{\"name\": \"both\", \"op\": \"concat\", \"inputs\": [\"largest\", \"mean\"]}, "
    "{\"name\": \"a\", \"op\": \"conv\", \"out_channels\": 12, \"kernel\": 1}, "
    "{\"name\": \"leaky\", \"op\": \"activation\", \"kind\": \"leaky_relu\"}, "
    "{\"name\": \"b\", \"op\": \"conv\", \"out_channels\": 12, \"kernel\": 1}, "
    "{\"name\": \"elu\", \"op\": \"activation\", \"kind\": \"elu\"}, "
    "{\"name\": \"c\", \"op\": \"conv\", \"out_channels\": 12, \"kernel\": 1}, "
    "{\"name\": \"gelu\", \"op\": \"activation\", \"kind\": \"gelu\"}, "
    "{\"name\": \"d\", \"op\": \"conv\", \"out_channels\": 12, \"kernel\": 1}, "
    "{\"name\": \"sigmoid\", \"op\": \"activation\", \"kind\": \"sigmoid\"}, "
    "{\"name\": \"same\", \"op\": \"activation\", \"kind\": \"identity\"}, "
    "{\"name\": \"flat\", \"op\": \"flatten\"}, "
    "{\"name\": \"hidden\", \"op\": \"linear\", \"out_features\": 40}, "
    "{\"name\": \"gap\", \"op\": \"global_avg_pool\", \"inputs\": \"both\"}, "
    "{\"name\": \"all\", \"op\": \"concat\", \"inputs\": [\"hidden\", \"gap\"]}, "
    "{\"name\": \"out\", \"op\": \"linear\", \"out_features\": \"classes\"}]}}";

static int one_optimizer(const struct selfcheck *check, const char *kind, struct worst *worst, struct err *err) {
    char spec[sizeof every_op + 16];
    struct pair pair;
    snprintf(spec, sizeof spec, every_op, kind);
    int rc = pair_init(&pair, check, spec, PRECISION_F32, err);
    if (rc == 0)
        compare(worst, "the loss", &(float){(float)pair.loss}, &(float){(float)pair.truth_loss}, 1, 0);
    if (rc == 0)
        rc = gradients_of_both(&pair.pupil, &pair.truth, worst, err);
    if (rc == 0)
        rc = state_of_both(&pair.pupil, &pair.truth, worst, err);
    pair_done(&pair);
    return rc;
}

int check_every_op(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    static const char *const kinds[] = {"sgd", "adam", "adamw", "rmsprop"};
    struct worst worst = {0};
    (void)precision;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (one_optimizer(check, kinds[i], &worst, err) != 0)
            return -1;
    item_at_most(item, worst.error.value, 1e-4);
    snprintf(item->text, sizeof item->text,
             "one step of a network of all operations, with every optimizer: loss, gradients, new values; the farthest is %s",
             worst.error.of);
    return 0;
}

/* --- a step of a ResNet --- */

static const char resnet[] = "{\"dataset\": \"shapes\", \"batch_size\": 16, \"seed\": 5, \"model\": {\"preset\": \"resnet8\"}}";

/* What rounding to the 24 bits of f32, the 8 of bf16, the 11 of tf32 leaves, with room: on a processor bf16 was seen at 0.004 and
 * 0.02, f32 at 1e-11 and 1e-6. An error of one engine is far beyond (a gradient norm of a quarter: pytorch issue 150700). */
static const struct limits {
    double loss, angle, ratio; /* relative; 1 - cosine; of norms - 1 */
    bool weights_only;         /* the sums over images that the gradients of biases and norms are cancel too much */
} limits[] = {[PRECISION_F32] = {1e-5, 1e-8, 1e-4, false},
              [PRECISION_BF16] = {0.02, 0.01, 0.05, true},
              [PRECISION_TF32] = {2e-3, 2e-3, 0.02, true}};

int check_step(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    const struct limits *limit = &limits[precision];
    struct worst worst = {.weights_only = limit->weights_only};
    struct pair pair;
    int rc = pair_init(&pair, check, resnet, precision, err);
    if (rc == 0)
        rc = gradients_of_both(&pair.pupil, &pair.truth, &worst, err);
    if (rc == 0) {
        item_at_most(item, worst.angle.value, limit->angle);
        item->passed = item->passed && loss_error(&pair) <= limit->loss && worst.ratio.value <= limit->ratio;
        snprintf(
            item->text, sizeof item->text,
            "1 - cosine of the gradients of each %s, the largest of %.60s; norms differ by %.1e at most (limit %g), the loss by "
            "%.1e (limit %g)",
            limit->weights_only ? "weight" : "parameter", worst.angle.of, worst.ratio.value, limit->ratio, loss_error(&pair),
            limit->loss);
    }
    pair_done(&pair);
    return rc;
}

/* --- the curve of losses --- */

/* Few images and a small learning rate: the loss falls by more than half, and trainings that round differently stay together (on
 * a processor to 6e-5 in f32 and to 2e-3 in bf16; with ten times the rate they part). */
static const char curve_net[] =
    "{\"dataset\": \"shapes\", \"train_limit\": 64, \"batch_size\": 32, \"seed\": 7, "
    "\"augment\": {\"crop\": 0, \"flip\": false}, \"schedule\": {\"kind\": \"constant\", \"lr\": 0.006}, "
    "\"model\": {\"preset\": \"resnet8\", \"width\": 0.5}}";
enum { CURVE_STEPS = 100, CURVE_STEPS_BRIEF = 10 };

static int train_curve(const struct selfcheck *check, const struct pupil_options *options, int steps, double *ret_losses,
                       struct err *err) {
    struct lesson lesson;
    struct pupil pupil = {0};
    int rc = lesson_init(&lesson, check, curve_net, err);
    if (rc == 0)
        rc = pupil_init(&pupil, check, &lesson, options, err);
    if (rc == 0)
        rc = pupil_train(&pupil, 0, steps, ret_losses, err);
    pupil_done(&pupil);
    lesson_done(&lesson);
    return rc;
}

static int make_truth(struct selfcheck *check, int steps, struct err *err) {
    if (check->curve != NULL)
        return 0;
    double *curve = calloc((size_t)steps, sizeof *curve);
    if (curve == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for %d losses", steps);
    if (train_curve(check, &(struct pupil_options){.truth = true}, steps, curve, err) != 0) {
        free(curve);
        return -1;
    }
    check->curve = curve;
    return 0;
}

static double mean_of_last(const double *losses, int steps) {
    double sum = 0;
    for (int i = steps - steps / 4; i < steps; i++)
        sum += losses[i];
    return sum / (steps / 4);
}

int check_curve(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    static const double limit[] = {[PRECISION_F32] = 0.005, [PRECISION_BF16] = 0.03, [PRECISION_TF32] = 0.01};
    int steps = check->brief ? CURVE_STEPS_BRIEF : CURVE_STEPS;
    double losses[CURVE_STEPS];
    if (make_truth(check, steps, err) != 0 ||
        train_curve(check, &(struct pupil_options){.precision = precision}, steps, losses, err) != 0)
        return -1;
    double here = mean_of_last(losses, steps), there = mean_of_last(check->curve, steps);
    item_at_most(item, fabs(here - there) / there, limit[precision]);
    snprintf(item->text, sizeof item->text, "%d steps: from a loss of %.4f to %.4f, on ref to %.4f (mean of the last quarter)",
             steps, losses[0], here, there);
    return 0;
}
