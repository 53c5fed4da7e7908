/* Runs a device's self-check: the module's own items, then those of the worker. See selfcheck.h. */
#include "server/train/selfcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/event.h"
#include "server/train/module.h"
#include "server/train/say.h"
#include "server/train/selfcheck_private.h"

const char selfcheck_usage[] =
    "       residuum-worker --self-check [--device ID] [--brief] [--json FILE]\n"
    "                                  check a GPU (default: the first one; ID as --probe prints it, a number, or cpu)\n";

enum { PROBE_TIMEOUT_MS = 60000 };

/* --- which device --- */

/* Finds the device of an id, or of the number that stands in its place; NULL: the first. */
static int find_device(enum spec_backend backend, const char *wanted, struct backend_info *ret_info, struct err *err) {
    struct err reason = {0};
    int devices = 1;
    bool by_number = wanted != NULL && wanted[0] != '\0' && wanted[strspn(wanted, "0123456789")] == '\0';
    for (int index = 0; index < devices; index++) {
        struct backend_info info;
        struct err why = {0};
        int rc = module_probe(backend, index, PROBE_TIMEOUT_MS, &info, &why);
        bool meant = wanted == NULL || (by_number ? atoi(wanted) == index : strcmp(info.device_id, wanted) == 0);
        if (index == 0 && info.devices > 1)
            devices = info.devices < EVENT_DEVICES_MAX ? info.devices : EVENT_DEVICES_MAX;
        if (rc == 0 && meant) {
            *ret_info = info;
            return 0;
        }
        if (rc != 0 && (meant || reason.code == ERR_NONE))
            reason = why;
    }
    if (reason.code != ERR_NONE)
        return err_set(err, ERR_UNAVAILABLE, "%s", reason.text);
    return err_set(err, ERR_UNAVAILABLE, "there is no device %s among the %d that the backend %s has", wanted, devices,
                   spec_backend_name(backend));
}

/* What is to be checked is used, whatever an earlier check or none has allowed; fused batch norm is opened by its own items. */
static int prepare_check(struct selfcheck *check, enum spec_backend backend, struct err *err) {
    if (setenv(FEATURES_VARIABLE, FEATURE_CAPTURED, 1) != 0)
        return err_set(err, ERR_MEMORY, "out of memory for a self-check");
    if (lesson_images(&check->data, err) != 0)
        return -1;
    struct backend_options here = {.threads = check->info.threads_max > 0 ? check->info.threads_max : 1,
                                   .device_id = check->info.device_id};
    struct backend_options there = {.threads = 1, .device_id = MODULE_CPU};
    if (module_open(BACKEND_REF, &check->truth_api, err) != 0 || module_open(backend, &check->api, err) != 0 ||
        check->truth_api->open(&there, &check->truth, err) != 0)
        return -1;
    return check->api->open(&here, &check->backend, err);
}

/* --- the items --- */

enum {
    ALL_PRECISIONS = 1 << PRECISION_F32 | 1 << PRECISION_BF16 | 1 << PRECISION_TF32,
    F32 = 1 << PRECISION_F32,
    BF16 = 1 << PRECISION_BF16
};

/* In which of its precisions an item runs: in all, or only in the one that is the fastest here. */
enum choice { EACH, EACH_IF_LONG, FASTEST };

static const struct row {
    const char *name;
    item_fn *fn;
    const char *feature;
    unsigned precisions; /* in which it runs, as far as the device has them; each is an item */
    bool gpu;            /* only there */
    bool long_form;      /* only there */
    enum choice choice;
} rows[] = {
    {"every operation against ref", check_every_op, NULL, F32, false, false, EACH},
    {"a step against ref", check_step, NULL, ALL_PRECISIONS, false, false, EACH},
    {"images on the device", check_images, NULL, F32, true, false, EACH},
    {"captured steps", check_captured, FEATURE_CAPTURED, ALL_PRECISIONS, true, false, FASTEST},
    {"a step with fused batch norm", check_fused_step, FEATURE_FUSED_NORM, BF16, true, false, EACH},
    {"captured, with fused batch norm", check_fused_captured, FEATURE_FUSED_NORM, BF16, true, false, EACH},
    {"repeated training", check_repeated, NULL, ALL_PRECISIONS, false, false, EACH_IF_LONG},
    {"training taken up again", check_resumed, NULL, ALL_PRECISIONS, false, false, FASTEST},
    {"course of the loss", check_curve, NULL, ALL_PRECISIONS, false, false, EACH_IF_LONG},
    {"a network that does not fit", check_too_large, NULL, F32, true, false, EACH},
    {"memory given back", check_given_back, NULL, F32, true, false, EACH},
    {"endurance", check_soak, NULL, ALL_PRECISIONS, true, true, FASTEST},
    {"speed", check_speed, NULL, ALL_PRECISIONS, true, false, FASTEST},
};

static enum spec_precision fastest(const struct selfcheck *check) {
    return check->info.precisions >> PRECISION_BF16 & 1 ? PRECISION_BF16 : PRECISION_F32;
}

static bool applies(const struct selfcheck *check, const struct row *row, enum spec_precision precision) {
    bool gpu = check->info.compute > 0;
    if ((row->gpu && !gpu) || (row->long_form && check->brief) || check->lost)
        return false;
    if ((row->choice == FASTEST || (row->choice == EACH_IF_LONG && check->brief)) && precision != fastest(check))
        return false;
    return (row->precisions & check->info.precisions) >> precision & 1;
}

static void run_row(struct selfcheck *check, const struct row *row, enum spec_precision precision) {
    struct backend_check item = {0};
    struct err err = {0};
    snprintf(item.item, sizeof item.item, "%s, %s", row->name, spec_precision_name(precision));
    say("checking: %s", item.item);
    if (row->fn(check, precision, &item, &err) != 0) {
        item.passed = item.skipped = false;
        snprintf(item.text, sizeof item.text, "%.250s", err.text);
    }
    check->lost = err.code == ERR_DEVICE;
    report_item(check, &item, row->feature);
}

static void run_rows(struct selfcheck *check) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (enum spec_precision p = PRECISION_F32; p <= PRECISION_TF32; p++)
            if (applies(check, &rows[i], p))
                run_row(check, &rows[i], p);
}

/* --- the module's own --- */

/* A module's items name what they allow: an item of cuDNN's fused batch norm begins so. */
static void module_item(void *arg, const struct backend_check *item) {
    static const char fused[] = "fused batch norm";
    report_item(arg, item, strncmp(item->item, fused, sizeof fused - 1) == 0 ? FEATURE_FUSED_NORM : NULL);
}

static void run_module(struct selfcheck *check) {
    struct backend_checks checks = {.report = module_item, .arg = check, .brief = check->brief};
    struct err err = {0};
    if (check->api->self_check == NULL || check->api->self_check(check->backend, &checks, &err) == 0)
        return;
    struct backend_check item = {.item = "the module's own checks"};
    snprintf(item.text, sizeof item.text, "they could not go on: %.200s", err.text);
    check->lost = err.code == ERR_DEVICE;
    report_item(check, &item, NULL);
}

/* --- all of it --- */

/* Fills in what the arguments say. False: they are wrong. */
static bool parse(const char *const *arguments, struct selfcheck *check, const char **ret_device) {
    for (; *arguments != NULL; arguments++) {
        bool device = strcmp(*arguments, "--device") == 0, json = strcmp(*arguments, "--json") == 0;
        if (strcmp(*arguments, "--brief") == 0) {
            check->brief = true;
            continue;
        }
        if ((!device && !json) || arguments[1] == NULL || arguments[1][0] == '\0')
            return false;
        arguments++;
        if (device)
            *ret_device = *arguments;
        else
            check->json_path = *arguments;
    }
    return true;
}

static int run(struct selfcheck *check) {
    struct err err = {0};
    if (report_init(check, &err) != 0) {
        say("%s", err.text);
        return SELFCHECK_FAILED;
    }
    run_module(check);
    run_rows(check);
    return report_end(check);
}

static void tidy(struct selfcheck *check) {
    free(check->curve);
    data_done(&check->data);
    report_done(check);
    if (check->truth_api != NULL)
        check->truth_api->close(check->truth);
    if (check->api != NULL)
        check->api->close(check->backend);
}

int selfcheck_run(int fd, const char *const *arguments) {
    struct selfcheck check = {.fd = fd};
    struct err err = {0};
    const char *device = NULL;
    if (!parse(arguments, &check, &device)) {
        fprintf(stderr, "usage:\n%s", selfcheck_usage);
        return WORKER_EXIT_USAGE;
    }
    enum spec_backend backend = device != NULL && strcmp(device, MODULE_CPU) == 0 ? BACKEND_ONEDNN : BACKEND_CUDNN;
    int code = SELFCHECK_NO_DEVICE;
    if (find_device(backend, device, &check.info, &err) != 0 || prepare_check(&check, backend, &err) != 0)
        dprintf(fd, "Nothing was checked: %s\n", err.text);
    else
        code = run(&check);
    if (check.lost)
        _exit(code); /* a device that has failed may hang whoever tidies up, exit handlers among them */
    tidy(&check);
    return code;
}
