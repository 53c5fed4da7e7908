/* Cards of the built-in data sets: what the daemon must know of a data set without opening it. */
#ifndef COMMON_DATASET_H
#define COMMON_DATASET_H

#include <stddef.h>

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

/* All cards; *ret_n is their number. */
const struct dataset_card *dataset_all(size_t *ret_n);

#endif
