/* The images of a job in memory: loaded, padded, limited, with what normalizes them. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include <stdint.h>

#include "common/dataset.h"
#include "common/err.h"
#include "common/spec.h"
#include "server/train/imported.h"

enum { DATA_CHANNELS_MAX = 3 };

/* Images as bytes, [n,C,H,W], and their classes, [n]. Borrowed ones are an imported set's: nobody writes or frees them. */
struct image_set {
    int n;
    uint8_t *pixels, *labels;
    bool borrowed;
};

struct data {
    const struct dataset_card *card;
    int channels, height, width;                                  /* after padding */
    struct image_set train, validation, test;                     /* validation: of no images unless the spec asks for it */
    double mean[DATA_CHANNELS_MAX], deviation[DATA_CHANNELS_MAX]; /* of the training pixels as fractions of 255 */
    float normal[DATA_CHANNELS_MAX][256];                         /* (value / 255 - mean) / deviation */
    /* What tells whether data changed: SHA-256 over the digests (64 hexadecimal digits each) of pixels and labels, of the
     * training set or of training, validation and test set. */
    char train_sha256[65], sha256[65];
};

/* Loads what a spec asks for: the data set of its name, padded, limited to the first images of a seeded shuffle, the validation
 * images taken out of the training images (split.h). Mean and deviation are those of the images that are left for training.
 * Errors: ERR_NOT_FOUND when it is not installed, ERR_DATA when it is damaged, ERR_FIELD when it cannot be split so. */
int data_load(const struct spec *spec, struct data *ret_data, struct err *err);

/* The same of an imported set, whatever its name (NULL: as data_load); it must outlive the data. */
int data_load_from(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err);
void data_done(struct data *data);

/* The card and shape of a spec's images, none of them loaded. */
int data_begin(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err);

/* Only the test images; mean and deviation stay 0. */
int data_load_test(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err);

/* Fills normal from mean and deviation. */
void data_normalize(struct data *data);

/* Looks whether a data set could be loaded, without reading it; the reason why not is in err. */
int data_check(const struct dataset_card *card, struct err *err);

/* --- shared by the sources --- */

/* Allocates n images of size bytes each. */
int image_set_alloc(struct image_set *set, int n, size_t image_bytes, struct err *err);
void image_set_done(struct image_set *set);

/* --- fashion.c: IDX files in RESIDUUM_DATASETS/fashion-mnist or /usr/share/datasets/fashion-mnist --- */
int fashion_load(const struct dataset_card *card, bool train, struct image_set *ret_set, struct err *err);
int fashion_check(const struct dataset_card *card, struct err *err);

/* --- shapes.c: drawn, the same bytes on every machine --- */
int shapes_load(const struct dataset_card *card, bool train, struct image_set *ret_set, struct err *err);
int shapes_check(const struct dataset_card *card, struct err *err);

#endif
