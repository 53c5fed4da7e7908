/* A set out of images in folders of their classes: see gather.h. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/train/import/gather.h"

enum part { PART_TRAIN, PART_VALIDATION, PART_TEST, PART_NONE };

static const struct {
    const char *name;
    enum part part;
} part_names[] = {{"train", PART_TRAIN},
                  {"test", PART_TEST},
                  {"val", PART_VALIDATION},
                  {"valid", PART_VALIDATION},
                  {"validation", PART_VALIDATION}};

/* What the path of an image says: [prefix/][part/]class/file. */
struct place {
    const char *name, *class_name; /* name: the whole path */
    size_t prefix, class_length;   /* prefix: bytes before part or class */
    enum part part;
    const struct found *found;
    size_t class_index, rank; /* rank: among those of its class and part, by name */
};

struct sorting {
    struct gather *gather;
    struct place *places;
    size_t n;
    bool parts; /* there are folders of parts */
    bool has_test;
};

static enum part part_named(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof part_names / sizeof part_names[0]; i++)
        if (strlen(part_names[i].name) == length && strncasecmp(part_names[i].name, name, length) == 0)
            return part_names[i].part;
    return PART_NONE;
}

/* Where the component before a slash begins. */
static const char *component_before(const char *name, const char *slash) {
    while (slash > name && slash[-1] != '/')
        slash--;
    return slash;
}

/* false: it lies in no folder. */
static bool parse_place(const char *name, struct place *place) {
    const char *slash = strrchr(name, '/');
    place->name = name;
    place->part = PART_NONE;
    if (slash == NULL)
        return false;
    place->class_name = component_before(name, slash);
    place->class_length = (size_t)(slash - place->class_name);
    place->prefix = (size_t)(place->class_name - name);
    if (place->prefix == 0)
        return true;
    const char *part = component_before(name, place->class_name - 1);
    place->part = part_named(part, (size_t)(place->class_name - 1 - part));
    if (place->part != PART_NONE)
        place->prefix = (size_t)(part - name);
    return true;
}

static bool same_prefix(const struct place *a, const struct place *b) {
    return a->prefix == b->prefix && memcmp(a->name, b->name, a->prefix) == 0;
}

static int check_place(struct sorting *s, const struct place *place, struct err *err) {
    const struct place *first = &s->places[0];
    s->gather->blame = place->name;
    if ((place->part == PART_NONE) != (first->part == PART_NONE) || !same_prefix(place, first)) {
        char shown[120];
        name_show(first->name, shown, sizeof shown);
        return err_set(
            err, ERR_DATA,
            "it does not lie beside %s: all images lie in train/CLASS/ and test/CLASS/, or all in CLASS/, below one folder",
            shown);
    }
    return 0;
}

/* --- what is no image --- */

/* Lists it while the list is short; counts it anyway. */
static int skip(struct import_set *set, const char *name, const char *reason, struct err *err) {
    char shown[IMPORT_NAME_MAX + 1], shown_reason[sizeof err->text];
    name_show(name, shown, sizeof shown);
    name_show(reason, shown_reason, sizeof shown_reason);
    size_t bytes = strlen(shown) + strlen(shown_reason);
    if (set->skipped_total++ >= IMPORT_SKIPPED_MAX || set->skipped_bytes + bytes > IMPORT_SKIPPED_BYTES)
        return 0;
    struct import_skipped *skipped = &set->skipped[set->skipped_n++];
    *skipped = (struct import_skipped){strdup(shown), strdup(shown_reason)};
    set->skipped_bytes += bytes;
    if (skipped->entry == NULL || skipped->reason == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the list of skipped entries");
    return 0;
}

/* What lies among the images of a class must be one; what lies elsewhere (a licence, a list) is passed over. */
static int look_at_others(struct sorting *s, struct import_set *set, struct err *err) {
    static const char reason[] = "it is neither a PNG nor a JPEG";
    for (size_t i = 0; i < s->gather->others_n; i++) {
        struct place place;
        const char *name = s->gather->names.bytes + s->gather->others[i];
        bool among = parse_place(name, &place) && (place.part != PART_NONE) == s->parts && same_prefix(&place, &s->places[0]);
        s->gather->blame = name;
        if (!among)
            continue;
        if (!s->gather->request->options.skip_damaged)
            return err_set(err, ERR_DATA, "%s", reason);
        if (skip(set, name, reason, err) != 0)
            return -1;
    }
    return 0;
}

/* --- images --- */

static int take_place(struct sorting *s, struct import_set *set, const struct found *found, struct err *err) {
    const char *name = s->gather->names.bytes + found->name_at;
    struct place *place = &s->places[s->n];
    s->gather->blame = name;
    if (found->reason != NULL)
        return skip(set, name, found->reason, err);
    if (!parse_place(name, place))
        return err_set(err, ERR_DATA, "it lies in no folder that names its class");
    place->found = found;
    s->n++;
    if (check_place(s, place, err) != 0)
        return -1;
    s->parts = place->part != PART_NONE;
    s->has_test = s->has_test || place->part == PART_TEST;
    return shape_begin(s->gather, set, found->channels, found->height, found->width, err);
}

static int take_places(struct sorting *s, struct import_set *set, struct err *err) {
    s->places = calloc(s->gather->found_n + 1, sizeof *s->places);
    if (s->places == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a list of %zu images", s->gather->found_n);
    for (size_t i = 0; i < s->gather->found_n; i++)
        if (take_place(s, set, &s->gather->found[i], err) != 0)
            return -1;
    s->gather->blame = NULL;
    if (s->n == 0)
        return err_set(err, ERR_DATA, "there are no images: neither PNG and JPEG, nor CIFAR, IDX or npz files");
    if (look_at_others(s, set, err) != 0)
        return -1;
    s->gather->blame = NULL;
    return 0;
}

/* --- classes --- */

static bool is_number(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && digits <= 18 && name[digits] == '\0';
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_value(const void *a, const void *b) {
    long long left = atoll(*(char *const *)a), right = atoll(*(char *const *)b);
    return left != right ? (left > right) - (left < right) : by_bytes(a, b);
}

static bool is_class(const struct place *place, const char *name) {
    return strncmp(name, place->class_name, place->class_length) == 0 && name[place->class_length] == '\0';
}

/* The index of a place's class; classes when it is new. guess: where the last one was. */
static int find_class(const struct import_set *set, const struct place *place, int guess) {
    if (guess < set->classes && is_class(place, set->class_names[guess]))
        return guess;
    int c = 0;
    while (c < set->classes && !is_class(place, set->class_names[c]))
        c++;
    return c;
}

static int collect_classes(struct sorting *s, struct import_set *set, struct err *err) {
    bool numbers = true;
    int c = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct place *place = &s->places[i];
        c = find_class(set, place, c);
        if (c < set->classes)
            continue;
        s->gather->blame = place->name;
        if (set->classes == DATASET_CLASSES_MAX)
            return err_set(err, ERR_TOO_LARGE, "there are more than %d classes", DATASET_CLASSES_MAX);
        set->class_names[c] = strndup(place->class_name, place->class_length);
        if (set->class_names[c] == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for the names of the classes");
        numbers = numbers && is_number(set->class_names[c]);
        set->classes++;
    }
    s->gather->blame = NULL;
    qsort(set->class_names, (size_t)set->classes, sizeof set->class_names[0], numbers ? by_value : by_bytes);
    return 0;
}

/* --- order --- */

static bool is_test(const struct sorting *s, const struct place *place) {
    return place->part == PART_TEST || (place->part == PART_VALIDATION && !s->has_test);
}

/* By part, class and name. PART_TEST stands for whatever is the test set from here on. */
static int by_class(const void *a, const void *b) {
    const struct place *left = a, *right = b;
    if (left->part != right->part)
        return left->part < right->part ? -1 : 1;
    if (left->class_index != right->class_index)
        return left->class_index < right->class_index ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* By part, then in turns. */
static int by_turn(const void *a, const void *b) {
    const struct place *left = a, *right = b;
    if (left->part != right->part)
        return left->part < right->part ? -1 : 1;
    if (left->rank != right->rank)
        return left->rank < right->rank ? -1 : 1;
    return left->class_index < right->class_index ? -1 : left->class_index > right->class_index;
}

static void order(struct sorting *s, const struct import_set *set) {
    int c = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct place *place = &s->places[i];
        place->part = is_test(s, place) ? PART_TEST : PART_TRAIN;
        c = find_class(set, place, c);
        place->class_index = (size_t)c;
    }
    qsort(s->places, s->n, sizeof *s->places, by_class);
    for (size_t i = 1; i < s->n; i++) {
        const struct place *before = &s->places[i - 1];
        bool same = before->part == s->places[i].part && before->class_index == s->places[i].class_index;
        s->places[i].rank = same ? before->rank + 1 : 0;
    }
    qsort(s->places, s->n, sizeof *s->places, by_turn);
}

static int put_images(const struct sorting *s, struct import_set *set, struct err *err) {
    set->images = calloc(s->n, sizeof *set->images);
    if (set->images == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a list of %zu images", s->n);
    for (; set->n < s->n; set->n++) {
        const struct place *place = &s->places[set->n];
        set->images[set->n] = (struct import_image){.at = place->found->at,
                                                    .label = (uint8_t)place->class_index,
                                                    .channels = place->found->channels,
                                                    .test = place->part == PART_TEST};
        set->has_test = set->has_test || place->part == PART_TEST;
    }
    return 0;
}

static int sort(struct sorting *s, struct import_set *set, struct err *err) {
    if (take_places(s, set, err) != 0 || collect_classes(s, set, err) != 0)
        return -1;
    order(s, set);
    return put_images(s, set, err);
}

int folders_finish(struct gather *gather, struct import_set *set, struct err *err) {
    struct sorting sorting = {.gather = gather};
    set->format = "folders";
    int rc = sort(&sorting, set, err);
    free(sorting.places);
    return rc;
}
