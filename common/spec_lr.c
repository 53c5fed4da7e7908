/* Learning-rate schedules: see spec_lr in spec.h. */
#include <math.h>

#include "common/spec.h"

static const double pi = 3.14159265358979323846;

/* From start to end along half a cosine; share runs from 0 to 1. */
static double cosine_between(double start, double end, double share) {
    return end + (start - end) / 2 * (1 + cos(pi * share));
}

/* torch.optim.lr_scheduler.OneCycleLR, two phases, anneal_strategy "cos". With few steps the peak can lie before the first one,
 * as in PyTorch; a single step, for which PyTorch takes the last rate, has the peak: that rate would train nothing. */
static double one_cycle(const struct spec *spec, double step, double total) {
    double peak = spec->schedule.lr, first = peak / spec->schedule.div_factor;
    double last = first / spec->schedule.final_div_factor;
    double top = spec->schedule.warmup_fraction * total - 1; /* the step at which the peak is reached */
    if (total <= 1)
        return peak;
    if (step <= top && top > 0)
        return cosine_between(first, peak, step / top);
    double fall = total - 1 - top;
    return fall <= 0 ? peak : cosine_between(peak, last, (step - top) / fall);
}

/* Linear from a hundredth to the whole, as torch.optim.lr_scheduler.LinearLR(start_factor=0.01). */
static double warmup(double step, double warm_steps) {
    const double start = 0.01;
    return step >= warm_steps ? 1 : start + (1 - start) * step / warm_steps;
}

double spec_lr(const struct spec *spec, uint64_t step, uint64_t steps_per_epoch) {
    double at = (double)step, per_epoch = (double)steps_per_epoch, total = per_epoch * spec->epochs;
    double warm_steps = spec->schedule.warmup_epochs * per_epoch, lr = spec->schedule.lr;
    switch (spec->schedule.kind) {
    case SCHEDULE_ONE_CYCLE:
        return one_cycle(spec, at, total);
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_STEP:
        lr *= pow(spec->schedule.gamma, (double)(step / steps_per_epoch / (uint64_t)spec->schedule.step_epochs));
        break;
    case SCHEDULE_MULTI_STEP:
        for (int i = 0; i < spec->schedule.milestones.n; i++)
            if (step / steps_per_epoch >= (uint64_t)spec->schedule.milestones.values[i])
                lr *= spec->schedule.gamma;
        break;
    case SCHEDULE_COSINE:
        if (at >= warm_steps && total > warm_steps)
            lr = cosine_between(lr, spec->schedule.min_lr, (at - warm_steps) / (total - warm_steps));
        break;
    }
    return lr * warmup(at, warm_steps);
}
