/* An epoch: its steps, then validation and test, then everything that has to be on disk. See private.h. */
#include <math.h>
#include <stdio.h>

#include "common/rng.h"
#include "server/train/batch.h"
#include "server/train/metadata.h"
#include "server/train/private.h"
#include "server/train/say.h"

/* --- training --- */

static double learning_rate(const struct trainer *t, int64_t step) {
    return spec_lr(t->spec, (uint64_t)(t->state.epoch * t->train_steps + step), (uint64_t)t->train_steps);
}

static int run_step(struct trainer *t, int n, const uint32_t *samples, struct backend_result *ret_result, struct err *err) {
    const struct train_state *s = &t->state;
    double lr = learning_rate(t, s->step);
    struct augment augment = batch_augment(t->spec, s->epoch);
    const struct batch filled = {
        .n = n, .samples = samples, .images = t->images, .labels = t->labels, .others = t->others, .shares = t->shares};
    batch_fill(&t->data, &t->data.train, &augment, &filled);
    struct backend_batch batch = batch_step(t->spec, &augment, &filled);
    struct backend_optimizer optimizer = batch_update(t->spec, lr, s->updates + 1);
    watchdog_begin(t->watchdog, WATCHDOG_TRAIN);
    int rc = t->api->train_step(t->plan, &batch, &optimizer, ret_result, err);
    if (rc == 0)
        rc = t->api->statistics(t->plan, t->statistics, err);
    watchdog_end(t->watchdog);
    if (rc != 0)
        return -1;
    if (!isfinite(ret_result->loss_sum))
        return err_set(
            err, ERR_NOT_FINITE,
            "the training loss is not finite in epoch %d at step %jd of %jd (learning rate %g); a lower learning rate or a "
            "warm-up may help",
            s->epoch + 1, (intmax_t)s->step + 1, (intmax_t)t->train_steps, lr);
    layers_add(&t->layers, t->statistics);
    return 0;
}

static int train_step(struct trainer *t, struct err *err) {
    struct train_state *s = &t->state;
    int64_t left = t->data.train.n - s->seen;
    int n = left < t->batch ? (int)left : t->batch;
    struct backend_result result;
    double begin = clock_seconds();
    if (run_step(t, n, t->order + s->seen, &result, err) != 0)
        return -1;
    double spent = clock_seconds() - begin;
    s->step++;
    s->updates++;
    s->seen += n;
    s->loss_sum += result.loss_sum;
    s->correct += result.correct;
    s->seconds += spent;
    t->train_meter.seconds += spent;
    t->train_meter.images += n;
    return progress_train(t, err);
}

static int train(struct trainer *t, bool *ret_stopped, struct err *err) {
    rng_permutation(t->spec->seed, RNG_SHUFFLE, (uint32_t)t->state.epoch, (uint32_t)t->data.train.n, t->order);
    if (progress_train(t, err) != 0)
        return -1;
    while (t->state.step < t->train_steps) {
        *ret_stopped = must_stop(t);
        if (*ret_stopped)
            return 0;
        if (train_step(t, err) != 0)
            return -1;
        if (clock_seconds() - t->checkpoint_at >= t->checkpoint_every && checkpoint_save(t, err) != 0)
            return -1;
    }
    return 0;
}

/* --- measuring --- */

static int validate(struct trainer *t, struct outcome *outcome, bool *ret_stopped, struct err *err) {
    struct evaluation validation = {.set = &t->data.validation, .phase = "validation", .metrics = &outcome->validation};
    if (validation.set->n == 0)
        return 0;
    if (evaluate(t, &validation, &outcome->seconds, ret_stopped, err) != 0)
        return -1;
    if (!*ret_stopped)
        selection_add(&outcome->selection, t->spec, t->state.epoch + 1, metrics_loss(&outcome->validation),
                      metrics_accuracy(&outcome->validation));
    return 0;
}

static bool is_last(const struct trainer *t, const struct outcome *outcome) {
    return t->state.epoch + 1 == t->spec->epochs || selection_stops(&outcome->selection, t->spec);
}

static int test(struct trainer *t, struct outcome *outcome, bool *ret_stopped, struct err *err) {
    struct evaluation test = {.set = &t->data.test, .phase = "test", .before = t->data.validation.n, .metrics = &outcome->test};
    if (is_last(t, outcome)) {
        if (predictions_init(&outcome->predictions, t->data.test.n, t->graph->classes, err) != 0)
            return -1;
        test.predictions = &outcome->predictions;
    }
    return evaluate(t, &test, &outcome->seconds, ret_stopped, err);
}

static int measure(struct trainer *t, struct outcome *outcome, bool *ret_stopped, struct err *err) {
    outcome->lr = learning_rate(t, t->train_steps - 1);
    if (weights_take(t, &outcome->digests, err) != 0 || validate(t, outcome, ret_stopped, err) != 0)
        return -1;
    if (!*ret_stopped && test(t, outcome, ret_stopped, err) != 0)
        return -1;
    return *ret_stopped ? 0 : measure_activations(t, &outcome->activations, err);
}

/* --- keeping --- */

static void say_epoch(const struct trainer *t, const struct outcome *outcome) {
    const struct train_state *s = &t->state;
    char validation[80] = "";
    if (outcome->validation.n > 0)
        snprintf(validation, sizeof validation, "validation loss %.4f, accuracy %.2f %%; ", metrics_loss(&outcome->validation),
                 100 * metrics_accuracy(&outcome->validation));
    say("epoch %d/%d: train loss %.4f, accuracy %.2f %%; %stest loss %.4f, accuracy %.2f %%; %.1f s", s->epoch + 1,
        t->spec->epochs, s->loss_sum / (double)s->seen, 100 * (double)s->correct / (double)s->seen, validation,
        metrics_loss(&outcome->test), 100 * metrics_accuracy(&outcome->test), s->seconds + outcome->seconds);
}

static int write_predictions(const struct trainer *t, const struct outcome *outcome, struct err *err) {
    json_t *metadata = json_pack("{s:s, s:s}", "job", t->job->id, "weights_sha256", outcome->digests.weights);
    int rc = metadata == NULL || metadata_put(metadata, "epoch", "%d", t->state.epoch + 1) != 0
                 ? err_set(err, ERR_MEMORY, "out of memory while writing the predictions")
                 : predictions_write(&outcome->predictions, t->job->dir, metadata, err);
    json_decref(metadata);
    return rc;
}

/* All that belongs to the epoch is on disk before the checkpoint that counts it, and what that one no longer needs goes after it:
 * whatever happens, the next attempt has what its checkpoint speaks of, and does again what it does not. */
static int keep(struct trainer *t, const struct outcome *outcome, const json_t *event, struct err *err) {
    if (weights_write(t, t->state.epoch + 1, err) != 0)
        return -1;
    if (is_last(t, outcome) && write_predictions(t, outcome, err) != 0)
        return -1;
    if (history_append(t->job->dir, event, err) != 0)
        return -1;
    t->state = (struct train_state){.epoch = t->state.epoch + 1, .updates = t->state.updates, .selection = outcome->selection};
    layers_reset(&t->layers);
    if (checkpoint_save(t, err) != 0)
        return -1;
    return weights_prune(t, err);
}

static int finish(struct trainer *t, const struct outcome *outcome, struct err *err) {
    if (device_read(t, err) != 0)
        return -1;
    json_t *event = epoch_json(t, outcome);
    if (event == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the results of epoch %d", t->state.epoch + 1);
    say_epoch(t, outcome);
    if (keep(t, outcome, event, err) == 0)
        return emit_event(t->emit, EVENT_EPOCH, event, err);
    json_decref(event);
    return -1;
}

int epoch_run(struct trainer *t, bool *ret_stopped, struct err *err) {
    struct outcome outcome;
    if (train(t, ret_stopped, err) != 0)
        return -1;
    if (*ret_stopped)
        return 0;
    if (outcome_init(&outcome, t, err) != 0)
        return -1;
    int rc = measure(t, &outcome, ret_stopped, err);
    if (rc == 0 && !*ret_stopped)
        rc = finish(t, &outcome, err);
    outcome_done(&outcome);
    return rc;
}
