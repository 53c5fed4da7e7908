/* The cards of the data sets that need no import. */
#include "common/dataset.h"

#include <string.h>

/* Xiao, Rasul and Vollgraf 2017, table 2. */
static const char *const fashion_mnist_classes[] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                                    "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

static const char *const shapes_classes[] = {"circle", "ring", "square",   "frame", "triangle",
                                             "cross",  "bar",  "crescent", "star",  "checker"};

static const struct dataset_card cards[] = {
    {.name = "fashion-mnist",
     .title = "Fashion-MNIST",
     .source = "Zalando Research; Debian package dataset-fashion-mnist",
     .channels = 1,
     .height = 28,
     .width = 28,
     .classes = 10,
     .class_names = fashion_mnist_classes,
     .train_images = 60000,
     .test_images = 10000,
     .default_pad = 2, /* 32x32, the size that the CIFAR ResNets and LeNet-5 were designed for */
     .default_crop = 4,
     .default_flip = 1},
    {.name = "shapes",
     .title = "Coloured shapes",
     .source = "drawn by Residuum; the same on every machine",
     .channels = 3,
     .height = 32,
     .width = 32,
     .classes = 10,
     .class_names = shapes_classes,
     .train_images = 10000,
     .test_images = 2000,
     .default_pad = 0,
     .default_crop = 4,
     .default_flip = 1},
};

const struct dataset_card *dataset_find(const char *name) {
    size_t n;
    const struct dataset_card *all = dataset_all(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

const struct dataset_card *dataset_all(size_t *ret_n) {
    *ret_n = sizeof cards / sizeof cards[0];
    return cards;
}
