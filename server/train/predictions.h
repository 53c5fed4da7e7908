/* DIR/predictions.safetensors: what the last epoch's model says about every test image. */
#ifndef TRAIN_PREDICTIONS_H
#define TRAIN_PREDICTIONS_H

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

#define PREDICTIONS_FILE "predictions.safetensors"

struct predictions {
    int n, classes;
    int filled;         /* images so far */
    float *softmax;     /* [n,classes] */
    int32_t *labels;    /* [n], true classes */
    int32_t *predicted; /* [n], the class of the largest softmax, the lowest one on a tie */
};

/* Room for a set of n images. predictions_done accepts zeroed memory. */
int predictions_init(struct predictions *predictions, int n, int classes, struct err *err);
void predictions_done(struct predictions *predictions);

/* Adds the next n images: softmax [n,classes], labels [n]. */
void predictions_add(struct predictions *predictions, const float *softmax, const int32_t *labels, int n);

/* Writes the file of a set that is filled, whole or not at all: "softmax" F32 [n,classes], "labels" I32 [n], "predicted" I32 [n].
 * metadata: an object of strings. */
int predictions_write(const struct predictions *predictions, const char *dir, const json_t *metadata, struct err *err);

#endif
