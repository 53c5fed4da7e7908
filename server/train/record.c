/* What is told of an epoch: see private.h and common/event.h. */
#include "server/train/private.h"

int outcome_init(struct outcome *outcome, const struct trainer *t, struct err *err) {
    int images = t->batch < EVENT_ACTIVATION_IMAGES ? t->batch : EVENT_ACTIVATION_IMAGES;
    struct outcome made = {.selection = t->state.selection};
    if (metrics_init(&made.validation, t->graph->classes, err) == 0 && metrics_init(&made.test, t->graph->classes, err) == 0 &&
        activations_init(&made.activations, t->graph, images, err) == 0) {
        *outcome = made;
        return 0;
    }
    outcome_done(&made);
    return -1;
}

void outcome_done(struct outcome *outcome) {
    metrics_done(&outcome->validation);
    metrics_done(&outcome->test);
    activations_done(&outcome->activations);
    predictions_done(&outcome->predictions);
}

static json_t *train_json(const struct train_state *s) {
    double seen = (double)s->seen;
    return json_pack("{s:f, s:f}", "loss", s->loss_sum / seen, "accuracy", (double)s->correct / seen);
}

static json_t *validation_json(const struct outcome *outcome) {
    return outcome->validation.n > 0 ? metrics_brief_json(&outcome->validation) : json_null();
}

static json_t *best_json(const struct outcome *outcome, int epoch) {
    return outcome->validation.n > 0 ? json_boolean(outcome->selection.best_epoch == epoch) : json_null();
}

json_t *epoch_json(const struct trainer *t, const struct outcome *outcome) {
    const struct train_state *s = &t->state;
    int epoch = s->epoch + 1;
    return json_pack("{s:i, s:o, s:o, s:o, s:{s:o, s:o}, s:s, s:s, s:o, s:f, s:f, s:f, s:o}", "epoch", epoch, "train",
                     train_json(s), "validation", validation_json(outcome), "test", metrics_full_json(&outcome->test), "layers",
                     "weights", layers_weights_json(&t->layers), "activations", activations_json(&outcome->activations),
                     "weights_sha256", outcome->digests.weights, "exported_sha256", outcome->digests.exported, "best",
                     best_json(outcome, epoch), "lr", outcome->lr, "seconds", s->seconds + outcome->seconds, "images_per_second",
                     s->seconds > 0 ? (double)s->seen / s->seconds : 0.0, "gpu", device_epoch_json(t));
}
