/* What is measured over a set of images: loss, accuracy, top-5, and what follows from the confusion matrix and the softmax. */
#ifndef TRAIN_METRICS_H
#define TRAIN_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/event.h"

/* --- one image --- */

/* The class of the largest value, the lowest one on a tie. */
int metrics_predicted(const float *softmax, int classes);

/* Whether fewer than k classes stand before the label; the lower index stands first on a tie. */
bool metrics_among(const float *softmax, int classes, int label, int k);

/* --- what follows from a confusion matrix: counts [classes,classes], [true][predicted] --- */

/* As scikit-learn's precision_recall_fscore_support with zero_division=0: a share of nothing is 0. */
struct metrics_scores {
    double precision, recall, f1;
};

struct metrics_report {
    struct metrics_scores *classes; /* [classes] */
    int64_t *support;               /* [classes], images of the class */
    struct metrics_scores macro;    /* mean over the classes, those without images as well */
    struct metrics_scores weighted; /* mean weighted by support */
};

/* Fills a report; metrics_report_done frees its arrays. */
int metrics_report_init(struct metrics_report *report, const int64_t *confusion, int classes, struct err *err);
void metrics_report_done(struct metrics_report *report);

/* Images of one class taken for another, or (as other is -1) of a class taken for any other plus others taken for it. */
struct metrics_confused {
    int truth, other;
    int64_t count;
};

/* The most confused pairs or classes: most first, lowest indexes first on a tie, only counts above 0, at most
 * EVENT_CONFUSED_MAX. Return how many there are. */
int metrics_confused_pairs(const int64_t *confusion, int classes, struct metrics_confused ret_rows[EVENT_CONFUSED_MAX]);
int metrics_confused_classes(const int64_t *confusion, int classes, struct metrics_confused ret_rows[EVENT_CONFUSED_MAX]);

/* --- expected calibration error --- */

/* Guo et al. 2017: images in bins of equal width by their largest softmax p; bin b holds b / 15 < p <= (b + 1) / 15. */
enum { METRICS_BINS = 15 };
struct metrics_bin {
    int64_t n, correct;
    double confidence; /* sum of the largest softmax */
};

/* The mean over the images of |accuracy - mean confidence| of their bin; 0 without images. */
double metrics_calibration_error(const struct metrics_bin bins[METRICS_BINS]);

/* --- a set of images --- */

enum { METRICS_TOP = 5 };

struct metrics {
    int classes;
    int64_t n, correct, top5; /* images; those whose label is the predicted class; those whose label is among the first five */
    double loss_sum;
    int64_t *confusion; /* [classes,classes] */
    struct metrics_bin bins[METRICS_BINS];
    int kept; /* the first images, at most EVENT_CLASSES_SOFTMAX_IMAGES */
    int kept_labels[EVENT_CLASSES_SOFTMAX_IMAGES];
    float *kept_softmax; /* [EVENT_CLASSES_SOFTMAX_IMAGES,classes] */
};

/* metrics_done accepts zeroed memory. */
int metrics_init(struct metrics *metrics, int classes, struct err *err);
void metrics_done(struct metrics *metrics);

/* Adds n images that lie one after the other: softmax [n,classes], labels [n], and the sum of their losses. */
void metrics_add(struct metrics *metrics, const float *softmax, const int32_t *labels, int n, double loss_sum);

/* Means over the images so far, of which there must be one at least. */
double metrics_loss(const struct metrics *metrics);
double metrics_accuracy(const struct metrics *metrics);

/* "validation" and "test" of the epoch event in common/event.h. New references; NULL when out of memory. */
json_t *metrics_brief_json(const struct metrics *metrics);
json_t *metrics_full_json(const struct metrics *metrics);

#endif
