/* Early stopping and the best epoch: see select.h. */
#include "server/train/select.h"

/* By how much a metric is better than another one. */
static double gain(enum spec_selection metric, double value, double than) {
    switch (metric) {
    case SELECTION_ACCURACY:
        return value - than;
    case SELECTION_LOSS:
        return than - value;
    }
    return 0;
}

void selection_add(struct selection *selection, const struct spec *spec, int epoch, double loss, double accuracy) {
    enum spec_selection metric = spec->selection.metric;
    double value = metric == SELECTION_LOSS ? loss : accuracy;
    bool first = selection->best_epoch == 0;
    if (first || gain(metric, value, selection->best) > 0) {
        selection->best_epoch = epoch;
        selection->best = value;
    }
    if (first || gain(metric, value, selection->reference) > spec->selection.min_delta) {
        selection->reference = value;
        selection->waited = 0;
    } else {
        selection->waited++;
    }
}

bool selection_stops(const struct selection *selection, const struct spec *spec) {
    return spec->selection.patience > 0 && selection->waited >= spec->selection.patience;
}
