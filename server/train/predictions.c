/* Gathers and writes predictions: see predictions.h. */
#include "server/train/predictions.h"

#include <stdlib.h>
#include <string.h>

#include "server/train/metrics.h"
#include "server/train/safetensors.h"

int predictions_init(struct predictions *predictions, int n, int classes, struct err *err) {
    size_t images = (size_t)n;
    *predictions = (struct predictions){.n = n,
                                        .classes = classes,
                                        .softmax = calloc(images * (size_t)classes, sizeof *predictions->softmax),
                                        .labels = calloc(images, sizeof *predictions->labels),
                                        .predicted = calloc(images, sizeof *predictions->predicted)};
    if (predictions->softmax != NULL && predictions->labels != NULL && predictions->predicted != NULL)
        return 0;
    predictions_done(predictions);
    return err_set(err, ERR_MEMORY, "out of memory for the predictions of %d images", n);
}

void predictions_done(struct predictions *predictions) {
    free(predictions->softmax);
    free(predictions->labels);
    free(predictions->predicted);
    *predictions = (struct predictions){0};
}

void predictions_add(struct predictions *predictions, const float *softmax, const int32_t *labels, int n) {
    size_t classes = (size_t)predictions->classes, at = (size_t)predictions->filled;
    memcpy(predictions->softmax + at * classes, softmax, (size_t)n * classes * sizeof *softmax);
    memcpy(predictions->labels + at, labels, (size_t)n * sizeof *labels);
    for (size_t i = 0; i < (size_t)n; i++)
        predictions->predicted[at + i] = metrics_predicted(softmax + i * classes, predictions->classes);
    predictions->filled += n;
}

int predictions_write(const struct predictions *predictions, const char *dir, const json_t *metadata, struct err *err) {
    const int shape[] = {predictions->n, predictions->classes};
    size_t n = (size_t)predictions->n;
    int64_t bytes;
    const struct safetensors_entry entries[] = {
        {"softmax", shape, 2, n * (size_t)predictions->classes, SAFETENSORS_F32, predictions->softmax},
        {"labels", shape, 1, n, SAFETENSORS_I32, predictions->labels},
        {"predicted", shape, 1, n, SAFETENSORS_I32, predictions->predicted},
    };
    return safetensors_write(dir, PREDICTIONS_FILE, metadata, entries, sizeof entries / sizeof entries[0], &bytes, err);
}
