/* Counts over a set of images and what follows from them: see metrics.h. */
#include "server/train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

enum { SOFTMAX_DIGITS = 9 };

/* --- one image --- */

int metrics_predicted(const float *softmax, int classes) {
    int best = 0;
    for (int i = 1; i < classes; i++)
        if (softmax[i] > softmax[best])
            best = i;
    return best;
}

bool metrics_among(const float *softmax, int classes, int label, int k) {
    int before = 0;
    for (int i = 0; i < classes; i++)
        before += softmax[i] > softmax[label] || (softmax[i] == softmax[label] && i < label);
    return before < k;
}

/* --- what follows from a confusion matrix --- */

static int64_t count_of(const int64_t *confusion, int classes, int truth, int predicted) {
    return confusion[(size_t)truth * (size_t)classes + (size_t)predicted];
}

static int64_t row_sum(const int64_t *confusion, int classes, int truth) {
    int64_t sum = 0;
    for (int i = 0; i < classes; i++)
        sum += count_of(confusion, classes, truth, i);
    return sum;
}

static int64_t column_sum(const int64_t *confusion, int classes, int predicted) {
    int64_t sum = 0;
    for (int i = 0; i < classes; i++)
        sum += count_of(confusion, classes, i, predicted);
    return sum;
}

static double share(int64_t part, int64_t whole) {
    return whole == 0 ? 0 : (double)part / (double)whole;
}

static struct metrics_scores scores_of(const int64_t *confusion, int classes, int class) {
    int64_t hits = count_of(confusion, classes, class, class);
    int64_t support = row_sum(confusion, classes, class), predicted = column_sum(confusion, classes, class);
    return (struct metrics_scores){share(hits, predicted), share(hits, support), share(2 * hits, support + predicted)};
}

/* The mean of the classes' scores, each with its weight; the sum of the weights is whole. */
static void add_weighted(struct metrics_scores *mean, const struct metrics_scores *scores, int64_t weight, int64_t whole) {
    double part = share(weight, whole);
    mean->precision += part * scores->precision;
    mean->recall += part * scores->recall;
    mean->f1 += part * scores->f1;
}

int metrics_report_init(struct metrics_report *report, const int64_t *confusion, int classes, struct err *err) {
    *report = (struct metrics_report){.classes = calloc((size_t)classes, sizeof *report->classes),
                                      .support = calloc((size_t)classes, sizeof *report->support)};
    if (report->classes == NULL || report->support == NULL) {
        metrics_report_done(report);
        return err_set(err, ERR_MEMORY, "out of memory for the report of %d classes", classes);
    }
    int64_t images = 0;
    for (int i = 0; i < classes; i++) {
        report->classes[i] = scores_of(confusion, classes, i);
        report->support[i] = row_sum(confusion, classes, i);
        images += report->support[i];
    }
    for (int i = 0; i < classes; i++) {
        add_weighted(&report->macro, &report->classes[i], 1, classes);
        add_weighted(&report->weighted, &report->classes[i], report->support[i], images);
    }
    return 0;
}

void metrics_report_done(struct metrics_report *report) {
    free(report->classes);
    free(report->support);
    *report = (struct metrics_report){0};
}

/* Keeps the largest rows, most first. Rows come with rising indexes, so that an equal one belongs behind those that are there. */
static int insert_confused(struct metrics_confused *rows, int n, struct metrics_confused row) {
    int at = n;
    while (at > 0 && rows[at - 1].count < row.count)
        at--;
    if (row.count == 0 || at == EVENT_CONFUSED_MAX)
        return n;
    if (n < EVENT_CONFUSED_MAX)
        n++;
    memmove(&rows[at + 1], &rows[at], (size_t)(n - at - 1) * sizeof *rows);
    rows[at] = row;
    return n;
}

int metrics_confused_pairs(const int64_t *confusion, int classes, struct metrics_confused ret_rows[EVENT_CONFUSED_MAX]) {
    int n = 0;
    for (int truth = 0; truth < classes; truth++)
        for (int other = 0; other < classes; other++)
            if (other != truth)
                n = insert_confused(ret_rows, n,
                                    (struct metrics_confused){truth, other, count_of(confusion, classes, truth, other)});
    return n;
}

int metrics_confused_classes(const int64_t *confusion, int classes, struct metrics_confused ret_rows[EVENT_CONFUSED_MAX]) {
    int n = 0;
    for (int class = 0; class < classes; class ++) {
        int64_t count = row_sum(confusion, classes, class) + column_sum(confusion, classes, class) -
                        2 * count_of(confusion, classes, class, class);
        n = insert_confused(ret_rows, n, (struct metrics_confused){class, -1, count});
    }
    return n;
}

/* --- expected calibration error --- */

static void bin_add(struct metrics_bin bins[METRICS_BINS], double confidence, bool correct) {
    double above = ceil(confidence * METRICS_BINS) - 1;
    struct metrics_bin *bin = &bins[above >= METRICS_BINS ? METRICS_BINS - 1 : above > 0 ? (int)above : 0];
    bin->n++;
    bin->correct += correct;
    bin->confidence += confidence;
}

double metrics_calibration_error(const struct metrics_bin bins[METRICS_BINS]) {
    double error = 0;
    int64_t n = 0;
    for (int i = 0; i < METRICS_BINS; i++) {
        error += fabs((double)bins[i].correct - bins[i].confidence); /* n times the bin's |accuracy - confidence| */
        n += bins[i].n;
    }
    return n == 0 ? 0 : error / (double)n;
}

/* --- a set of images --- */

int metrics_init(struct metrics *metrics, int classes, struct err *err) {
    size_t n = (size_t)classes;
    *metrics = (struct metrics){.classes = classes,
                                .confusion = calloc(n * n, sizeof *metrics->confusion),
                                .kept_softmax = calloc(EVENT_CLASSES_SOFTMAX_IMAGES * n, sizeof *metrics->kept_softmax)};
    if (metrics->confusion != NULL && metrics->kept_softmax != NULL)
        return 0;
    metrics_done(metrics);
    return err_set(err, ERR_MEMORY, "out of memory for the results of %d classes", classes);
}

void metrics_done(struct metrics *metrics) {
    free(metrics->confusion);
    free(metrics->kept_softmax);
    *metrics = (struct metrics){0};
}

static void keep(struct metrics *metrics, const float *row, int label) {
    size_t classes = (size_t)metrics->classes;
    memcpy(metrics->kept_softmax + (size_t)metrics->kept * classes, row, classes * sizeof *row);
    metrics->kept_labels[metrics->kept++] = label;
}

/* Everything comes from the same predicted class, so that the matrix's trace is the number of correct images. */
static void add_image(struct metrics *metrics, const float *row, int label) {
    int classes = metrics->classes, predicted = metrics_predicted(row, classes);
    metrics->n++;
    metrics->correct += predicted == label;
    metrics->top5 += metrics_among(row, classes, label, METRICS_TOP);
    metrics->confusion[(size_t)label * (size_t)classes + (size_t)predicted]++;
    bin_add(metrics->bins, (double)row[predicted], predicted == label);
    if (metrics->kept < EVENT_CLASSES_SOFTMAX_IMAGES)
        keep(metrics, row, label);
}

void metrics_add(struct metrics *metrics, const float *softmax, const int32_t *labels, int n, double loss_sum) {
    for (int i = 0; i < n; i++)
        add_image(metrics, softmax + (size_t)i * (size_t)metrics->classes, labels[i]);
    metrics->loss_sum += loss_sum;
}

double metrics_loss(const struct metrics *metrics) {
    return metrics->loss_sum / (double)metrics->n;
}

double metrics_accuracy(const struct metrics *metrics) {
    return (double)metrics->correct / (double)metrics->n;
}

/* --- as JSON --- */

static json_t *integers(const int64_t *values, int n) {
    json_t *array = json_array();
    int rc = 0;
    for (int i = 0; i < n; i++)
        rc |= json_array_append_new(array, json_integer(values[i]));
    return json_whole(array, rc);
}

static json_t *confusion_json(const struct metrics *metrics) {
    json_t *rows = json_array();
    int rc = 0;
    for (int i = 0; i < metrics->classes; i++)
        rc |= json_array_append_new(rows, integers(metrics->confusion + (size_t)i * (size_t)metrics->classes, metrics->classes));
    return json_whole(rows, rc);
}

static json_t *softmax_row(const float *values, int n) {
    json_t *row = json_array();
    int rc = 0;
    for (int i = 0; i < n; i++)
        rc |= json_array_append_new(row, json_rounded((double)values[i], SOFTMAX_DIGITS));
    return json_whole(row, rc);
}

static json_t *softmax_json(const struct metrics *metrics) {
    json_t *rows = json_array();
    int rc = 0;
    for (int i = 0; i < metrics->kept; i++)
        rc |= json_array_append_new(rows,
                                    softmax_row(metrics->kept_softmax + (size_t)i * (size_t)metrics->classes, metrics->classes));
    return json_whole(rows, rc);
}

static json_t *labels_json(const struct metrics *metrics) {
    json_t *labels = json_array();
    int rc = 0;
    for (int i = 0; i < metrics->kept; i++)
        rc |= json_array_append_new(labels, json_integer(metrics->kept_labels[i]));
    return json_whole(labels, rc);
}

static json_t *scores_json(const struct metrics_scores *scores) {
    return json_pack("{s:f, s:f, s:f}", "precision", scores->precision, "recall", scores->recall, "f1", scores->f1);
}

static json_t *columns_json(const struct metrics_report *report, int classes) {
    json_t *precision = json_array(), *recall = json_array(), *f1 = json_array();
    int rc = 0;
    for (int i = 0; i < classes; i++) {
        rc |= json_array_append_new(precision, json_real(report->classes[i].precision));
        rc |= json_array_append_new(recall, json_real(report->classes[i].recall));
        rc |= json_array_append_new(f1, json_real(report->classes[i].f1));
    }
    json_t *value = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "precision", precision, "recall", recall, "f1", f1, "support",
                              integers(report->support, classes), "macro", scores_json(&report->macro), "weighted",
                              scores_json(&report->weighted));
    return json_whole(value, rc);
}

static json_t *report_json(const struct metrics *metrics) {
    struct metrics_report report;
    if (metrics_report_init(&report, metrics->confusion, metrics->classes, NULL) != 0)
        return NULL;
    json_t *value = columns_json(&report, metrics->classes);
    metrics_report_done(&report);
    return value;
}

static json_t *confused_json(const struct metrics *metrics) {
    struct metrics_confused pairs[EVENT_CONFUSED_MAX], classes[EVENT_CONFUSED_MAX];
    int pairs_n = metrics_confused_pairs(metrics->confusion, metrics->classes, pairs);
    int classes_n = metrics_confused_classes(metrics->confusion, metrics->classes, classes);
    json_t *pair_rows = json_array(), *class_rows = json_array();
    int rc = 0;
    for (int i = 0; i < pairs_n; i++)
        rc |= json_array_append_new(pair_rows, json_pack("{s:i, s:i, s:I}", "true", pairs[i].truth, "predicted", pairs[i].other,
                                                         "count", (json_int_t)pairs[i].count));
    for (int i = 0; i < classes_n; i++)
        rc |= json_array_append_new(class_rows,
                                    json_pack("{s:i, s:I}", "class", classes[i].truth, "count", (json_int_t)classes[i].count));
    return json_whole(json_pack("{s:o, s:o}", "pairs", pair_rows, "classes", class_rows), rc);
}

/* Among five classes or fewer every label is among the first five. */
static json_t *top5_json(const struct metrics *metrics) {
    return metrics->classes > METRICS_TOP ? json_real((double)metrics->top5 / (double)metrics->n) : json_null();
}

json_t *metrics_brief_json(const struct metrics *metrics) {
    return json_pack("{s:f, s:f, s:o}", "loss", metrics_loss(metrics), "accuracy", metrics_accuracy(metrics), "top5",
                     top5_json(metrics));
}

json_t *metrics_full_json(const struct metrics *metrics) {
    json_t *value = metrics_brief_json(metrics);
    json_t *rest = json_pack("{s:f, s:o, s:o, s:o, s:o, s:o}", "ece", metrics_calibration_error(metrics->bins), "confusion",
                             confusion_json(metrics), "report", report_json(metrics), "most_confused", confused_json(metrics),
                             "softmax", softmax_json(metrics), "labels", labels_json(metrics));
    int rc = json_object_update(value, rest);
    json_decref(rest);
    return json_whole(value, rc);
}
