/* Fashion-MNIST from its four IDX files: see data.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/train/data.h"
#include "server/train/idx.h"

static const char system_dir[] = "/usr/share/datasets";

struct files {
    const char *images, *labels;
};
static const struct files train_files = {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"};
static const struct files test_files = {"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"};

static int file_path(char ret_path[PATH_MAX], const char *name, struct err *err) {
    const char *dir = getenv("RESIDUUM_DATASETS");
    int n = snprintf(ret_path, PATH_MAX, "%s/fashion-mnist/%s", dir != NULL ? dir : system_dir, name);
    if (n < 0 || n >= PATH_MAX)
        return err_set(err, ERR_IO, "the path in RESIDUUM_DATASETS is longer than %d bytes", PATH_MAX - 1);
    return 0;
}

static int check_file(const char *name, struct err *err) {
    char path[PATH_MAX];
    if (file_path(path, name, err) != 0)
        return -1;
    if (access(path, R_OK) != 0)
        return err_set(err, ERR_NOT_FOUND, "%s is missing or unreadable; Debian's package dataset-fashion-mnist brings it", path);
    return 0;
}

int fashion_check(const struct dataset_card *card, struct err *err) {
    (void)card;
    const char *names[] = {train_files.images, train_files.labels, test_files.images, test_files.labels};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (check_file(names[i], err) != 0)
            return -1;
    return 0;
}

static int check_images(const struct dataset_card *card, const char *path, const struct idx *images, struct err *err) {
    if (images->size[1] == card->height && images->size[2] == card->width)
        return 0;
    return err_set(err, ERR_DATA, "%s has images of %d x %d pixels; those of %s have %d x %d", path, images->size[1],
                   images->size[2], card->name, card->height, card->width);
}

static int check_labels(const struct dataset_card *card, const char *path, const struct idx *labels, int images,
                        struct err *err) {
    if (labels->size[0] != images)
        return err_set(err, ERR_DATA, "%s has %d labels for %d images", path, labels->size[0], images);
    for (int i = 0; i < labels->size[0]; i++)
        if (labels->bytes[i] >= card->classes)
            return err_set(err, ERR_DATA, "%s: label %d is %d; the %d classes of %s are 0 to %d", path, i, labels->bytes[i],
                           card->classes, card->name, card->classes - 1);
    return 0;
}

static int load_images(const struct dataset_card *card, const char *name, struct idx *ret_images, struct err *err) {
    char path[PATH_MAX];
    if (file_path(path, name, err) != 0 || idx_read(path, 3, ret_images, err) != 0)
        return -1;
    return check_images(card, path, ret_images, err);
}

static int load_labels(const struct dataset_card *card, const char *name, int images, struct idx *ret_labels, struct err *err) {
    char path[PATH_MAX];
    if (file_path(path, name, err) != 0 || idx_read(path, 1, ret_labels, err) != 0)
        return -1;
    return check_labels(card, path, ret_labels, images, err);
}

int fashion_load(const struct dataset_card *card, bool train, struct image_set *ret_set, struct err *err) {
    if (fashion_check(card, err) != 0)
        return -1;
    const struct files *files = train ? &train_files : &test_files;
    struct idx images = {0}, labels = {0};
    if (load_images(card, files->images, &images, err) != 0 ||
        load_labels(card, files->labels, images.size[0], &labels, err) != 0) {
        idx_done(&images);
        idx_done(&labels);
        return -1;
    }
    *ret_set = (struct image_set){.n = images.size[0], .pixels = images.bytes, .labels = labels.bytes};
    return 0;
}
