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

/* Protocol 1 knows only a part of the test's results. */
static json_t *test_json(const struct outcome *outcome) {
    json_t *test = metrics_full_json(&outcome->test);
    static const char *const later[] = {"top5", "ece", "report", "most_confused"};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        json_object_del(test, later[i]);
    return test;
}

json_t *epoch_json(const struct trainer *t, const struct outcome *outcome) {
    const struct train_state *s = &t->state;
    return json_pack("{s:i, s:o, s:o, s:f, s:f, s:f}", "epoch", s->epoch + 1, "train", train_json(s), "test", test_json(outcome),
                     "lr", outcome->lr, "seconds", s->seconds + outcome->seconds, "images_per_second",
                     s->seconds > 0 ? (double)s->seen / s->seconds : 0.0);
}
