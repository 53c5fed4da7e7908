/* A set out of arrays of images and labels: see gather.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/train/import/gather.h"

int shape_begin(const struct gather *gather, struct import_set *set, int channels, int height, int width, struct err *err) {
    if (set->height == 0) {
        set->height = height;
        set->width = width;
    }
    if (set->height != height || set->width != width)
        return err_set(err, ERR_DATA, "it has %d x %d pixels, those before it %d x %d: ask for one \"size\" of all", height,
                       width, set->height, set->width);
    int wanted = gather->request->options.channels;
    if (wanted != 0)
        set->channels = wanted;
    else if (set->channels < channels)
        set->channels = channels;
    return 0;
}

static const char *part_of(const struct block *block) {
    return block->test ? "test" : "training";
}

static int check_block(struct gather *gather, const struct block *block, int *ret_largest, struct err *err) {
    gather->blame = block->name_at == SIZE_MAX ? NULL : gather->names.bytes + block->name_at;
    if (block->n == 0 || block->n != block->labels_n)
        return err_set(err, ERR_DATA, "there are %zu %s images and %zu labels of them", block->n, part_of(block),
                       block->labels_n);
    for (size_t i = 0; i < block->labels_n; i++) {
        if (gather->class_names_n > 0 && block->labels[i] >= gather->class_names_n)
            return err_set(err, ERR_DATA, "label %zu is %d; %d classes have names", i, block->labels[i], gather->class_names_n);
        if (block->labels[i] > *ret_largest)
            *ret_largest = block->labels[i];
    }
    return 0;
}

static int put_block(const struct block *block, struct import_set *set) {
    size_t size = (size_t)block->channels * (size_t)block->height * (size_t)block->width;
    for (size_t i = 0; i < block->n; i++)
        set->images[set->n++] = (struct import_image){
            .at = block->at + i * size, .label = block->labels[i], .channels = (uint8_t)block->channels, .test = block->test};
    return block->test;
}

/* Training before test, within a part by name. Batches of a part are few. */
static const char *sort_key(const struct gather *gather, const struct block *block) {
    return block->name_at == SIZE_MAX ? "" : gather->names.bytes + block->name_at;
}

static void sort_blocks(struct gather *gather) {
    for (size_t i = 1; i < gather->blocks_n; i++)
        for (size_t k = i; k > 0; k--) {
            struct block *a = &gather->blocks[k - 1], *b = &gather->blocks[k], kept = *a;
            bool right = a->test != b->test ? b->test : strcmp(sort_key(gather, a), sort_key(gather, b)) <= 0;
            if (right)
                break;
            *a = *b;
            *b = kept;
        }
}

/* Names of the file's, or the labels as numbers. */
static int name_classes(const struct gather *gather, int classes, struct import_set *set, struct err *err) {
    for (set->classes = 0; set->classes < classes; set->classes++) {
        char number[16];
        snprintf(number, sizeof number, "%d", set->classes);
        char **name = &set->class_names[set->classes];
        *name = strdup(gather->class_names_n > 0 ? gather->class_names[set->classes] : number);
        if (*name == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for the names of the classes");
    }
    return 0;
}

static int check_blocks(struct gather *gather, struct import_set *set, int *ret_classes, size_t *ret_n, struct err *err) {
    int largest = 0;
    for (size_t i = 0; i < gather->blocks_n; i++) {
        const struct block *block = &gather->blocks[i];
        if (check_block(gather, block, &largest, err) != 0 ||
            shape_begin(gather, set, block->channels, block->height, block->width, err) != 0)
            return -1;
        *ret_n += block->n;
    }
    gather->blame = NULL;
    *ret_classes = gather->class_names_n > 0 ? gather->class_names_n : largest + 1;
    return 0;
}

int arrays_finish(struct gather *gather, struct import_set *set, struct err *err) {
    int classes, tests = 0;
    size_t n = 0;
    sort_blocks(gather);
    set->format = gather->format;
    if (check_blocks(gather, set, &classes, &n, err) != 0 || name_classes(gather, classes, set, err) != 0)
        return -1;
    set->images = calloc(n + 1, sizeof *set->images);
    if (set->images == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a list of %zu images", n);
    for (size_t i = 0; i < gather->blocks_n; i++)
        tests += put_block(&gather->blocks[i], set);
    if (tests == 0 || (size_t)tests == gather->blocks_n)
        return err_set(err, ERR_DATA, "the %s part is missing: %s needs images and labels of both parts",
                       tests == 0 ? "test" : "training", set->format);
    set->has_test = true;
    return 0;
}
