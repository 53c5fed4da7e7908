/* Trains one job: see trainer.h. */
#include "server/train/trainer.h"

#include "server/train/private.h"
#include "server/train/say.h"
#include "server/train/stop.h"

bool must_stop(const struct trainer *t) {
    return t->emit->closed || stop_asked(0);
}

/* RESIDUUM_CHECKPOINT_MS is for tests. The default keeps the promise "at least once a minute" with steps of up to 20 s. */
static double checkpoint_interval(void) {
    return clock_duration("RESIDUUM_CHECKPOINT_MS", 40);
}

static bool has_ended(const struct trainer *t) {
    return t->state.epoch >= t->spec->epochs || selection_stops(&t->state.selection, t->spec);
}

static int done(struct trainer *t, struct err *err) {
    const struct train_state *s = &t->state;
    bool early = s->epoch < t->spec->epochs;
    if (early)
        say("stopped early: no improvement on the validation set in %d epochs", s->selection.waited);
    say("done");
    json_t *best = s->selection.best_epoch > 0 ? json_integer(s->selection.best_epoch) : json_null();
    return emit_event(t->emit, EVENT_DONE,
                      json_pack("{s:i, s:b, s:o}", "epochs", s->epoch, "stopped_early", (int)early, "best_epoch", best), err);
}

static int run_epochs(struct trainer *t, bool *ret_stopped, struct err *err) {
    while (!has_ended(t)) {
        if (epoch_run(t, ret_stopped, err) != 0)
            return -1;
        if (*ret_stopped) {
            say("asked to stop in epoch %d after step %jd", t->state.epoch + 1, (intmax_t)t->state.step);
            return checkpoint_save(t, err);
        }
    }
    return done(t, err);
}

/* A stop while preparing needs no checkpoint: the one on disk is as good. */
static int run(struct trainer *t, bool *ret_stopped, struct err *err) {
    if (prepare(t, err) != 0)
        return -1;
    *ret_stopped = must_stop(t);
    if (*ret_stopped)
        return 0;
    if (start(t, err) != 0)
        return -1;
    return run_epochs(t, ret_stopped, err);
}

enum trainer_result trainer_run(const struct job *job, struct emit *emit, struct err *err) {
    struct trainer t = {.job = job, .spec = &job->spec, .emit = emit, .checkpoint_every = checkpoint_interval()};
    bool stopped = false;
    int rc = run(&t, &stopped, err);
    if (rc != 0 && err->code == ERR_DEVICE)
        device_failed(emit, err);
    trainer_done(&t);
    return rc != 0 ? TRAINER_FAILED : stopped ? TRAINER_STOPPED : TRAINER_DONE;
}
