/* POST /v1/datasets: says what archive is going to be sent and how it is to be imported; the answer says where to begin. */
#include "server/api/announce.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/json.h"
#include "common/row.h"
#include "server/api/private.h"

struct announcement {
    struct dataset_names names;
    char sha256[65];
    uint64_t bytes;
    int size[2]; /* height and width; 0: as the images are */
    int fit, channels;
    double test_fraction;
    uint64_t seed;
    bool skip_damaged;
};

static const char *const fits[] = {"crop", "pad", "stretch", NULL};

#define AT(field) offsetof(struct announcement, field)
#define EXACT 9007199254740991.0 /* 2^53 - 1: the largest number that is exact in JSON */

/* size and channels may also be null, which is their default. */
static const struct row rows[] = {
    {"", "name", ROW_TEXT, AT(names.name), 1, DATASET_NAME_MAX - 1, 0, NULL, 0, true},
    {"", "title", ROW_TEXT, AT(names.title), 0, 80, 0, NULL, 0, false},
    {"", "bytes", ROW_SEED, AT(bytes), 1, EXACT, 0, NULL, 0, true},
    {"", "sha256", ROW_TEXT, AT(sha256), 64, 64, 0, NULL, 0, true},
    {"options", "size", ROW_PAIR, AT(size), 8, 224, 0, NULL, 0, false},
    {"options", "fit", ROW_CHOICE, AT(fit), 0, 0, 0, fits, 0, false},
    {"options", "channels", ROW_INT, AT(channels), 1, 3, 0, NULL, 0, false},
    {"options", "test_fraction", ROW_REAL, AT(test_fraction), 0.01, 0.9, 0.2, NULL, 0, false},
    {"options", "seed", ROW_SEED, AT(seed), 0, EXACT, 1, NULL, 0, false},
    {"options", "skip_damaged", ROW_BOOL, AT(skip_damaged), 0, 1, 0, NULL, 0, false},
};
enum { ROWS_N = sizeof rows / sizeof rows[0], NAME_ROWS = 2 };

/* --- reading --- */

static void read_field(const struct row *row, const json_t *object, void *base, struct err_list *errors) {
    char pointer[64];
    const json_t *value = json_object_get(object, row->key);
    snprintf(pointer, sizeof pointer, "%s%s/%s", row->section[0] != '\0' ? "/" : "", row->section, row->key);
    if (value == NULL && row->required)
        err_add(errors, ERR_FIELD, pointer, "is missing");
    else if (value != NULL && (row->required || !json_is_null(value)))
        row_read(row, base, pointer, value, errors);
}

/* Reads the first n rows of a section; what else the object holds is an error, "extra" excepted. */
static void read_section(const json_t *object, const char *section, int n, const char *extra, void *base,
                         struct err_list *errors) {
    const char *known[ROWS_N + 1];
    char parent[16];
    size_t known_n = 0;
    snprintf(parent, sizeof parent, "%s%s", section[0] != '\0' ? "/" : "", section);
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].section, section) != 0)
            continue;
        known[known_n++] = rows[i].key;
        read_field(&rows[i], object, base, errors);
    }
    if (extra != NULL)
        known[known_n++] = extra;
    row_report_unknown(object, parent, known, known_n, NULL, errors);
}

/* A name stands in specs, in paths of the API and on command lines. */
static void check_name(const char *name, struct err_list *errors) {
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz", others[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
    size_t length = strlen(name), good = 0;
    while (good < length && (strchr(digits, name[good]) != NULL || strchr(others, name[good]) != NULL))
        good++;
    if (good < length || (length > 0 && strchr("-.", name[0]) != NULL))
        err_add(errors, ERR_FIELD, "/name",
                "is \"%s\"; letters, digits, \"-\", \"_\" and \".\" are possible, the first no \"-\" or \".\"", name);
    else if (dataset_find(name) != NULL)
        err_add(errors, ERR_FIELD, "/name", "is \"%s\", the name of a built-in data set", name);
    else if (strncmp(name, "ds_", 3) == 0)
        err_add(errors, ERR_FIELD, "/name", "is \"%s\"; ids begin with \"ds_\", names do not", name);
}

int announce_names(const json_t *doc, struct dataset_names *ret_names, struct err_list *errors) {
    struct announcement announcement = {0};
    if (!json_is_object(doc))
        return err_add(errors, ERR_FIELD, "", "must be an object");
    read_section(doc, "", NAME_ROWS, NULL, &announcement, errors);
    check_name(announcement.names.name, errors);
    *ret_names = announcement.names;
    return errors->n > 0 ? -1 : 0;
}

static int read_announcement(const json_t *doc, struct announcement *ret, struct err_list *errors) {
    const json_t *options = json_object_get(doc, "options");
    *ret = (struct announcement){0};
    if (!json_is_object(doc) || (options != NULL && !json_is_object(options)))
        return err_add(errors, ERR_FIELD, json_is_object(doc) ? "/options" : "", "must be an object");
    for (int i = 0; i < ROWS_N; i++)
        row_set(&rows[i], ret, rows[i].initial);
    read_section(doc, "", ROWS_N, "options", ret, errors);
    read_section(options, "options", ROWS_N, NULL, ret, errors);
    check_name(ret->names.name, errors);
    if (strspn(ret->sha256, "0123456789abcdef") != strlen(ret->sha256))
        err_add(errors, ERR_FIELD, "/sha256", "must be 64 hexadecimal digits, small letters");
    if (ret->channels == 2)
        err_add(errors, ERR_FIELD, "/options/channels", "is 2; 1 and 3 are possible");
    return errors->n > 0 ? -1 : 0;
}

/* The import's options as common/event.h has them. Caller frees; NULL when out of memory. */
static char *options_text(const struct announcement *a) {
    json_t *size = a->size[0] > 0 ? json_pack("[i, i]", a->size[0], a->size[1]) : json_null();
    json_t *options = json_pack("{s:o, s:s, s:o, s:f, s:I, s:b}", "size", size, "fit", fits[a->fit], "channels",
                                a->channels > 0 ? json_integer(a->channels) : json_null(), "test_fraction", a->test_fraction,
                                "seed", (json_int_t)a->seed, "skip_damaged", (int)a->skip_damaged);
    char *text = options != NULL ? json_text(options) : NULL;
    json_decref(options);
    return text;
}

/* --- answering --- */

static int answer_announced(struct request *request, unsigned status, const struct dataset *dataset, struct err *err) {
    char location[64];
    snprintf(location, sizeof location, "/v1/datasets/%s", dataset->id);
    if (answer_dataset(request, status, dataset, err) < 0)
        return -1;
    return answer_header(request, MHD_HTTP_HEADER_LOCATION, location, err);
}

/* Whether a data set is what was announced, and still waits for content: then a repeated announcement goes on with it. */
static bool is_same(const struct dataset *dataset, const struct dataset_new *new) {
    return dataset->state == DATASET_UPLOADING &&
           dataset->archive_bytes == new->archive_bytes &&strcmp(dataset->archive_sha256, new->archive_sha256) == 0 &&
           strcmp(dataset->options, new->options) == 0;
}

static int add(struct request *request, const struct dataset_new *new, struct err *err) {
    struct store *store = request->api->options.store;
    struct dataset dataset = {0};
    struct err none = {0};
    int failed;
    if (store_dataset_named(store, &request->api->viewer, new->name, &dataset, &none) == 0 && is_same(&dataset, new)) {
        failed = answer_announced(request, MHD_HTTP_OK, &dataset, err);
    } else {
        dataset_done(&dataset);
        failed = store_dataset_add(store, &request->api->viewer, new, &dataset, err);
        request->wrote = failed == 0;
        if (failed == 0)
            failed = answer_announced(request, MHD_HTTP_CREATED, &dataset, err);
    }
    dataset_done(&dataset);
    return failed;
}

int handle_dataset_announce(struct request *request, struct err *err) {
    struct announcement a;
    json_t *doc = json_parse(request->body != NULL ? request->body : "", request->body_size, err);
    int failed = doc == NULL ? -1 : read_announcement(doc, &a, &request->errors);
    json_decref(doc);
    if (failed < 0 || sched_upload_check(request->api->options.sched, (int64_t)a.bytes, err) < 0)
        return -1;
    char *options = options_text(&a);
    if (options == NULL)
        return err_set(err, ERR_MEMORY, "cannot take a data set: out of memory");
    struct dataset_new new = {.name = a.names.name,
                              .title = a.names.title[0] != '\0' ? a.names.title : a.names.name,
                              .archive_sha256 = a.sha256,
                              .options = options,
                              .archive_bytes = (int64_t)a.bytes};
    failed = add(request, &new, err);
    free(options);
    return failed;
}
