/* Runs the module's items of a self-check: see check.h. */
#include "server/backend/cudnn/check.h"

#include <stdio.h>

/* --- what is here --- */

static int check_environment(struct backend *backend, bool brief, struct backend_check *item, struct err *err) {
    const struct backend_info *info = &backend->info;
    (void)brief;
    if (nvml_health(&backend->nvml, err) != 0)
        return -1;
    int cudart = (int)backend->driver.cudnnGetCudartVersion();
    item->passed = true;
    snprintf(item->text, sizeof item->text,
             "compute capability %d.%d, %lld MiB, driver %s, cuDNN %s for CUDA %d.%d; %s; engines compiled at run time: %s",
             info->compute / 10, info->compute % 10, (long long)(info->memory_bytes >> 20), info->driver, info->version,
             cudart / 1000, cudart % 1000 / 10, backend->nvml.device != NULL ? "NVML reports no fault" : "no NVML",
             backend->driver.runtime_compiled ? "yes" : "no");
    return 0;
}

/* --- items --- */

struct run {
    struct backend *backend;
    const struct backend_checks *checks;
};

/* Reports an item that ended with rc. Only a device that has failed ends the check. */
static int report(const struct run *run, struct backend_check *item, int rc, const struct err *reason, struct err *err) {
    if (rc != 0) {
        item->passed = item->skipped = false;
        snprintf(item->text, sizeof item->text, "%.250s", reason->text);
    }
    run->checks->report(run->checks->arg, item);
    return rc != 0 && reason->code == ERR_DEVICE ? err_set(err, ERR_DEVICE, "%s", reason->text) : 0;
}

typedef int item_fn(struct backend *backend, bool brief, struct backend_check *item, struct err *err);

static int run_item(const struct run *run, const char *name, item_fn *fn, struct err *err) {
    struct backend_check item = {0};
    struct err reason = {0};
    snprintf(item.item, sizeof item.item, "%s", name);
    return report(run, &item, fn(run->backend, run->checks->brief, &item, &reason), &reason, err);
}

static int run_convs(const struct run *run, enum spec_precision precision, struct err *err) {
    static const char *const ops[] = {
        [CONV_FORWARD] = "forward", [CONV_BACK_X] = "gradient of images", [CONV_BACK_W] = "gradient of weights"};
    for (int op = CONV_FORWARD; op < CONV_OPS; op++) {
        struct backend_check item = {0};
        struct err reason = {0};
        snprintf(item.item, sizeof item.item, "convolutions, %s, %s", ops[op],
                 precision == PRECISION_F32    ? "f32"
                 : precision == PRECISION_BF16 ? "bf16"
                                               : "tf32");
        int rc = check_conv(run->backend, run->checks->brief, (enum conv_op)op, precision, &item, &reason);
        if (report(run, &item, rc, &reason, err) != 0)
            return -1;
    }
    return 0;
}

int check_run(struct backend *backend, const struct backend_checks *checks, struct err *err) {
    static const struct {
        const char *name;
        item_fn *fn;
    } items[] = {{"driver, libraries, health", check_environment},
                 {"memory", check_memory},
                 {"copies to the device", check_to_device},
                 {"copies from the device", check_from_device},
                 {"fused batch norm of cuDNN", check_norm}};
    struct run run = {backend, checks};
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++)
        if (run_item(&run, items[i].name, items[i].fn, err) != 0)
            return -1;
    for (int precision = PRECISION_F32; precision <= PRECISION_TF32; precision++)
        if ((backend->info.precisions >> precision & 1) != 0 && run_convs(&run, (enum spec_precision)precision, err) != 0)
            return -1;
    return 0;
}
