/* Loads, pads, limits and measures a job's images: see data.h. */
#include "server/train/data.h"

#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "common/sha256.h"
#include "server/train/measure.h"
#include "server/train/split.h"

struct source {
    const char *name;
    int (*check)(const struct dataset_card *card, struct err *err);
    int (*load)(const struct dataset_card *card, bool train, struct image_set *ret_set, struct err *err);
};

static const struct source sources[] = {
    {"fashion-mnist", fashion_check, fashion_load},
    {"shapes", shapes_check, shapes_load},
};

static const struct source *find_source(const char *name, struct err *err) {
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (strcmp(sources[i].name, name) == 0)
            return &sources[i];
    err_set(err, ERR_NOT_FOUND, "there is no data set \"%s\"", name);
    return NULL;
}

int data_check(const struct dataset_card *card, struct err *err) {
    const struct source *source = find_source(card->name, err);
    return source == NULL ? -1 : source->check(card, err);
}

int image_set_alloc(struct image_set *set, int n, size_t image_bytes, struct err *err) {
    *set = (struct image_set){.n = n, .pixels = calloc((size_t)n, image_bytes), .labels = calloc((size_t)n, 1)};
    if (set->pixels != NULL && set->labels != NULL)
        return 0;
    image_set_done(set);
    return err_set(err, ERR_MEMORY, "out of memory: %d images need %zu bytes each", n, image_bytes);
}

void image_set_done(struct image_set *set) {
    if (!set->borrowed) {
        free(set->pixels);
        free(set->labels);
    }
    *set = (struct image_set){0};
}

void data_done(struct data *data) {
    image_set_done(&data->train);
    image_set_done(&data->validation);
    image_set_done(&data->test);
}

static void copy_padded(const uint8_t *from, const struct data *data, int pad, uint8_t *to) {
    int h = data->card->height, w = data->card->width;
    for (int c = 0; c < data->channels; c++)
        for (int y = 0; y < h; y++)
            memcpy(to + ((size_t)c * (size_t)data->height + (size_t)(y + pad)) * (size_t)data->width + pad,
                   from + ((size_t)c * (size_t)h + (size_t)y) * (size_t)w, (size_t)w);
}

/* Replaces a set by its images in the given order (NULL: as they are), n of them, padded. */
static int rearrange(struct image_set *set, const struct data *data, int pad, const uint32_t *order, int n, struct err *err) {
    size_t from_bytes = (size_t)data->channels * (size_t)data->card->height * (size_t)data->card->width;
    size_t to_bytes = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    struct image_set out;
    if (image_set_alloc(&out, n, to_bytes, err) != 0)
        return -1;
    for (int i = 0; i < n; i++) {
        size_t from = order == NULL ? (size_t)i : order[i];
        copy_padded(set->pixels + from * from_bytes, data, pad, out.pixels + (size_t)i * to_bytes);
        out.labels[i] = set->labels[from];
    }
    image_set_done(set);
    *set = out;
    return 0;
}

/* part tells the shuffles of the training (0) and test set (1) apart. A limit of 0, or not below the number of images, keeps all
 * images in their order. */
static int limit_and_pad(struct image_set *set, const struct data *data, const struct spec *spec, int limit, uint32_t part,
                         struct err *err) {
    if (limit == 0 || limit >= set->n)
        return spec->pad == 0 ? 0 : rearrange(set, data, spec->pad, NULL, set->n, err);
    uint32_t *order = calloc((size_t)set->n, sizeof *order);
    if (order == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while choosing %d of %d images", limit, set->n);
    rng_permutation(spec->seed, RNG_LIMIT, part, (uint32_t)set->n, order);
    int rc = rearrange(set, data, spec->pad, order, limit, err);
    free(order);
    return rc;
}

static size_t image_bytes(const struct data *data) {
    return (size_t)data->channels * (size_t)data->height * (size_t)data->width;
}

/* Copies the n images whose mark is value, in their order. */
static int copy_marked(const struct image_set *set, size_t bytes, const bool *marks, bool value, int n, struct image_set *ret_set,
                       struct err *err) {
    if (image_set_alloc(ret_set, n, bytes, err) != 0)
        return -1;
    for (int i = 0, at = 0; i < set->n; i++)
        if (marks[i] == value) {
            memcpy(ret_set->pixels + (size_t)at * bytes, set->pixels + (size_t)i * bytes, bytes);
            ret_set->labels[at++] = set->labels[i];
        }
    return 0;
}

static int split_marked(struct data *data, const struct spec *spec, bool *marks, struct err *err) {
    struct image_set all = data->train, rest;
    int n;
    if (split_stratified(all.labels, all.n, data->card->classes, spec->validation_fraction, spec->seed, marks, &n, err) != 0 ||
        copy_marked(&all, image_bytes(data), marks, true, n, &data->validation, err) != 0 ||
        copy_marked(&all, image_bytes(data), marks, false, all.n - n, &rest, err) != 0)
        return -1;
    image_set_done(&data->train);
    data->train = rest;
    return 0;
}

/* Takes the validation images out of the training images. */
static int split(struct data *data, const struct spec *spec, struct err *err) {
    if (spec->validation_fraction == 0)
        return 0;
    bool *marks = calloc((size_t)data->train.n, sizeof *marks);
    int rc = marks == NULL ? err_set(err, ERR_MEMORY, "out of memory while splitting %d images", data->train.n)
                           : split_marked(data, spec, marks, err);
    free(marks);
    return rc;
}

void data_normalize(struct data *data) {
    for (int c = 0; c < data->channels; c++)
        for (int value = 0; value < 256; value++)
            data->normal[c][value] = (float)((value / 255.0 - data->mean[c]) / data->deviation[c]);
}

enum { HEX_DIGITS = 64 };

/* Puts the digests of a set's pixels and labels, 2 * HEX_DIGITS, and a NUL. */
static void digest(const struct data *data, const struct image_set *set, char *ret_text) {
    sha256_hex(set->pixels, image_bytes(data) * (size_t)set->n, ret_text);
    sha256_hex(set->labels, (size_t)set->n, ret_text + HEX_DIGITS);
}

static void hash(struct data *data) {
    char text[3 * 2 * HEX_DIGITS + 1];
    digest(data, &data->train, text);
    digest(data, &data->validation, text + 2 * HEX_DIGITS);
    digest(data, &data->test, text + 4 * HEX_DIGITS);
    sha256_hex(text, 2 * HEX_DIGITS, data->train_sha256);
    sha256_hex(text, 6 * HEX_DIGITS, data->sha256);
}

static void measure(struct data *data) {
    measure_channels(data->train.pixels, (size_t)data->train.n, data->channels, (size_t)data->height * (size_t)data->width,
                     data->mean, data->deviation);
    data_normalize(data);
    hash(data);
}

int data_begin(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err) {
    const struct dataset_card *card = imported != NULL ? imported_card(imported) : dataset_find(spec->dataset);
    if (card == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no data set \"%s\"", spec->dataset);
    if (card->channels > DATA_CHANNELS_MAX)
        return err_set(err, ERR_INTERNAL, "%s has %d channels; at most %d are handled", card->name, card->channels,
                       DATA_CHANNELS_MAX);
    *ret_data = (struct data){.card = card, .channels = card->channels};
    ret_data->height = card->height + 2 * spec->pad;
    ret_data->width = card->width + 2 * spec->pad;
    return 0;
}

/* Of an imported set, or of the built-in one of the card's name. */
static int load_part(const struct imported *imported, const struct dataset_card *card, bool train, struct image_set *ret_set,
                     struct err *err) {
    if (imported != NULL)
        return imported_load(imported, train, ret_set, err);
    const struct source *source = find_source(card->name, err);
    return source == NULL ? -1 : source->load(card, train, ret_set, err);
}

static int load_train(const struct spec *spec, const struct imported *imported, struct data *data, struct err *err) {
    if (load_part(imported, data->card, true, &data->train, err) != 0)
        return -1;
    if (limit_and_pad(&data->train, data, spec, spec->train_limit, 0, err) != 0)
        return -1;
    return split(data, spec, err);
}

static int load_test(const struct spec *spec, const struct imported *imported, struct data *data, struct err *err) {
    if (load_part(imported, data->card, false, &data->test, err) != 0)
        return -1;
    return limit_and_pad(&data->test, data, spec, spec->test_limit, 1, err);
}

int data_load_from(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err) {
    struct data data;
    if (data_begin(spec, imported, &data, err) != 0)
        return -1;
    if (load_train(spec, imported, &data, err) != 0 || load_test(spec, imported, &data, err) != 0) {
        data_done(&data);
        return -1;
    }
    measure(&data);
    *ret_data = data;
    return 0;
}

int data_load(const struct spec *spec, struct data *ret_data, struct err *err) {
    return data_load_from(spec, NULL, ret_data, err);
}

int data_load_test(const struct spec *spec, const struct imported *imported, struct data *ret_data, struct err *err) {
    struct data data;
    if (data_begin(spec, imported, &data, err) != 0)
        return -1;
    if (load_test(spec, imported, &data, err) != 0) {
        data_done(&data);
        return -1;
    }
    *ret_data = data;
    return 0;
}
