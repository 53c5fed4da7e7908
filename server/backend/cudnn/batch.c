/* A batch on its way to the device: checked, and put into pinned memory. */
#include <math.h>
#include <string.h>

#include "server/backend/cudnn/core.h"

/* --- checks --- */

static int check_labels(const struct backend_plan *plan, const int32_t *labels, int n, struct err *err) {
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= plan->classes)
            return err_set(err, ERR_BACKEND, "Image %d of a step has label %d; labels are 0 to %d", i, (int)labels[i],
                           plan->classes - 1);
    return 0;
}

static int check_rows(const struct backend_plan *plan, const struct backend_batch *batch, struct err *err) {
    const struct device_set *set = &plan->backend->sets[batch->set];
    struct graph_shape image = plan->image;
    if (set->n == 0)
        return err_set(err, ERR_BACKEND, "A step on images of data set %d, which was not copied to the GPU", (int)batch->set);
    if (set->channels != image.c || set->height != image.h || set->width != image.w)
        return err_set(err, ERR_BACKEND, "A step on images of %dx%dx%d; the network takes %dx%dx%d", set->channels, set->height,
                       set->width, image.c, image.h, image.w);
    for (int i = 0; i < batch->n; i++)
        if (batch->samples[i] >= (uint32_t)set->n)
            return err_set(err, ERR_BACKEND, "A step on image %u of a data set of %d", batch->samples[i], set->n);
    return 0;
}

int batch_check(const struct backend_plan *plan, const struct backend_batch *batch, struct err *err) {
    if (batch->n < 1 || batch->n > plan->options.batch)
        return err_set(err, ERR_BACKEND, "A step of %d images; the plan takes 1 to %d", batch->n, plan->options.batch);
    if ((batch->others == NULL) != (batch->shares == NULL))
        return err_set(err, ERR_BACKEND, "A step with mixup needs both the other labels and the shares of the first ones");
    if (check_labels(plan, batch->labels, batch->n, err) < 0 ||
        (batch->others != NULL && check_labels(plan, batch->others, batch->n, err) < 0))
        return -1;
    return batch->images == NULL ? check_rows(plan, batch, err) : 0;
}

/* --- staging --- */

static struct kernel_step step_of(const struct backend_plan *plan, const struct backend_batch *batch) {
    struct kernel_step step = {.n = batch->n, .epoch = batch->epoch, .seed = batch->seed, .smoothing = batch->smoothing};
    const struct device_set *set = &plan->backend->sets[batch->set];
    if (batch->images == NULL) {
        step.pixels = set->pixels;
        step.normal = set->normal;
        step.moments = set->moments;
    }
    if (batch->images == NULL && batch->augment != NULL) {
        step.rotates = batch->augment->rotation > 0;
        step.brightens = batch->augment->brightness > 0;
        step.contrasts = batch->augment->contrast > 0;
        step.mixes = batch->augment->mixup > 0;
    }
    return step;
}

static void stage_optimizer(const struct backend_optimizer *from, struct kernel_step *step) {
    step->optimizer = (int32_t)from->kind;
    step->nesterov = from->nesterov;
    step->decay_weights_only = from->decay_weights_only;
    step->lr = from->lr;
    step->momentum = from->momentum;
    step->weight_decay = from->weight_decay;
    step->beta1 = from->beta1;
    step->beta2 = from->beta2;
    step->alpha = from->alpha;
    step->epsilon = from->epsilon;
    step->clip_norm = from->clip_norm;
    step->average_decay = from->average_decay;
    step->correction1 = (float)(1.0 - pow((double)from->beta1, (double)from->step));
    step->correction2 = (float)(1.0 - pow((double)from->beta2, (double)from->step));
}

static struct augment_moves moves_of(const struct backend_plan *plan, const struct backend_batch *batch, int i) {
    if (batch->images != NULL || batch->augment == NULL)
        return (struct augment_moves){.cosine = 1, .brightness = 1, .contrast = 1};
    return augment_moves(batch->augment, batch->samples[i], plan->image.h, plan->image.w);
}

static struct kernel_sample sample_of(const struct backend_plan *plan, const struct backend_batch *batch, int i) {
    bool mixed = batch->others != NULL;
    return (struct kernel_sample){.sample = batch->samples != NULL ? batch->samples[i] : 0,
                                  .label = batch->labels[i],
                                  .other = mixed ? batch->others[i] : batch->labels[i],
                                  .share = mixed ? batch->shares[i] : 1,
                                  .moves = moves_of(plan, batch, i)};
}

void batch_stage(struct backend_plan *plan, const struct backend_batch *batch, const struct backend_optimizer *optimizer) {
    struct kernel_step step = step_of(plan, batch);
    if (optimizer != NULL)
        stage_optimizer(optimizer, &step);
    memcpy(plan->staging, &step, sizeof step);
    for (int i = 0; i < batch->n; i++) {
        struct kernel_sample sample = sample_of(plan, batch, i);
        memcpy(plan->staging + KERNEL_STEP_BYTES + (size_t)i * sizeof sample, &sample, sizeof sample);
    }
}
