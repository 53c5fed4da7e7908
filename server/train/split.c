/* A stratified split: see split.h. */
#include "server/train/split.h"

#include <math.h>
#include <stdlib.h>

#include "common/dataset.h"
#include "common/rng.h"
#include "common/spec.h"

/* How many images of each class are wanted; total of all. */
static void share_out(const int *counts, int classes, double fraction, int total, int *ret_wanted) {
    double rests[DATASET_CLASSES_MAX];
    for (int c = 0; c < classes; c++) {
        double share = fraction * counts[c];
        ret_wanted[c] = (int)floor(share);
        rests[c] = share - ret_wanted[c];
        total -= ret_wanted[c];
    }
    for (; total > 0; total--) {
        int largest = 0;
        for (int c = 1; c < classes; c++)
            if (rests[c] > rests[largest])
                largest = c;
        ret_wanted[largest]++;
        rests[largest] = -1;
    }
}

static void mark(const uint8_t *labels, const uint32_t *order, int n, int *wanted, bool *ret_marks) {
    for (int i = 0; i < n; i++) {
        uint32_t image = order[i];
        ret_marks[image] = wanted[labels[image]] > 0;
        wanted[labels[image]] -= ret_marks[image];
    }
}

int split_stratified(const uint8_t *labels, int n, int classes, double fraction, uint64_t seed, bool *ret_marks, int *ret_n,
                     struct err *err) {
    int counts[DATASET_CLASSES_MAX] = {0}, wanted[DATASET_CLASSES_MAX], total = spec_validation_images(fraction, n);
    if (total == 0 || total == n)
        return err_at(err, ERR_FIELD, "/validation_fraction",
                      "is %g: of %d training images that takes %s for validation; choose another fraction or more images",
                      fraction, n, total == 0 ? "none" : "all");
    uint32_t *order = calloc((size_t)n, sizeof *order);
    if (order == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while choosing %d of %d images for validation", total, n);
    for (int i = 0; i < n; i++)
        counts[labels[i]]++;
    share_out(counts, classes, fraction, total, wanted);
    rng_permutation(seed, RNG_SPLIT, 0, (uint32_t)n, order);
    mark(labels, order, n, wanted, ret_marks);
    free(order);
    *ret_n = total;
    return 0;
}
