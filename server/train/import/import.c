/* From a source to a set: see import.h. */
#include "server/train/import/import.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "server/train/import/gather.h"

/* Every class must be there to be learnt, and there must be two to be told apart. */
static int check_classes(const struct import_set *set, struct err *err) {
    size_t counts[DATASET_CLASSES_MAX] = {0};
    for (size_t i = 0; i < set->n; i++)
        counts[set->images[i].label] += !set->images[i].test;
    if (set->classes < 2)
        return err_set(err, ERR_DATA, "there is one class only; at least two are needed");
    for (int c = 0; c < set->classes; c++)
        if (counts[c] == 0) {
            char shown[120];
            name_show(set->class_names[c], shown, sizeof shown);
            return err_set(err, ERR_DATA, "the class \"%s\" has no training image", shown);
        }
    return 0;
}

static int finish(struct gather *gather, struct import_set *set, struct err *err) {
    if (gather->format != NULL && gather->found_n > 0)
        return err_set(err, ERR_DATA, "there are PNG or JPEG files and files of the format %s: a source has one format",
                       gather->format);
    int rc = gather->format != NULL && gather->blocks_n > 0 ? arrays_finish(gather, set, err) : folders_finish(gather, set, err);
    if (rc != 0 || check_classes(set, err) != 0)
        return -1;
    set->entries = gather->guard.progress.entries;
    return store_map(&gather->store, &set->pixels, &set->pixels_bytes, err);
}

static int read_set(struct gather *gather, struct import_set *set, struct err *err) {
    const struct import_request *request = gather->request;
    if (store_open(request->scratch, &gather->store, err) != 0 ||
        source_open(request->source, &gather->guard, &gather->source, err) != 0)
        return -1;
    gather->pool = pool_new(&request->options, &gather->store, err);
    if (gather->pool == NULL || gather_all(gather, err) != 0)
        return -1;
    return finish(gather, set, err);
}

/* The entry's name stands before the reason. */
static void tell(const struct gather *gather, const struct err *reason, char *ret_entry, struct err *err) {
    char shown[160], text[sizeof reason->text]; /* a library's words may hold anything */
    ret_entry[0] = '\0';
    name_show(reason->text, text, sizeof text);
    if (gather->blame == NULL || gather->blame[0] == '\0') {
        err_set(err, reason->code, "%s", text);
        return;
    }
    name_show(gather->blame, ret_entry, IMPORT_NAME_MAX + 1);
    name_show(gather->blame, shown, sizeof shown);
    err_set(err, reason->code, "%s%s: %s", shown, strlen(shown) < strlen(ret_entry) ? "..." : "", text);
}

enum import_result import_read(const struct import_request *request, struct import_set *ret_set,
                               char ret_entry[IMPORT_NAME_MAX + 1], struct err *err) {
    struct gather *gather = calloc(1, sizeof *gather);
    struct import_set *set = calloc(1, sizeof *set);
    struct err reason = {0};
    enum import_result result = IMPORT_FAILED;
    ret_entry[0] = '\0';
    if (gather == NULL || set == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for an import");
    } else {
        gather->request = request;
        gather->store.fd = -1;
        guard_init(&gather->guard, request);
        int rc = read_set(gather, set, &reason);
        result = rc == 0 ? IMPORT_DONE : gather->guard.stopped ? IMPORT_STOPPED : IMPORT_FAILED;
        if (rc != 0)
            tell(gather, &reason, ret_entry, err);
        else
            *ret_set = *set;
        if (rc != 0)
            import_set_done(set);
        gather_done(gather);
    }
    free(set);
    free(gather);
    return result;
}

void import_set_done(struct import_set *set) {
    for (int c = 0; c < DATASET_CLASSES_MAX; c++)
        free(set->class_names[c]);
    for (size_t i = 0; i < set->skipped_n; i++) {
        free(set->skipped[i].entry);
        free(set->skipped[i].reason);
    }
    free(set->images);
    if (set->pixels != NULL)
        munmap((void *)set->pixels, set->pixels_bytes);
    *set = (struct import_set){0};
}
