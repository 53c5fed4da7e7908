/* The reference backend: plain C, slow, obvious, deterministic; the truth in tests. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/backend/ref/ref.h"

struct backend {
    int threads; /* asked for; ref uses one */
};

static int ref_probe(int index, struct backend_info *ret_info, struct err *err) {
    (void)index, (void)err;
    struct backend_info info = {.devices = 1, .precisions = 1U << PRECISION_F32, .threads_max = 1};
    snprintf(info.name, sizeof info.name, "ref");
    snprintf(info.version, sizeof info.version, "1");
    snprintf(info.algorithms, sizeof info.algorithms, "plain");
    snprintf(info.device_id, sizeof info.device_id, "cpu");
    snprintf(info.device, sizeof info.device, "CPU, plain C (1 thread)");
    info.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    *ret_info = info;
    return 0;
}

static int ref_open(const struct backend_options *options, struct backend **ret_backend, struct err *err) {
    struct backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return err_set(err, ERR_MEMORY, "No memory to open backend ref");
    backend->threads = options->threads;
    *ret_backend = backend;
    return 0;
}

static void ref_close(struct backend *backend) {
    free(backend);
}

__attribute__((visibility("default"))) const struct residuum_backend residuum_backend = {
    .abi = BACKEND_ABI,
    .name = "ref",
    .probe = ref_probe,
    .open = ref_open,
    .close = ref_close,
    .compile = ref_compile,
    .plan_free = ref_plan_free,
    .train_step = ref_train_step,
    .eval_step = ref_eval_step,
    .get_tensor = ref_get_tensor,
    .set_tensor = ref_set_tensor,
    .get_activation = ref_get_activation,
    .statistics = ref_statistics,
    .memory = ref_memory,
};
