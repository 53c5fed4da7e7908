/* Progress events and the estimate of the time left: see private.h. */
#include <math.h>

#include "common/json.h"
#include "server/train/private.h"

static double seconds_per_image(const struct meter *meter) {
    return meter->images > 0 ? meter->seconds / (double)meter->images : NAN;
}

/* For the whole job, unless it stops early. Before the first evaluation its speed is guessed: a forward pass is a third of a
 * training step. evaluated: images of the running epoch. */
static double seconds_left(const struct trainer *t, int64_t evaluated) {
    const struct train_state *s = &t->state;
    int64_t epochs = t->spec->epochs - s->epoch;
    double train = seconds_per_image(&t->train_meter), evaluation = seconds_per_image(&t->evaluation_meter);
    double train_left = (double)(epochs * t->data.train.n - s->seen);
    double evaluation_left = (double)(epochs * (t->data.validation.n + t->data.test.n) - evaluated);
    if (isnan(evaluation))
        evaluation = train / 3;
    if (isnan(train))
        train = evaluation * 3;
    return train * train_left + evaluation * evaluation_left;
}

struct report {
    const char *phase;
    int64_t step, steps, images;
    double loss_sum;
    const struct meter *meter;
};

static int report(struct trainer *t, const struct report *r, double left, struct err *err) {
    const double interval = 1;
    double now = clock_seconds();
    if (now - t->progress_at < interval)
        return 0;
    t->progress_at = now;
    if (device_read(t, err) != 0)
        return -1;
    double loss = r->images > 0 ? r->loss_sum / (double)r->images : NAN;
    json_t *fields =
        json_pack("{s:i, s:i, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "epoch", t->state.epoch + 1, "epochs", t->spec->epochs,
                  "phase", r->phase, "step", (json_int_t)r->step, "steps", (json_int_t)r->steps, "loss",
                  json_number_or_null(loss), "images_per_second", json_number_or_null(1 / seconds_per_image(r->meter)),
                  "seconds_left", json_number_or_null(left), "gpu", device_json(t));
    return emit_event(t->emit, EVENT_PROGRESS, fields, err);
}

int progress_train(struct trainer *t, struct err *err) {
    const struct train_state *s = &t->state;
    return report(t, &(struct report){"train", s->step, t->train_steps, s->seen, s->loss_sum, &t->train_meter},
                  seconds_left(t, 0), err);
}

int progress_evaluate(struct trainer *t, const struct evaluation *evaluation, int64_t step, struct err *err) {
    const struct metrics *metrics = evaluation->metrics;
    int64_t steps = (evaluation->set->n + t->evaluator_batch - 1) / t->evaluator_batch;
    return report(t, &(struct report){evaluation->phase, step, steps, metrics->n, metrics->loss_sum, &t->evaluation_meter},
                  seconds_left(t, evaluation->before + metrics->n), err);
}
