/* Which epoch is best, and when to stop: by the validation set only. */
#ifndef TRAIN_SELECT_H
#define TRAIN_SELECT_H

#include <stdbool.h>

#include "common/spec.h"

/* Zeroed: no epoch yet. All of it is in the checkpoint. */
struct selection {
    int best_epoch;   /* from 1; 0: none yet */
    double best;      /* its metric */
    double reference; /* the metric of the last epoch that improved by more than min_delta */
    int waited;       /* epochs since that one */
};

/* Takes an epoch's validation results into account. The best epoch has the highest accuracy or the lowest loss, the earliest one
 * of equals; it is better by any difference, whereas patience counts epochs without an improvement by more than min_delta. */
void selection_add(struct selection *selection, const struct spec *spec, int epoch, double loss, double accuracy);

/* Whether patience has come to its end. */
bool selection_stops(const struct selection *selection, const struct spec *spec);

#endif
