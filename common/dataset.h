/* Cards of the built-in data sets: what the daemon must know of a data set without opening it. */
#ifndef COMMON_DATASET_H
#define COMMON_DATASET_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { DATASET_CLASSES_MAX = 256 };

/* How an imported set's card begins ("format"), and the names of its files: common/event.h, "--import". */
#define DATASET_FORMAT "residuum-dataset-1"
#define DATASET_CARD_FILE "card.json"
#define DATASET_DATA_FILE "data.bin"
#define DATASET_SHEET_FILE "sheet.png"

struct dataset_card {
    const char *name, *title, *source;
    int channels, height, width, classes;
    const char *const *class_names; /* classes strings */
    int train_images, test_images;
    int default_pad; /* what spec.pad defaults to */
    int default_crop;
    int default_flip;
};

/* The card of a name, or NULL. Borrowed, lives for ever. */
const struct dataset_card *dataset_find(const char *name);

/* All built-in cards; *ret_n is their number. */
const struct dataset_card *dataset_all(size_t *ret_n);

/* --- dataset_card.c: imported sets, by their card.json (common/event.h) --- */

/* Where one of the two sets lies in data.bin. */
struct dataset_part {
    uint64_t pixels_at, labels_at; /* [n,C,H,W], [n]; n is in the card */
};

struct dataset_import {
    struct dataset_card card; /* its strings belong to this struct */
    struct dataset_part train, test;
    uint64_t bytes; /* of data.bin */
    char sha256[65];
};

/* Reads an imported set's card; every number is checked, so that both sets lie within bytes. ERR_DATA says what is wrong.
 * *ret_import is the caller's (dataset_import_free). Defaults of a spec: images of 28 x 28 are padded to 32 x 32 as the built-in
 * ones; crop is an eighth of the shorter side; colours flip, grey does not, as it may be digits. */
int dataset_card_read(const json_t *document, struct dataset_import **ret_import, struct err *err);
void dataset_import_free(struct dataset_import *import); /* accepts NULL */

#endif
