/* Items of the self-check with cuDNN's fused batch norm: whole steps, once its plans alone were found right. */
#include <stdio.h>
#include <stdlib.h>

#include "server/train/selfcheck_private.h"

/* Opens the device once more, with the feature beside those of the check; the environment is as it was afterwards. */
static int open_fused(const struct selfcheck *check, struct backend **ret_backend, struct err *err) {
    struct backend_options options = {.threads = 1, .device_id = check->info.device_id};
    if (setenv(FEATURES_VARIABLE, FEATURE_FUSED_NORM "," FEATURE_CAPTURED, 1) != 0)
        return err_set(err, ERR_MEMORY, "out of memory to open the device again");
    int rc = check->api->open(&options, ret_backend, err);
    setenv(FEATURES_VARIABLE, FEATURE_CAPTURED, 1);
    return rc;
}

static int run_fused(struct selfcheck *check, item_fn *fn, enum spec_precision precision, struct backend_check *item,
                     struct err *err) {
    struct selfcheck fused = *check;
    if (!report_allows(check, FEATURE_FUSED_NORM)) {
        item->skipped = true;
        snprintf(item->text, sizeof item->text, "cuDNN's fused batch norm has not passed by itself");
        return 0;
    }
    if (open_fused(check, &fused.backend, err) != 0)
        return -1;
    int rc = fn(&fused, precision, item, err);
    if (err->code != ERR_DEVICE) /* else it may hang */
        check->api->close(fused.backend);
    return rc;
}

int check_fused_step(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    return run_fused(check, check_step, precision, item, err);
}

int check_fused_captured(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    return run_fused(check, check_captured, precision, item, err);
}
