/* The cuDNN backend's door: the exported table. */
#include "server/backend/cudnn/check.h"
#include "server/backend/cudnn/core.h"
#include "server/backend/cudnn/device.h"

__attribute__((visibility("default"))) const struct residuum_backend residuum_backend = {
    .abi = BACKEND_ABI,
    .name = "cudnn",
    .probe = gpu_probe,
    .open = core_open,
    .close = core_close,
    .load_data = core_load_data,
    .telemetry = core_telemetry,
    .self_check = check_run,
    .compile = core_compile,
    .plan_free = core_plan_free,
    .train_step = core_train_step,
    .eval_step = core_eval_step,
    .get_tensor = core_get_tensor,
    .set_tensor = core_set_tensor,
    .get_activation = core_get_activation,
    .statistics = core_statistics,
    .memory = core_memory,
};
