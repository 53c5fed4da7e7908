/* Tests the whole test set and makes the epoch's event: see private.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/train/batch.h"
#include "server/train/private.h"
#include "server/train/stop.h"

static int evaluation_init(struct evaluation *result, const struct trainer *t, struct err *err) {
    size_t classes = (size_t)t->graph->classes;
    int n = t->data.test.n < EVENT_CLASSES_SOFTMAX_IMAGES ? t->data.test.n : EVENT_CLASSES_SOFTMAX_IMAGES;
    *result = (struct evaluation){.softmax_n = n,
                                  .confusion = calloc(classes * classes, sizeof *result->confusion),
                                  .softmax = calloc((size_t)n * classes, sizeof *result->softmax)};
    if (result->confusion != NULL && result->softmax != NULL)
        return 0;
    evaluation_done(result);
    return err_set(err, ERR_MEMORY, "out of memory for the test results");
}

void evaluation_done(struct evaluation *result) {
    free(result->confusion);
    free(result->softmax);
    *result = (struct evaluation){0};
}

static int largest(const float *row, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (row[i] > row[best])
            best = i;
    return best;
}

/* The matrix and the accuracy come from the same predictions, so the matrix's trace is the number of correct ones. */
static void count(struct evaluation *result, const struct trainer *t, int n) {
    int classes = t->graph->classes;
    for (int i = 0; i < n; i++, result->n++) {
        const float *row = t->softmax + (size_t)i * (size_t)classes;
        int predicted = largest(row, classes);
        result->confusion[t->labels[i] * classes + predicted]++;
        result->correct += predicted == t->labels[i];
        if (result->n < result->softmax_n) {
            memcpy(result->softmax + (size_t)result->n * (size_t)classes, row, (size_t)classes * sizeof *row);
            result->labels[result->n] = t->labels[i];
        }
    }
}

static int test_step(struct trainer *t, struct evaluation *result, double *loss_sum, struct err *err) {
    uint32_t *samples = t->order; /* free between two epochs' training */
    int64_t left = t->data.test.n - result->n;
    int n = left < t->batch ? (int)left : t->batch;
    for (int i = 0; i < n; i++)
        samples[i] = (uint32_t)(result->n + i);
    struct batch images = {.n = n, .samples = samples, .images = t->images, .labels = t->labels};
    batch_fill(&t->data, &t->data.test, &(struct batch_augment){0}, &images);
    struct backend_batch batch = {.n = n,
                                  .images = t->images,
                                  .labels = t->labels,
                                  .seed = t->spec->seed,
                                  .epoch = (uint32_t)t->state.epoch,
                                  .samples = samples};
    struct backend_result step;
    if (t->api->eval_step(t->plan, &batch, t->softmax, &step, err) != 0)
        return -1;
    if (!isfinite(step.loss_sum))
        return err_set(err, ERR_NOT_FINITE,
                       "the test loss of epoch %d is not finite at test image %jd; a lower learning rate may help",
                       t->state.epoch + 1, (intmax_t)result->n + 1);
    *loss_sum += step.loss_sum;
    count(result, t, n);
    return 0;
}

static int test_all(struct trainer *t, struct evaluation *result, bool *ret_stopped, struct err *err) {
    double loss_sum = 0;
    if (progress_test(t, 0, 0, 0, err) != 0)
        return -1;
    for (int64_t step = 0; step < t->test_steps; step++) {
        *ret_stopped = t->emit->closed || stop_asked(0);
        if (*ret_stopped)
            return 0;
        double start = clock_seconds();
        int64_t before = result->n;
        if (test_step(t, result, &loss_sum, err) != 0)
            return -1;
        double spent = clock_seconds() - start;
        result->seconds += spent;
        t->test_meter.seconds += spent;
        t->test_meter.images += result->n - before;
        if (progress_test(t, step + 1, result->n, loss_sum, err) != 0)
            return -1;
    }
    result->loss = loss_sum / (double)result->n;
    return 0;
}

int evaluate(struct trainer *t, struct evaluation *ret_result, bool *ret_stopped, struct err *err) {
    struct evaluation result;
    if (evaluation_init(&result, t, err) != 0)
        return -1;
    if (test_all(t, &result, ret_stopped, err) != 0 || *ret_stopped) {
        evaluation_done(&result);
        return *ret_stopped ? 0 : -1;
    }
    *ret_result = result;
    return 0;
}

/* --- the event --- */

/* Nine significant digits tell every f32 apart. */
static json_t *rounded(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    return json_real(strtod(text, NULL));
}

static json_t *confusion_row(const int64_t *counts, int n) {
    json_t *row = json_array();
    for (int i = 0; i < n; i++)
        if (json_array_append_new(row, json_integer(counts[i])) != 0) {
            json_decref(row);
            return NULL;
        }
    return row;
}

static json_t *softmax_row(const float *values, int n) {
    json_t *row = json_array();
    for (int i = 0; i < n; i++)
        if (json_array_append_new(row, rounded(values[i])) != 0) {
            json_decref(row);
            return NULL;
        }
    return row;
}

static json_t *test_json(const struct evaluation *test, int classes) {
    json_t *confusion = json_array(), *softmax = json_array(), *labels = json_array();
    int rc = 0;
    for (int i = 0; i < classes; i++)
        rc |= json_array_append_new(confusion, confusion_row(test->confusion + (size_t)i * (size_t)classes, classes));
    for (int i = 0; i < test->softmax_n; i++) {
        rc |= json_array_append_new(softmax, softmax_row(test->softmax + (size_t)i * (size_t)classes, classes));
        rc |= json_array_append_new(labels, json_integer(test->labels[i]));
    }
    json_t *value =
        rc != 0 ? NULL
                : json_pack("{s:f, s:f, s:O, s:O, s:O}", "loss", test->loss, "accuracy", (double)test->correct / (double)test->n,
                            "confusion", confusion, "softmax", softmax, "labels", labels);
    json_decref(confusion);
    json_decref(softmax);
    json_decref(labels);
    return value;
}

json_t *epoch_json(const struct trainer *t, const struct evaluation *test, double lr) {
    const struct train_state *s = &t->state;
    double seen = (double)s->seen;
    return json_pack("{s:i, s:{s:f, s:f}, s:o, s:f, s:f, s:f}", "epoch", s->epoch + 1, "train", "loss", s->loss_sum / seen,
                     "accuracy", (double)s->correct / seen, "test", test_json(test, t->graph->classes), "lr", lr, "seconds",
                     s->seconds + test->seconds, "images_per_second", s->seconds > 0 ? seen / s->seconds : 0.0);
}
