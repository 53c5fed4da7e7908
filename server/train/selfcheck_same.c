/* Items of the self-check that compare bits: what must not depend on where images come from, on how a step is launched, on when
 * it runs, or on a pause. */
#include <stdio.h>
#include <string.h>

#include "server/train/selfcheck_private.h"

enum { STEPS = 10, STEPS_BRIEF = 6 };

static const char net[] = "{\"dataset\": \"shapes\", \"batch_size\": 8, \"seed\": 9, \"label_smoothing\": "
                          "0.1, \"average_decay\": 0.99, "
                          "\"augment\": {\"crop\": 4, \"flip\": true, \"rotation\": 15, \"brightness\": 0.3, \"contrast\": 0.3, "
                          "\"cutout\": 8, \"mixup\": 0.4}, "
                          "\"model\": {\"preset\": \"resnet8\", \"width\": 0.25, \"dropout\": 0.2}}";

/* Two trainings of the same network. */
struct twins {
    struct lesson lesson;
    struct pupil one, other;
    int steps;
    double losses[2][STEPS];
};

static int twins_init(struct twins *twins, const struct selfcheck *check, const struct pupil_options *one,
                      const struct pupil_options *other, struct err *err) {
    *twins = (struct twins){.steps = check->brief ? STEPS_BRIEF : STEPS};
    if (lesson_init(&twins->lesson, check, net, err) != 0 || pupil_init(&twins->one, check, &twins->lesson, one, err) != 0)
        return -1;
    return pupil_init(&twins->other, check, &twins->lesson, other, err);
}

static void twins_done(struct twins *twins) {
    pupil_done(&twins->one);
    pupil_done(&twins->other);
    lesson_done(&twins->lesson);
}

/* Whether losses and state are the same to the bit; the text tells the first step that is not. */
static int compare(struct twins *twins, const char *what, struct backend_check *item, struct err *err) {
    if (pupil_take(&twins->one, err) != 0 || pupil_take(&twins->other, err) != 0)
        return -1;
    int step = 0;
    while (step < twins->steps && twins->losses[0][step] == twins->losses[1][step])
        step++;
    item_passes(item, step == twins->steps && pupil_equal(&twins->one, &twins->other));
    if (item->passed)
        snprintf(item->text, sizeof item->text, "%s: after %d steps the same bits in all weights and the optimizer's state", what,
                 twins->steps);
    else if (step < twins->steps)
        snprintf(item->text, sizeof item->text, "%s: the loss of step %d is %.9g and %.9g", what, step + 1,
                 twins->losses[0][step], twins->losses[1][step]);
    else
        snprintf(item->text, sizeof item->text, "%s: the losses are the same, the weights are not", what);
    return 0;
}

static int train_both(struct twins *twins, struct err *err) {
    return pupil_train(&twins->one, 0, twins->steps, twins->losses[0], err) != 0
               ? -1
               : pupil_train(&twins->other, 0, twins->steps, twins->losses[1], err);
}

static int run_twins(struct selfcheck *check, const struct pupil_options *one, const struct pupil_options *other,
                     const char *what, struct backend_check *item, struct err *err) {
    struct twins twins;
    int rc = twins_init(&twins, check, one, other, err);
    if (rc == 0)
        rc = train_both(&twins, err);
    if (rc == 0)
        rc = compare(&twins, what, item, err);
    twins_done(&twins);
    return rc;
}

int check_images(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct pupil_options host = {.precision = precision}, device = {.precision = precision, .from_device = true};
    return run_twins(check, &host, &device, "images augmented by the host and by the device", item, err);
}

int check_captured(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct pupil_options captured = {.precision = precision, .from_device = true, .steps = STEPS_CAPTURED};
    struct pupil_options eager = {.precision = precision, .from_device = true, .steps = STEPS_EAGER};
    return run_twins(check, &captured, &eager,
                     "captured steps and steps launched kernel by kernel, with a changing learning rate", item, err);
}

/* Three times, each in a new plan. */
int check_repeated(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct pupil_options options = {.precision = precision};
    struct twins twins;
    int rc = twins_init(&twins, check, &options, &options, err);
    if (rc == 0)
        rc = train_both(&twins, err);
    if (rc == 0)
        rc = compare(&twins, "the first two of three runs", item, err);
    if (rc == 0 && item->passed) {
        pupil_done(&twins.other);
        rc = pupil_init(&twins.other, check, &twins.lesson, &options, err);
        if (rc == 0)
            rc = pupil_train(&twins.other, 0, twins.steps, twins.losses[1], err);
        if (rc == 0)
            rc = compare(&twins, "three runs", item, err);
    }
    twins_done(&twins);
    return rc;
}

/* The rest in a new plan, to which weights and state were given, as a job goes on from its checkpoint. */
int check_resumed(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    enum { FIRST = STEPS_BRIEF / 2 };
    struct pupil_options options = {.precision = precision};
    struct pupil next = {0};
    struct twins twins;
    int rc = twins_init(&twins, check, &options, &options, err);
    if (rc == 0)
        rc = pupil_train(&twins.one, 0, twins.steps, twins.losses[0], err);
    if (rc == 0)
        rc = pupil_train(&twins.other, 0, FIRST, twins.losses[1], err);
    if (rc == 0)
        rc = pupil_take(&twins.other, err);
    if (rc == 0)
        rc = pupil_init(&next, check, &twins.lesson, &options, err);
    if (rc == 0 && (pupil_give(&next, &twins.other, err) != 0 ||
                    pupil_train(&next, FIRST, twins.steps - FIRST, twins.losses[1] + FIRST, err) != 0))
        rc = -1;
    pupil_done(&twins.other);
    twins.other = next;
    if (rc == 0)
        rc = compare(&twins, "training, and training that went on in a new plan from its state", item, err);
    twins_done(&twins);
    return rc;
}
