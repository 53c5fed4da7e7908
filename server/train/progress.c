/* Progress events and the estimate of the time left: see private.h. */
#include <math.h>

#include "common/json.h"
#include "server/train/private.h"

static double seconds_per_image(const struct meter *meter) {
    return meter->images > 0 ? meter->seconds / (double)meter->images : NAN;
}

/* For the whole job. Before the first test its speed is guessed: a forward pass is a third of a training step. */
static double seconds_left(const struct trainer *t, int64_t tested) {
    const struct train_state *s = &t->state;
    int64_t epochs = t->spec->epochs - s->epoch;
    double train = seconds_per_image(&t->train_meter), test = seconds_per_image(&t->test_meter);
    double train_left = (double)(epochs * t->data.train.n - s->seen), test_left = (double)(epochs * t->data.test.n - tested);
    if (isnan(test))
        test = train / 3;
    if (isnan(train))
        train = test * 3;
    return train * train_left + test * test_left;
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
    double loss = r->images > 0 ? r->loss_sum / (double)r->images : NAN;
    json_t *fields = json_pack("{s:i, s:i, s:s, s:I, s:I, s:o, s:o, s:o}", "epoch", t->state.epoch + 1, "epochs", t->spec->epochs,
                               "phase", r->phase, "step", (json_int_t)r->step, "steps", (json_int_t)r->steps, "loss",
                               json_number_or_null(loss), "images_per_second",
                               json_number_or_null(1 / seconds_per_image(r->meter)), "seconds_left", json_number_or_null(left));
    return emit_event(t->emit, EVENT_PROGRESS, fields, err);
}

int progress_train(struct trainer *t, struct err *err) {
    const struct train_state *s = &t->state;
    return report(t, &(struct report){"train", s->step, t->train_steps, s->seen, s->loss_sum, &t->train_meter},
                  seconds_left(t, 0), err);
}

int progress_test(struct trainer *t, int64_t step, int64_t images, double loss_sum, struct err *err) {
    return report(t, &(struct report){"test", step, t->test_steps, images, loss_sum, &t->test_meter}, seconds_left(t, images),
                  err);
}
