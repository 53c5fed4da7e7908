/* What normalizes a job's images, as text in the metadata of a weights file: whoever has the weights can prepare an image for
 * them without reading the training set. */
#ifndef TRAIN_NORMAL_H
#define TRAIN_NORMAL_H

#include <jansson.h>

#include "server/train/data.h"

/* Adds "mean" and "deviation", one number a channel, to an object of texts. Returns -1 when out of memory. */
int normal_put(json_t *metadata, const struct data *data);

/* Fills data's mean, deviation and normal from them. ERR_DATA when they are missing or no numbers. */
int normal_take(const json_t *metadata, struct data *data, struct err *err);

#endif
