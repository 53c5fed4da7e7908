/* An imported data set as the worker trains on it: card.json read, data.bin mapped. */
#ifndef TRAIN_IMPORTED_H
#define TRAIN_IMPORTED_H

#include <jansson.h>
#include <stdbool.h>

#include "common/dataset.h"
#include "common/err.h"

struct image_set;

struct imported {
    struct dataset_import *import;
    const uint8_t *bytes; /* data.bin */
};

/* Opens what the daemon's line says under "dataset": {"dir": "/abs"}; NULL or null: a built-in set, *ret_imported is NULL.
 * ERR_NOT_FOUND when it is not there, ERR_DATA when it is damaged. */
int imported_open(const json_t *dataset, struct imported **ret_imported, struct err *err);
void imported_free(struct imported *imported); /* accepts NULL */

/* The card, or NULL. */
const struct dataset_card *imported_card(const struct imported *imported);

/* The training or test images, borrowed. ERR_DATA when a label is none of the classes. */
int imported_load(const struct imported *imported, bool train, struct image_set *ret_set, struct err *err);

#endif
