/* Stores an imported set: see import_job.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "common/sha256.h"
#include "server/train/import_job.h"
#include "server/train/measure.h"
#include "server/train/parallel.h"
#include "server/train/split.h"

enum { PAGE = 4096, CHANNELS_MAX = 3 };

/* One of the two sets in data.bin. */
struct part {
    size_t n, pixels_at, labels_at;
    const struct import_image **images;
    uint8_t *labels;
    int per_class[DATASET_CLASSES_MAX];
};

struct writing {
    const struct import_set *set;
    const struct import_meta *meta;
    size_t plane, image_bytes, bytes;
    struct part train, test;
    struct iovec *pieces;
    int pieces_n;
    bool written;
    struct err reason;     /* why not */
    const uint8_t *stored; /* data.bin, mapped */
    char sha256[65];
    double mean[CHANNELS_MAX], deviation[CHANNELS_MAX];
};

/* --- which image goes where --- */

static int mark_tests(struct import_set *set, const struct import_meta *meta, uint8_t *labels, bool *marks, struct err *err) {
    int n;
    struct err reason = {0};
    for (size_t i = 0; i < set->n; i++)
        labels[i] = set->images[i].label;
    if (split_stratified(labels, (int)set->n, set->classes, meta->test_fraction, meta->seed, marks, &n, &reason) != 0)
        return reason.code == ERR_FIELD
                   ? err_at(err, ERR_FIELD, "/options/test_fraction", "is %g: of %zu images that takes none or all for testing",
                            meta->test_fraction, set->n)
                   : err_set(err, reason.code, "%s", reason.text);
    for (size_t i = 0; i < set->n; i++)
        set->images[i].test = marks[i];
    return 0;
}

static int split(struct import_set *set, const struct import_meta *meta, struct err *err) {
    if (set->has_test)
        return 0;
    uint8_t *labels = calloc(set->n, 1);
    bool *marks = calloc(set->n, sizeof *marks);
    int rc = labels == NULL || marks == NULL ? err_set(err, ERR_MEMORY, "out of memory while splitting %zu images", set->n)
                                             : mark_tests(set, meta, labels, marks, err);
    free(labels);
    free(marks);
    return rc;
}

static int fill_part(const struct import_set *set, bool test, struct part *part, struct err *err) {
    part->images = calloc(set->n, sizeof *part->images);
    part->labels = calloc(set->n, 1);
    if (part->images == NULL || part->labels == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a list of %zu images", set->n);
    for (size_t i = 0; i < set->n; i++) {
        const struct import_image *image = &set->images[i];
        if (image->test != test)
            continue;
        part->labels[part->n] = image->label;
        part->images[part->n++] = image;
        part->per_class[image->label]++;
    }
    return 0;
}

/* --- data.bin --- */

static size_t place(size_t *end, size_t size) {
    size_t at = (*end + PAGE - 1) / PAGE * PAGE;
    *end = at + size;
    return at;
}

static void lay_out(struct writing *w) {
    struct part *parts[] = {&w->train, &w->test};
    w->plane = (size_t)w->set->height * (size_t)w->set->width;
    w->image_bytes = w->plane * (size_t)w->set->channels;
    for (int p = 0; p < 2; p++) {
        parts[p]->pixels_at = place(&w->bytes, parts[p]->n * w->image_bytes);
        parts[p]->labels_at = place(&w->bytes, parts[p]->n);
    }
}

static void add_piece(struct writing *w, const void *bytes, size_t size, size_t *at) {
    if (size > 0)
        w->pieces[w->pieces_n++] = (struct iovec){(void *)bytes, size};
    *at += size;
}

static void add_zeros(struct writing *w, size_t until, size_t *at) {
    static const uint8_t zeros[PAGE];
    add_piece(w, zeros, until - *at, at);
}

/* A grey image in a set of colours is its plane three times. */
static void add_image(struct writing *w, const struct import_image *image, size_t *at) {
    const uint8_t *pixels = w->set->pixels + image->at;
    if (image->channels == w->set->channels)
        add_piece(w, pixels, w->image_bytes, at);
    else
        for (int c = 0; c < w->set->channels; c++)
            add_piece(w, pixels, w->plane, at);
}

static void add_part(struct writing *w, const struct part *part, size_t *at) {
    add_zeros(w, part->pixels_at, at);
    for (size_t i = 0; i < part->n; i++)
        add_image(w, part->images[i], at);
    add_zeros(w, part->labels_at, at);
    add_piece(w, part->labels, part->n, at);
}

static int collect_pieces(struct writing *w, struct err *err) {
    enum { OTHERS = 6 }; /* pieces that are no images */
    size_t at = 0;
    if (w->bytes > w->meta->bytes_max)
        return err_set(err, ERR_TOO_LARGE, "the data set would have %zu bytes; at most %ju are allowed", w->bytes,
                       (uintmax_t)w->meta->bytes_max);
    w->pieces = calloc(w->set->n * (size_t)w->set->channels + OTHERS, sizeof *w->pieces);
    if (w->pieces == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while writing %zu images", w->set->n);
    add_part(w, &w->train, &at);
    add_part(w, &w->test, &at);
    return 0;
}

enum { TASK_WRITE, TASK_HASH, TASKS };

static void do_tasks(void *arg, int begin, int end) {
    struct writing *w = arg;
    for (int task = begin; task < end; task++)
        if (task == TASK_WRITE)
            w->written = file_write(w->meta->out, DATASET_DATA_FILE, w->pieces, w->pieces_n, &w->reason) == 0;
        else
            sha256_hex_parts(w->pieces, (size_t)w->pieces_n, w->sha256);
}

/* Hashed while it is written: each takes as long as the other. */
static int write_data(struct writing *w, struct err *err) {
    if (collect_pieces(w, err) != 0)
        return -1;
    parallel_run(TASKS, 1, do_tasks, w);
    return w->written ? 0 : err_set(err, w->reason.code, "%s", w->reason.text);
}

static int map_data(struct writing *w, struct err *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" DATASET_DATA_FILE, w->meta->out);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    void *bytes = fd < 0 ? MAP_FAILED : mmap(NULL, w->bytes, PROT_READ, MAP_SHARED, fd, 0);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (bytes == MAP_FAILED)
        return err_errno(err, ERR_IO, saved, "cannot map %s", path);
    w->stored = bytes;
    return 0;
}

static int write_sheet(struct writing *w, struct err *err) {
    const struct import_set *set = w->set;
    struct import_stored stored = {(int)w->train.n,
                                   set->channels,
                                   set->height,
                                   set->width,
                                   set->classes,
                                   w->stored + w->train.pixels_at,
                                   w->stored + w->train.labels_at};
    uint8_t *png;
    size_t size;
    if (import_sheet(&stored, &png, &size, err) != 0)
        return -1;
    int rc = file_write(w->meta->out, DATASET_SHEET_FILE, &(struct iovec){png, size}, 1, err);
    free(png);
    return rc;
}

/* --- card.json --- */

static json_t *numbers(const double *values, int n) {
    json_t *list = json_array();
    int rc = 0;
    for (int i = 0; i < n; i++)
        rc |= json_array_append_new(list, json_real(values[i]));
    return json_whole(list, rc);
}

static json_t *part_json(const struct writing *w, const struct part *part) {
    json_t *counts = json_array();
    int rc = 0;
    for (int c = 0; c < w->set->classes; c++)
        rc |= json_array_append_new(counts, json_integer(part->per_class[c]));
    return json_pack("{s:I, s:o, s:I, s:I}", "images", (json_int_t)part->n, "per_class", json_whole(counts, rc), "pixels_at",
                     (json_int_t)part->pixels_at, "labels_at", (json_int_t)part->labels_at);
}

static json_t *classes_json(const struct import_set *set) {
    json_t *list = json_array();
    int rc = 0;
    for (int c = 0; c < set->classes; c++)
        rc |= json_array_append_new(list, json_string(set->class_names[c]));
    return json_whole(list, rc);
}

static json_t *skipped_json(const struct import_set *set) {
    json_t *list = json_array();
    int rc = 0;
    for (size_t i = 0; i < set->skipped_n; i++)
        rc |= json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "entry", set->skipped[i].entry, "reason", set->skipped[i].reason));
    return json_whole(list, rc);
}

static json_t *card_json(const struct writing *w) {
    const struct import_set *set = w->set;
    return json_pack("{s:s, s:s, s:[i,i,i], s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:{s:s, s:I, s:s?}, s:o, s:I}", "format",
                     DATASET_FORMAT, "name", w->meta->name, "shape", set->channels, set->height, set->width, "classes",
                     classes_json(set), "train", part_json(w, &w->train), "test", part_json(w, &w->test), "mean",
                     numbers(w->mean, set->channels), "deviation", numbers(w->deviation, set->channels), "sha256", w->sha256,
                     "bytes", (json_int_t)w->bytes, "source", "format", set->format, "entries", (json_int_t)set->entries,
                     "archive_sha256", w->meta->archive_sha256, "skipped", skipped_json(set), "skipped_total",
                     (json_int_t)set->skipped_total);
}

static int write_card(const struct writing *w, json_t **ret_card, struct err *err) {
    json_t *card = card_json(w);
    char *text = card == NULL ? NULL : json_text(card);
    int rc = text == NULL ? err_set(err, ERR_MEMORY, "out of memory for the data set's card")
                          : file_write(w->meta->out, DATASET_CARD_FILE, &(struct iovec){text, strlen(text)}, 1, err);
    free(text);
    if (rc == 0)
        *ret_card = card;
    else
        json_decref(card);
    return rc;
}

/* --- all of it --- */

static int check_training(const struct writing *w, struct err *err) {
    for (int c = 0; c < w->set->classes; c++)
        if (w->train.per_class[c] == 0)
            return err_at(err, ERR_FIELD, "/options/test_fraction", "is %g: that leaves no training image of the class \"%.60s\"",
                          w->meta->test_fraction, w->set->class_names[c]);
    return 0;
}

static int write_all(struct writing *w, json_t **ret_card, struct err *err) {
    if (fill_part(w->set, false, &w->train, err) != 0 || fill_part(w->set, true, &w->test, err) != 0 ||
        check_training(w, err) != 0)
        return -1;
    lay_out(w);
    if (write_data(w, err) != 0 || map_data(w, err) != 0)
        return -1;
    measure_channels(w->stored + w->train.pixels_at, w->train.n, w->set->channels, w->plane, w->mean, w->deviation);
    if (write_sheet(w, err) != 0)
        return -1;
    return write_card(w, ret_card, err);
}

static void part_done(struct part *part) {
    free(part->images);
    free(part->labels);
}

int import_write(struct import_set *set, const struct import_meta *meta, json_t **ret_card, struct err *err) {
    struct writing w = {.set = set, .meta = meta};
    int rc = split(set, meta, err);
    if (rc == 0)
        rc = write_all(&w, ret_card, err);
    part_done(&w.train);
    part_done(&w.test);
    free(w.pieces);
    if (w.stored != NULL)
        munmap((void *)w.stored, w.bytes);
    if (rc != 0)
        import_unwrite(meta->out);
    return rc;
}

void import_unwrite(const char *out) {
    static const char *const names[] = {DATASET_CARD_FILE, DATASET_SHEET_FILE, DATASET_DATA_FILE};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        unlink(path);
    }
}
