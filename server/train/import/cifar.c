/* CIFAR-10 and CIFAR-100 as their authors publish them in binary: see gather.h. */
#include <stdlib.h>
#include <string.h>

#include "server/train/import/gather.h"

enum { SIDE = 32, NAMES_BYTES = 1 << 16 };

static bool is_batch(const char *base) {
    size_t length = strlen(base);
    return length > 15 && strncmp(base, "data_batch_", 11) == 0 && strcmp(base + length - 4, ".bin") == 0;
}

/* One name a line; lines without one are passed over. */
static int keep_names(struct gather *gather, char *text, struct err *err) {
    char *rest = NULL;
    for (char *line = strtok_r(text, "\r\n", &rest); line != NULL; line = strtok_r(NULL, "\r\n", &rest)) {
        if (name_check(line, err) != 0)
            return -1;
        if (gather->class_names_n == DATASET_CLASSES_MAX)
            return err_set(err, ERR_DATA, "it names more than %d classes", DATASET_CLASSES_MAX);
        char *name = strdup(line);
        if (name == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for the names of the classes");
        gather->class_names[gather->class_names_n++] = name;
    }
    return 0;
}

static int read_names(struct gather *gather, struct err *err) {
    char text[NAMES_BYTES];
    size_t n;
    if (gather->class_names_n > 0)
        return err_set(err, ERR_DATA, "the names of the classes were there before");
    if (source_read(&gather->source, (uint8_t *)text, sizeof text - 1, &n, err) != 0)
        return -1;
    text[n] = '\0';
    return keep_names(gather, text, err);
}

/* lead: one byte of label, or a coarse and a fine one. */
static int read_batch(struct gather *gather, bool test, size_t lead, struct err *err) {
    struct stream stream = {.source = &gather->source};
    struct records records = {
        .channels = 3, .height = SIDE, .width = SIDE, .planar = true, .lead = lead, .label = lead - 1, .n = SIZE_MAX};
    struct block *block;
    if (gather_block(gather, test, gather->name_at, &block, err) != 0)
        return -1;
    return records_read(gather, &stream, &records, block, err);
}

static int take(struct gather *gather, const char *format, bool names, bool test, size_t lead, bool *ret_taken, struct err *err) {
    int rc = gather_format(gather, format, err);
    if (rc == 0)
        rc = names ? read_names(gather, err) : read_batch(gather, test, lead, err);
    *ret_taken = rc == 0;
    return rc;
}

int cifar_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err) {
    bool names10 = strcmp(base, "batches.meta.txt") == 0, test10 = strcmp(base, "test_batch.bin") == 0;
    bool names100 = strcmp(base, "fine_label_names.txt") == 0, test100 = strcmp(base, "test.bin") == 0;
    if (names10 || test10 || is_batch(base))
        return take(gather, "cifar-10", names10, test10, 1, ret_taken, err);
    if (names100 || test100 || strcmp(base, "train.bin") == 0)
        return take(gather, "cifar-100", names100, test100, 2, ret_taken, err);
    return 0;
}
