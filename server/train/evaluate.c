/* Validation and test, and what the layers put out: see private.h. */
#include <math.h>

#include "server/train/batch.h"
#include "server/train/private.h"

static enum backend_set name_of(const struct trainer *t, const struct image_set *set) {
    return set == &t->data.test ? SET_TEST : SET_VALIDATION;
}

/* Fills the step's memory with n images of a set from the first one on, as they are. */
static struct backend_batch plain_batch(struct trainer *t, const struct image_set *set, int64_t first, int n) {
    for (int i = 0; i < n; i++)
        t->samples[i] = (uint32_t)(first + i);
    struct batch images = {.n = n, .samples = t->samples, .images = t->images, .labels = t->labels};
    batch_fill(&t->data, set, &(struct augment){0}, &images);
    return (struct backend_batch){.n = n,
                                  .images = t->images,
                                  .set = name_of(t, set),
                                  .labels = t->labels,
                                  .seed = t->spec->seed,
                                  .epoch = (uint32_t)t->state.epoch,
                                  .samples = t->samples};
}

/* An eval_step under the watchdog's eyes. */
static int run_step(struct trainer *t, struct backend_plan *plan, const struct backend_batch *batch, float *ret_softmax,
                    struct backend_result *ret_result, struct err *err) {
    watchdog_begin(t->watchdog, WATCHDOG_EVALUATE);
    int rc = t->api->eval_step(plan, batch, ret_softmax, ret_result, err);
    watchdog_end(t->watchdog);
    return rc;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int evaluate_step(struct trainer *t, const struct evaluation *evaluation, struct err *err) {
    struct metrics *metrics = evaluation->metrics;
    int n = (int)smaller(evaluation->set->n - metrics->n, t->evaluator_batch);
    struct backend_batch batch = plain_batch(t, evaluation->set, metrics->n, n);
    struct backend_result step;
    if (run_step(t, t->evaluator, &batch, t->softmax, &step, err) != 0)
        return -1;
    if (!isfinite(step.loss_sum))
        return err_set(err, ERR_NOT_FINITE, "the %s loss of epoch %d is not finite at image %jd; a lower learning rate may help",
                       evaluation->phase, t->state.epoch + 1, (intmax_t)metrics->n + 1);
    metrics_add(metrics, t->softmax, t->labels, n, step.loss_sum);
    if (evaluation->predictions != NULL)
        predictions_add(evaluation->predictions, t->softmax, t->labels, n);
    return 0;
}

static int evaluate_timed(struct trainer *t, const struct evaluation *evaluation, double *seconds, struct err *err) {
    int64_t before = evaluation->metrics->n;
    double begin = clock_seconds();
    if (evaluate_step(t, evaluation, err) != 0)
        return -1;
    double spent = clock_seconds() - begin;
    *seconds += spent;
    t->evaluation_meter.seconds += spent;
    t->evaluation_meter.images += evaluation->metrics->n - before;
    return 0;
}

int evaluate(struct trainer *t, const struct evaluation *evaluation, double *seconds, bool *ret_stopped, struct err *err) {
    if (progress_evaluate(t, evaluation, 0, err) != 0)
        return -1;
    for (int64_t step = 1; evaluation->metrics->n < evaluation->set->n; step++) {
        *ret_stopped = must_stop(t);
        if (*ret_stopped)
            return 0;
        if (evaluate_timed(t, evaluation, seconds, err) != 0 || progress_evaluate(t, evaluation, step, err) != 0)
            return -1;
    }
    return 0;
}

/* On the plan that trains, as it keeps what its layers put out. */
int measure_activations(struct trainer *t, struct activations *activations, struct err *err) {
    int64_t images = smaller(t->data.test.n, EVENT_ACTIVATION_IMAGES);
    int64_t most = smaller(t->batch, EVENT_ACTIVATION_IMAGES);
    for (int64_t done = 0; done < images;) {
        int n = (int)smaller(images - done, most);
        struct backend_batch batch = plain_batch(t, &t->data.test, done, n);
        struct backend_result step;
        if (run_step(t, t->plan, &batch, NULL, &step, err) != 0)
            return -1;
        watchdog_begin(t->watchdog, WATCHDOG_COPY);
        int rc = activations_add(activations, t->api, t->plan, n, err);
        watchdog_end(t->watchdog);
        if (rc != 0)
            return -1;
        done += n;
    }
    return 0;
}
