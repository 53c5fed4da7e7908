/* What a self-check tells: a line an item for a person, and the file. See selfcheck.h. */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/version.h"
#include "server/train/module.h"
#include "server/train/selfcheck.h"
#include "server/train/selfcheck_private.h"

int report_init(struct selfcheck *check, struct err *err) {
    check->items = json_array();
    check->features = json_object();
    if (check->items == NULL || check->features == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a report");
    dprintf(check->fd, "%s, %s, %s %s, driver %s\n", check->info.device, check->info.device_id, check->info.name,
            check->info.version, check->info.driver[0] != '\0' ? check->info.driver : "none");
    return 0;
}

void report_done(struct selfcheck *check) {
    json_decref(check->items);
    json_decref(check->features);
}

/* --- items --- */

void item_at_most(struct backend_check *item, double measured, double limit) {
    item->passed = measured <= limit;
    item->measured = measured;
    item->limit = limit;
}

void item_passes(struct backend_check *item, bool passed) {
    item->passed = passed;
}

static void print(const struct selfcheck *check, const struct backend_check *item) {
    char numbers[48] = "";
    if (item->limit != 0)
        snprintf(numbers, sizeof numbers, "%.3g <= %g", item->measured, item->limit);
    else if (item->measured != 0)
        snprintf(numbers, sizeof numbers, "%.4g", item->measured);
    dprintf(check->fd, "%-7s  %-40s  %-18s  %s\n",
            item->skipped  ? "skipped"
            : item->passed ? "passed"
                           : "FAILED",
            item->item, numbers, item->text);
}

static json_t *item_json(const struct backend_check *item) {
    return json_pack("{s:s, s:b, s:b, s:o, s:o, s:s}", "item", item->item, "passed", item->passed, "skipped", item->skipped,
                     "measured", json_number_or_null(item->measured), "limit", json_number_or_null(item->limit), "text",
                     item->text);
}

/* A feature is allowed when every item that names it has passed. */
static void note_feature(json_t *features, const char *feature, bool passed) {
    const json_t *before = json_object_get(features, feature);
    json_object_set_new(features, feature, json_boolean(passed && !json_is_false(before)));
}

bool report_allows(const struct selfcheck *check, const char *feature) {
    return json_is_true(json_object_get(check->features, feature));
}

static json_t *features_json(json_t *features) {
    json_t *names = json_array(), *allowed;
    const char *name;
    json_object_foreach(features, name, allowed) {
        if (json_is_true(allowed))
            json_array_append_new(names, json_string(name));
    }
    return names;
}

void report_item(struct selfcheck *check, const struct backend_check *item, const char *feature) {
    struct backend_check told = *item;
    module_tidy_text(told.item, sizeof told.item);
    module_tidy_text(told.text, sizeof told.text);
    told.passed = told.passed && !told.skipped;
    print(check, &told);
    json_array_append_new(check->items, item_json(&told));
    check->skipped += told.skipped ? 1 : 0;
    bool failed = !told.passed && !told.skipped, withheld = failed && feature != NULL && !check->lost;
    check->failed += failed && !withheld ? 1 : 0;
    check->withheld += withheld ? 1 : 0;
    if (feature != NULL)
        note_feature(check->features, feature, told.passed);
}

/* --- the file --- */

static json_t *document(const struct selfcheck *check) {
    char at[LOG_TIME_SIZE];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_time((long long)now.tv_sec * 1000000 + now.tv_nsec / 1000, at);
    json_t *profile = json_loads(check->info.profile, 0, NULL);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:o, s:o, s:O}", "device_id", check->info.device_id, "device",
                     check->info.device, "driver", check->info.driver, "cudnn", check->info.version, "worker", RESIDUUM_VERSION,
                     "at", at, "brief", check->brief, "passed", check->failed == 0, "features", features_json(check->features),
                     "profile", profile != NULL ? profile : json_null(), "items", check->items);
}

static int path_of(const struct selfcheck *check, char ret_path[PATH_MAX], struct err *err) {
    const char *folder = getenv("RESIDUUM_SELF_CHECK"), *id = check->info.device_id;
    int n = check->json_path != NULL ? snprintf(ret_path, PATH_MAX, "%s", check->json_path)
            : folder != NULL         ? snprintf(ret_path, PATH_MAX, "%s/%s.json", folder, id)
                                     : snprintf(ret_path, PATH_MAX, "self-check-%s.json", id);
    if (n >= PATH_MAX)
        return err_set(err, ERR_REQUEST, "the path of the report is longer than %d bytes", PATH_MAX - 1);
    return folder != NULL && check->json_path == NULL ? file_mkdirs(folder, err) : 0;
}

static int write_file(const struct selfcheck *check, char ret_path[PATH_MAX], struct err *err) {
    char folder[PATH_MAX], name[PATH_MAX];
    if (path_of(check, ret_path, err) != 0)
        return -1;
    memcpy(folder, ret_path, PATH_MAX);
    memcpy(name, ret_path, PATH_MAX);
    json_t *whole = document(check);
    char *text = whole != NULL ? json_text(whole) : NULL;
    json_decref(whole);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a report");
    struct iovec parts[] = {{text, strlen(text)}, {"\n", 1}};
    int rc = file_write(dirname(folder), basename(name), parts, 2, err);
    free(text);
    return rc;
}

enum { NAMES_SIZE = 64 };

static const char *withheld_names(json_t *features, char ret_text[NAMES_SIZE]) {
    const char *name;
    json_t *allowed;
    size_t length = 0;
    json_object_foreach(features, name, allowed) {
        if (!json_is_true(allowed) && length < NAMES_SIZE)
            length += (size_t)snprintf(ret_text + length, NAMES_SIZE - length, "%s%s", length > 0 ? " and " : "", name);
    }
    return ret_text;
}

int report_end(struct selfcheck *check) {
    char path[PATH_MAX], names[NAMES_SIZE] = "";
    struct err err = {0};
    int items = (int)json_array_size(check->items);
    if (write_file(check, path, &err) != 0) {
        dprintf(check->fd, "The report could not be written: %s\n", err.text);
        return SELFCHECK_FAILED;
    }
    if (check->failed > 0)
        dprintf(check->fd, "FAILED: %d of %d items; do not train on this device before it is known why. Report: %s\n",
                check->failed, items, path);
    else if (check->withheld > 0)
        dprintf(check->fd, "Passed, but for %d of %d items, so that jobs do without %s. Report: %s\n", check->withheld, items,
                withheld_names(check->features, names), path);
    else
        dprintf(check->fd, "Passed: all of %d items, %d of them skipped. Report: %s\n", items, check->skipped, path);
    return check->failed > 0 ? SELFCHECK_FAILED : 0;
}
