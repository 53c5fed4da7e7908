/* Self-checks of GPUs. A worker writes what it found into DATA/self-check/ID.json; a device without a record that fits its
 * driver, its cuDNN and our version makes a short one before its first job, and gets no jobs when that fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/version.h"
#include "server/sched/private.h"

enum { RECORD_MAX = 1 << 20, REPORT_MAX = 1 << 20, CHECK_TIMEOUT_MS = 120000 };
static const char what[] = "its short self-check";
static const char what_alone[] = "its short self-check (no other GPU made one meanwhile)"; /* what did not end in time */

/* --- the record --- */

static bool is_record(const json_t *record) {
    const json_t *feature;
    size_t i;
    json_array_foreach(json_object_get(record, "features"), i, feature) {
        if (!json_is_string(feature) || strchr(json_string_value(feature), ',') != NULL)
            return false;
    }
    return json_is_string(json_object_get(record, "at")) && json_is_string(json_object_get(record, "driver")) &&
           json_is_string(json_object_get(record, "cudnn")) && json_is_string(json_object_get(record, "worker")) &&
           json_is_array(json_object_get(record, "features")) && json_is_boolean(json_object_get(record, "brief")) &&
           json_is_boolean(json_object_get(record, "passed")) && json_is_array(json_object_get(record, "items"));
}

static void forget(struct device *device) {
    json_decref(device->record);
    device->record = NULL;
    device->recorded_us = 0;
}

void check_read(struct device *device) {
    enum { US = 1000000 };
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;
    struct stat info;
    struct err why = {0};
    forget(device);
    if ((size_t)snprintf(path, sizeof path, "%s/self-check/%s.json", device->sched->data_dir, device->id) >= sizeof path)
        return;
    if (stat(path, &info) != 0 || file_read(path, RECORD_MAX, &text, &size, &why) != 0)
        return; /* it made none yet, or its next one replaces it */
    device->record = json_parse(text, size, &why);
    device->recorded_us = (int64_t)info.st_mtim.tv_sec * US + info.st_mtim.tv_nsec / 1000;
    free(text);
    if (is_record(device->record))
        return;
    log_line("warning", "self-check-unreadable", "device", device->id, "file", path, (char *)NULL);
    forget(device);
}

static const json_t *version_of(const json_t *card, const char *backend) {
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(card, "backends"), i, item) {
        if (strcmp(json_string_value(json_object_get(item, "name")), backend) == 0)
            return json_object_get(item, "version");
    }
    return NULL;
}

/* Whether the record is of the driver, the backend and the worker that are here now: its kernels are of our version. */
static bool is_current(const json_t *record, const json_t *card) {
    const json_t *version = version_of(card, "cudnn");
    const char *worker = json_string_value(json_object_get(record, "worker"));
    return version != NULL && worker != NULL && strcmp(worker, RESIDUUM_VERSION) == 0 &&
           json_equal(json_object_get(record, "cudnn"), version) &&
           json_equal(json_object_get(record, "driver"), json_object_get(card, "driver"));
}

bool check_holds(const struct device *device, const json_t *card) {
    return json_is_true(json_object_get(device->record, "passed")) && is_current(device->record, card);
}

json_t *check_json(const struct device *device) {
    static const char *const shown[] = {"passed", "at", "driver", "features"};
    if (device->record == NULL)
        return json_null();
    json_t *check = json_object();
    int rc = 0;
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        rc |= json_object_set(check, shown[i], json_object_get(device->record, shown[i]));
    return json_whole(check, rc);
}

/* --- the short check --- */

/* The first item that failed in the record of a check. */
static void explain(const json_t *record, const char *check, struct err *why) {
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(record, "items"), i, item) {
        const char *name = json_string_value(json_object_get(item, "item"));
        const char *text = json_string_value(json_object_get(item, "text"));
        if (json_is_true(json_object_get(item, "passed")) || json_is_true(json_object_get(item, "skipped")))
            continue;
        *why = (struct err){0};
        err_set(why, ERR_DEVICE, "%s failed: %.80s: %.300s", check, name != NULL ? name : "an item",
                text != NULL ? text : "no reason was told");
        return;
    }
}

static void failed(struct device *device, const struct err *why) {
    if (why->code == ERR_UNSUPPORTED)
        log_line("warning", "self-check-ignored", "device", device->id, "reason", why->text, (char *)NULL);
    else
        device_drain(device->sched, device->id, why->text);
}

static errand_fn answered;

static int start(struct device *device, struct err *err) {
    struct launch_env env = {0};
    if (launch_env_make(device->sched, device->id, &env, err) != 0)
        return -1;
    struct errand_options options = {.sched = device->sched,
                                     .what = what_alone,
                                     .args = (const char *const[]){"--self-check", "--brief", "--device", device->id, NULL},
                                     .env = &env,
                                     .nice = WORKER_NICE,
                                     .answer_max = REPORT_MAX,
                                     .timeout_ms = CHECK_TIMEOUT_MS,
                                     .fn = answered,
                                     .arg = device};
    int rc = errand_new(&options, &device->check, err);
    launch_env_done(&env);
    return rc;
}

/* The first one found of those that wait; NULL: there is none, or another one's check runs. */
static struct device *next_due(const struct sched *sched) {
    struct device *next = NULL;
    for (struct device *device = sched->devices; device != NULL; device = device->next) {
        if (device->check != NULL)
            return NULL;
        if (device->check_due)
            next = device; /* the list begins with the last one found */
    }
    return next;
}

void checks_start(struct sched *sched) {
    struct device *device;
    while (!sched->draining && (device = next_due(sched)) != NULL) {
        struct err why = {0};
        device->check_due = false;
        if (start(device, &why) != 0)
            failed(device, &why);
    }
}

static void answered(void *arg, const char *text, size_t size, const struct err *why) {
    struct device *device = arg;
    struct err reason = *why;
    int64_t before_us = device->recorded_us;
    (void)size;
    errand_free(device->check);
    device->check = NULL;
    check_read(device);
    if (device->recorded_us != before_us) /* else it is an older check's */
        explain(device->record, what, &reason);
    if (text == NULL)
        failed(device, &reason);
    else
        log_line("info", "self-check-passed", "device", device->id, (char *)NULL);
    checks_start(device->sched);
    sched_look(device->sched);
}

/* A whole check that failed counts until another whole one passes, or the software is another: a short one looks at less, and
 * would take the place of its record. */
static bool has_failed_whole(const struct device *device, const json_t *card) {
    return json_is_false(json_object_get(device->record, "passed")) && json_is_false(json_object_get(device->record, "brief")) &&
           is_current(device->record, card);
}

void check_found(struct device *device, const json_t *card) {
    struct err why = {0};
    if (check_holds(device, card))
        return;
    if (!has_failed_whole(device, card)) {
        device->check_due = true;
        return;
    }
    explain(device->record, "its self-check", &why);
    device_drain(device->sched, device->id, why.text);
}
