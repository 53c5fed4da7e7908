/* Cards of imported data sets: see dataset.h. */
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"

enum { SIDE_MAX = 224, IMAGES_MAX = INT32_MAX, SIDE_TO_PAD = 28, PAD = 2, CROP_SHARE = 8 };

static int wrong(struct err *err, const char *what) {
    return err_set(err, ERR_DATA, "the data set's card is damaged: %s", what);
}

static int read_names(const json_t *names, struct dataset_card *card, struct err *err) {
    size_t n = json_array_size(names);
    if (n < 2 || n > DATASET_CLASSES_MAX)
        return wrong(err, "\"classes\" must be 2 to 256 names");
    char **copies = calloc(n, sizeof *copies);
    if (copies == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the names of %zu classes", n);
    card->class_names = (const char *const *)copies;
    for (; (size_t)card->classes < n;) {
        const char *name = json_string_value(json_array_get(names, (size_t)card->classes));
        if (name == NULL)
            return wrong(err, "a class has no name");
        copies[card->classes] = strdup(name);
        if (copies[card->classes++] == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for the names of %zu classes", n);
    }
    return 0;
}

static int read_shape(const json_t *shape, struct dataset_card *card, struct err *err) {
    int *sides[] = {&card->channels, &card->height, &card->width};
    for (size_t i = 0; i < 3; i++) {
        json_int_t side = json_integer_value(json_array_get(shape, i));
        if (side < 1 || side > SIDE_MAX)
            return wrong(err, "\"shape\" must be [C, H, W]");
        *sides[i] = (int)side;
    }
    return card->channels == 1 || card->channels == 3 ? 0 : wrong(err, "\"shape\" must have 1 or 3 channels");
}

static int read_part(const json_t *part, struct dataset_import *import, struct dataset_part *ret_part, int *ret_images,
                     struct err *err) {
    const struct dataset_card *card = &import->card;
    json_int_t images = json_integer_value(json_object_get(part, "images"));
    json_int_t pixels = json_integer_value(json_object_get(part, "pixels_at"));
    json_int_t labels = json_integer_value(json_object_get(part, "labels_at"));
    uint64_t image = (uint64_t)card->channels * (uint64_t)card->height * (uint64_t)card->width;
    if (images < 1 || images > IMAGES_MAX || pixels < 0 || labels < 0)
        return wrong(err, "\"train\" and \"test\" must tell images, pixels_at and labels_at");
    uint64_t pixels_bytes = image * (uint64_t)images;
    if ((uint64_t)pixels > import->bytes || pixels_bytes > import->bytes - (uint64_t)pixels || (uint64_t)labels > import->bytes ||
        (uint64_t)images > import->bytes - (uint64_t)labels)
        return wrong(err, "\"train\" or \"test\" does not lie within \"bytes\"");
    *ret_part = (struct dataset_part){(uint64_t)pixels, (uint64_t)labels};
    *ret_images = (int)images;
    return 0;
}

static void set_defaults(struct dataset_card *card) {
    int side = card->height < card->width ? card->height : card->width;
    bool padded = card->height == SIDE_TO_PAD && card->width == SIDE_TO_PAD;
    card->default_pad = padded ? PAD : 0;
    card->default_crop = (side + 2 * card->default_pad) / CROP_SHARE;
    card->default_flip = card->channels == 3;
}

static int fill(const json_t *document, struct dataset_import *import, struct err *err) {
    struct dataset_card *card = &import->card;
    const char *format, *name, *sha256, *source;
    json_int_t bytes;
    json_t *shape, *classes, *train, *test;
    json_error_t error;
    if (json_unpack_ex((json_t *)document, &error, 0, "{s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:I, s:{s:s}}", "format", &format,
                       "name", &name, "shape", &shape, "classes", &classes, "train", &train, "test", &test, "sha256", &sha256,
                       "bytes", &bytes, "source", "format", &source) != 0)
        return wrong(err, error.text);
    if (strcmp(format, DATASET_FORMAT) != 0 || strlen(sha256) != sizeof import->sha256 - 1 || bytes < 1)
        return wrong(err, "\"format\", \"sha256\" or \"bytes\" is not as it should be");
    import->bytes = (uint64_t)bytes;
    memcpy(import->sha256, sha256, sizeof import->sha256);
    card->name = strdup(name);
    card->title = strdup(name);
    card->source = strdup(source);
    if (card->name == NULL || card->title == NULL || card->source == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a data set's card");
    if (read_shape(shape, card, err) != 0 || read_names(classes, card, err) != 0 ||
        read_part(train, import, &import->train, &card->train_images, err) != 0 ||
        read_part(test, import, &import->test, &card->test_images, err) != 0)
        return -1;
    set_defaults(card);
    return 0;
}

int dataset_card_read(const json_t *document, struct dataset_import **ret_import, struct err *err) {
    struct dataset_import *import = calloc(1, sizeof *import);
    if (import == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a data set's card");
    if (fill(document, import, err) != 0) {
        dataset_import_free(import);
        return -1;
    }
    *ret_import = import;
    return 0;
}

void dataset_import_free(struct dataset_import *import) {
    if (import == NULL)
        return;
    for (int c = 0; c < import->card.classes; c++)
        free((char *)import->card.class_names[c]);
    free((char **)import->card.class_names);
    free((char *)import->card.name);
    free((char *)import->card.title);
    free((char *)import->card.source);
    free(import);
}
