/* Data sets: the built-in ones and those that were imported; shown, renamed, deleted. */
#include <stdio.h>
#include <string.h>

#include "common/dataset.h"
#include "common/json.h"
#include "common/log.h"
#include "server/api/announce.h"
#include "server/api/private.h"

/* --- as JSON --- */

/* What every data set has once its images are known; NULL: they are not. */
static json_t *card_json(const struct dataset_card *card) {
    if (card == NULL)
        return json_pack("{s:n, s:[], s:n, s:n}", "shape", "classes", "train_images", "test_images");
    json_t *classes = json_array();
    int rc = 0;
    for (int i = 0; i < card->classes; i++)
        rc |= json_array_append_new(classes, json_string(card->class_names[i]));
    return json_pack("{s:[i,i,i], s:o, s:i, s:i}", "shape", card->channels, card->height, card->width, "classes",
                     json_whole(classes, rc), "train_images", card->train_images, "test_images", card->test_images);
}

/* Adds what is in steal; NULL out of memory. */
static json_t *with(json_t *value, json_t *steal) {
    int rc = steal == NULL ? -1 : json_object_update(value, steal);
    json_decref(steal);
    return json_whole(value, rc);
}

static json_t *builtin_json(const struct api *api, const struct dataset_card *card) {
    const json_t *entry = json_object_get(sched_datasets(api->options.sched), card->name);
    json_t *available = json_object_get(entry, "available"), *reason = json_object_get(entry, "reason");
    json_t *value = json_pack("{s:n, s:s, s:s, s:s, s:o, s:o}", "id", "name", card->name, "title", card->title, "source",
                              card->source, "available", available != NULL ? json_incref(available) : json_null(), "reason",
                              reason != NULL ? json_incref(reason) : json_null());
    value = with(value, json_pack("{s:n, s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "owner", "state", "ready", "upload", "options",
                                  "progress", "failure", "bytes", "jobs", "created"));
    return with(value, card_json(card));
}

/* "importing" is a queued one whose import runs. */
static const char *state_of(const struct dataset *dataset, const json_t *progress) {
    return dataset->state == DATASET_QUEUED && progress != NULL ? "importing" : dataset_state_name(dataset->state);
}

/* Why it cannot be trained on. */
static json_t *reason_json(const struct dataset *dataset, const json_t *progress, int64_t offset) {
    switch (dataset->state) {
    case DATASET_UPLOADING:
        return json_sprintf("%lld of %lld bytes have arrived", (long long)offset, (long long)dataset->archive_bytes);
    case DATASET_QUEUED:
        return json_string(progress != NULL ? "it is being imported" : "it waits for its import");
    case DATASET_READY:
        return json_null();
    case DATASET_FAILED:
        break;
    }
    return json_string(dataset->reason_text);
}

static json_t *failure_json(const struct dataset *dataset) {
    if (dataset->state != DATASET_FAILED)
        return json_null();
    return json_pack("{s:s, s:s, s:s?}", "code", dataset->reason, "text", dataset->reason_text, "entry",
                     dataset->entry[0] != '\0' ? dataset->entry : NULL);
}

static json_t *source_json(const json_t *card) {
    const json_t *source = json_object_get(card, "source");
    const char *format = json_string_value(json_object_get(source, "format"));
    if (format == NULL)
        return json_string("an uploaded archive");
    return json_sprintf("an uploaded archive: %s, %lld entries", format,
                        (long long)json_integer_value(json_object_get(source, "entries")));
}

static json_t *upload_json(const struct dataset *dataset, int64_t offset) {
    bool all = dataset->state != DATASET_UPLOADING;
    return json_pack("{s:I, s:s, s:I}", "bytes", (json_int_t)dataset->archive_bytes, "sha256", dataset->archive_sha256, "offset",
                     (json_int_t)(all ? dataset->archive_bytes : offset));
}

/* The fields of an imported one that do not come from its card. */
static json_t *state_json(const struct api *api, const struct dataset *dataset, const json_t *card) {
    char created[LOG_TIME_SIZE];
    const json_t *progress = sched_import_progress(api->options.sched, dataset->id);
    int64_t offset = dataset->state == DATASET_UPLOADING ? sched_upload_offset(api->options.sched, dataset) : 0;
    json_t *bytes = json_object_get(card, "bytes");
    log_time(dataset->created_us, created);
    return json_pack("{s:s, s:s, s:s, s:o, s:b, s:o, s:s, s:s, s:o, s:o, s:O?, s:o, s:O?, s:I, s:s}", "id", dataset->id, "name",
                     dataset->name, "title", dataset->title, "source", source_json(card), "available",
                     (int)(dataset->state == DATASET_READY), "reason", reason_json(dataset, progress, offset), "owner",
                     dataset->owner, "state", state_of(dataset, progress), "upload", upload_json(dataset, offset), "options",
                     json_parse(dataset->options, strlen(dataset->options), NULL), "progress", progress, "failure",
                     failure_json(dataset), "bytes", bytes, "jobs", (json_int_t)dataset->jobs, "created", created);
}

/* detail: with the card as it is. New reference; NULL and err on failure. */
static json_t *imported_json(const struct api *api, const struct dataset *dataset, bool detail, struct err *err) {
    struct dataset_import *import = NULL;
    json_t *card = dataset->card != NULL ? json_parse(dataset->card, strlen(dataset->card), err) : NULL, *value = NULL;
    if (dataset->card == NULL || (card != NULL && dataset_card_read(card, &import, err) == 0)) {
        value = with(state_json(api, dataset, card), card_json(import != NULL ? &import->card : NULL));
        if (detail)
            value = json_whole(value, json_object_set(value, "card", card != NULL ? card : json_null()));
        if (value == NULL)
            err_set(err, ERR_MEMORY, "cannot show a data set: out of memory");
    }
    dataset_import_free(import);
    json_decref(card);
    return value;
}

/* --- requests --- */

int request_dataset(struct request *request, struct dataset *ret_dataset, struct err *err) {
    const char *id = request->args[0];
    struct store *store = request->api->options.store;
    const struct viewer *viewer = &request->api->viewer;
    return strncmp(id, "ds_", 3) == 0 ? store_dataset_get(store, viewer, id, ret_dataset, err)
                                      : store_dataset_named(store, viewer, id, ret_dataset, err);
}

int answer_dataset(struct request *request, unsigned status, const struct dataset *dataset, struct err *err) {
    json_t *value = imported_json(request->api, dataset, true, err);
    return value == NULL ? -1 : answer_json(request, status, value, err);
}

struct list {
    const struct api *api;
    json_t *items;
    size_t n;
    struct err *err;
};

static int add(void *arg, const struct dataset *dataset) {
    struct list *list = arg;
    list->n++;
    return json_array_append_new(list->items, imported_json(list->api, dataset, false, list->err));
}

int handle_datasets(struct request *request, struct err *err) {
    struct list list = {.api = request->api, .items = json_array(), .err = err};
    const struct dataset_card *cards = dataset_all(&list.n);
    for (size_t i = 0; i < list.n; i++)
        json_array_append_new(list.items, builtin_json(request->api, &cards[i]));
    if (store_dataset_list(request->api->options.store, &request->api->viewer, add, &list, err) == 0)
        return answer_items(request, list.items, list.n, err);
    json_decref(list.items);
    return -1;
}

int handle_dataset(struct request *request, struct err *err) {
    const struct dataset_card *builtin = dataset_find(request->args[0]);
    struct dataset dataset = {0};
    if (builtin != NULL)
        return answer_json(request, MHD_HTTP_OK, with(builtin_json(request->api, builtin), json_pack("{s:n}", "card")), err);
    if (request_dataset(request, &dataset, err) < 0)
        return -1;
    int failed = answer_dataset(request, MHD_HTTP_OK, &dataset, err);
    dataset_done(&dataset);
    return failed;
}

static int rename_to(struct request *request, const struct dataset *dataset, const struct dataset_names *names, struct err *err) {
    struct dataset renamed = {0};
    struct store *store = request->api->options.store;
    const char *title = names->title[0] != '\0' ? names->title : names->name;
    request->wrote = true;
    if (store_dataset_rename(store, dataset->id, names->name, title, err) < 0 ||
        store_dataset_get(store, &request->api->viewer, dataset->id, &renamed, err) < 0)
        return -1;
    int failed = answer_dataset(request, MHD_HTTP_OK, &renamed, err);
    dataset_done(&renamed);
    return failed;
}

int handle_dataset_rename(struct request *request, struct err *err) {
    struct dataset_names names;
    struct dataset dataset = {0};
    json_t *doc = json_parse(request->body != NULL ? request->body : "", request->body_size, err);
    int failed = doc == NULL ? -1 : announce_names(doc, &names, &request->errors);
    json_decref(doc);
    if (failed < 0 || request_dataset(request, &dataset, err) < 0)
        return -1;
    failed = rename_to(request, &dataset, &names, err);
    dataset_done(&dataset);
    return failed;
}

int handle_dataset_delete(struct request *request, struct err *err) {
    struct dataset dataset = {0};
    if (request_dataset(request, &dataset, err) < 0)
        return -1;
    int failed = sched_dataset_delete(request->api->options.sched, &request->api->viewer, dataset.id, err);
    dataset_done(&dataset);
    if (failed < 0)
        return -1;
    request->wrote = true;
    return answer_response(request, MHD_HTTP_NO_CONTENT, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), err);
}

int handle_dataset_sheet(struct request *request, struct err *err) {
    struct dataset dataset = {0};
    struct download download = {.type = "image/png"};
    if (request_dataset(request, &dataset, err) < 0)
        return -1;
    snprintf(download.name, sizeof download.name, "%s.png", dataset.name);
    int failed = dataset.state == DATASET_READY
                     ? sched_dataset_file(request->api->options.sched, dataset.id, DATASET_SHEET_FILE, &download.steal_fd,
                                          &download.size, err)
                     : err_set(err, ERR_CONFLICT, "data set \"%s\" is %s; there is nothing to show yet", dataset.name,
                               dataset_state_name(dataset.state));
    dataset_done(&dataset);
    return failed < 0 ? -1 : answer_download(request, &download, err);
}
