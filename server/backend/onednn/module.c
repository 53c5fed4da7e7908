/* The oneDNN backend's door: probe, open, close and the exported table. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/backend/onednn/private.h"

/* The CPU's name from /proc/cpuinfo, or "CPU". */
static void cpu_name(char *ret_name, size_t size) {
    char line[256];
    snprintf(ret_name, size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(ret_name, size, "%.70s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file)
        fclose(file);
}

static int module_probe(int index, struct backend_info *ret_info, struct err *err) {
    (void)index;
    struct backend_info info = {.devices = 1, .precisions = 1U << PRECISION_F32, .threads_max = omp_get_num_procs()};
    const dnnl_version_t *version = dnnl_version();
    char cpu[72];
    if (version->major != DNNL_VERSION_MAJOR)
        return err_set(err, ERR_BACKEND, "this module was built for oneDNN %d but found %d.%d.%d; build it again",
                       DNNL_VERSION_MAJOR, version->major, version->minor, version->patch);
    if (kernels_bf16())
        info.precisions |= 1U << PRECISION_BF16;
    cpu_name(cpu, sizeof cpu);
    snprintf(info.name, sizeof info.name, "onednn");
    snprintf(info.version, sizeof info.version, "%d.%d.%d", version->major, version->minor, version->patch);
    snprintf(info.device_id, sizeof info.device_id, "cpu");
    snprintf(info.device, sizeof info.device, "%s (%d threads)", cpu, info.threads_max);
    snprintf(info.algorithms, sizeof info.algorithms, "%s,%s", conv_algorithms, kernels_choose()->name);
    info.memory_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    *ret_info = info;
    return 0;
}

static void module_close(struct backend *backend) {
    if (!backend)
        return;
    if (backend->stream)
        dnnl_stream_destroy(backend->stream);
    if (backend->engine)
        dnnl_engine_destroy(backend->engine);
    free(backend);
    (void)omp_pause_resource_all(omp_pause_soft); /* ends the idle threads; another open starts new ones */
}

/* oneDNN's kernels wait for as many threads as OpenMP promised; a smaller team would wait for ever. */
static int check_team(int threads, struct err *err) {
    int team = 0;
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
#pragma omp parallel
#pragma omp single
    team = omp_get_num_threads();
    if (team < threads)
        return err_set(err, ERR_BACKEND,
                       "backend onednn was asked for %d threads, but OpenMP gives %d; unset OMP_THREAD_LIMIT or ask for %d",
                       threads, team, team);
    return 0;
}

static int module_open(const struct backend_options *options, struct backend **ret_backend, struct err *err) {
    if (options->device_id && strcmp(options->device_id, "cpu") != 0)
        return err_set(err, ERR_BACKEND, "backend onednn has no device '%s'; it runs on 'cpu'", options->device_id);
    if (options->threads < 1)
        return err_set(err, ERR_BACKEND, "backend onednn cannot run with %d threads; it needs at least 1", options->threads);
    if (check_team(options->threads, err) != 0)
        return -1;
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend)
        return err_set(err, ERR_MEMORY, "out of memory while opening backend onednn");
    backend->threads = options->threads;
    backend->kernels = kernels_choose();
    if (compat_check(dnnl_engine_create(&backend->engine, dnnl_cpu, 0), "open the CPU", err) != 0 ||
        compat_check(dnnl_stream_create(&backend->stream, backend->engine, dnnl_stream_default_flags), "open a stream", err) !=
            0) {
        module_close(backend);
        return -1;
    }
    *ret_backend = backend;
    return 0;
}

__attribute__((visibility("default"))) const struct residuum_backend residuum_backend = {.abi = BACKEND_ABI,
                                                                                         .name = "onednn",
                                                                                         .probe = module_probe,
                                                                                         .open = module_open,
                                                                                         .close = module_close,
                                                                                         .compile = plan_compile,
                                                                                         .plan_free = plan_free,
                                                                                         .train_step = step_train,
                                                                                         .eval_step = step_eval,
                                                                                         .get_tensor = params_get,
                                                                                         .set_tensor = params_set,
                                                                                         .get_activation = inspect_activation,
                                                                                         .statistics = optimizer_statistics,
                                                                                         .memory = plan_memory};
