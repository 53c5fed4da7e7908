/* Finds, opens and chooses backend modules: see module.h. */
#include "server/train/module.h"

#include <dlfcn.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "server/train/say.h"

enum { AUTO_TIMEOUT_MS = 10000 };

static const enum spec_backend order[] = {BACKEND_ONEDNN, BACKEND_REF, BACKEND_CUDNN};

const enum spec_backend *module_order(size_t *ret_n) {
    *ret_n = sizeof order / sizeof order[0];
    return order;
}

static int find(const char *name, char ret_path[PATH_MAX], struct err *err) {
    static const char *const places[] = {"", "/../lib/residuum"};
    char dir[PATH_MAX];
    if (file_exe_dir(dir, sizeof dir, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int n = snprintf(ret_path, PATH_MAX, "%s%s/backend-%s.so", dir, places[i], name);
        if (n > 0 && n < PATH_MAX && access(ret_path, R_OK) == 0)
            return 0;
    }
    return err_set(err, ERR_UNAVAILABLE,
                   "the backend %s is not installed: backend-%s.so is neither in %s nor in %s/../lib/residuum", name, name, dir,
                   dir);
}

/* libgomp reads its environment when it is loaded. Without a limit its threads spin at every barrier for as long as they may run,
 * and on a machine with other work that takes the cores from the threads they wait for: ResNet-20 in bf16 beside two busy loops
 * on 2 cores trained 44 to 91 images/s, with this limit 850 to 890; alone on the machine it makes no difference (2,800). What the
 * user has set stands. */
static void calm_openmp(void) {
    if (getenv("OMP_WAIT_POLICY") == NULL)
        setenv("GOMP_SPINCOUNT", "20000", 0);
}

int module_open(enum spec_backend backend, const struct residuum_backend **ret_api, struct err *err) {
    const char *name = spec_backend_name(backend);
    char path[PATH_MAX];
    if (find(name, path, err) != 0)
        return -1;
    calm_openmp();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return err_set(err, ERR_UNAVAILABLE, "the backend %s cannot be loaded: %s", name, dlerror());
    const struct residuum_backend *api = dlsym(handle, "residuum_backend");
    if (api == NULL)
        return err_set(err, ERR_UNAVAILABLE, "%s exports no residuum_backend", path);
    if (api->abi != BACKEND_ABI)
        return err_set(err, ERR_UNAVAILABLE, "%s is made for interface %u, this worker for %d: install both from one version",
                       path, api->abi, BACKEND_ABI);
    *ret_api = api;
    return 0;
}

/* --- what modules say --- */

void module_tidy_text(char *text, size_t size) {
    text[size - 1] = '\0';
    json_t *valid = json_string(text);
    for (char *c = text; valid == NULL && *c != '\0'; c++)
        if (*c & 0x80)
            *c = '?';
    json_decref(valid);
}

void module_tidy(struct backend_info *info) {
    module_tidy_text(info->name, sizeof info->name);
    module_tidy_text(info->version, sizeof info->version);
    module_tidy_text(info->device_id, sizeof info->device_id);
    module_tidy_text(info->device, sizeof info->device);
    module_tidy_text(info->algorithms, sizeof info->algorithms);
    module_tidy_text(info->driver, sizeof info->driver);
    module_tidy_text(info->profile, sizeof info->profile);
    module_tidy_text(info->note, sizeof info->note);
    if (info->device_id[0] == '\0')
        snprintf(info->device_id, sizeof info->device_id, MODULE_CPU);
}

/* --- the job's choice --- */

static bool is_gpu(const char *device) {
    return strcmp(device, MODULE_CPU) != 0;
}

static bool serves(enum spec_backend backend, const char *device) {
    return (backend == BACKEND_CUDNN) == is_gpu(device);
}

static int check_precision(const struct spec *spec, const struct backend_info *info, struct err *err) {
    if (info->precisions >> spec->precision & 1)
        return 0;
    return err_at(err, ERR_UNAVAILABLE, "/precision", "the backend %s does not offer %s on this machine", info->name,
                  spec_precision_name(spec->precision));
}

/* Looks for the device among all that the module has: CUDA_VISIBLE_DEVICES decides how they are numbered. */
static int find_device(const struct residuum_backend *api, const char *device, struct backend_info *ret_info, struct err *err) {
    struct err reason = {0};
    int devices = 1;
    for (int index = 0; index < devices; index++) {
        struct backend_info info = {0};
        int rc = api->probe(index, &info, &reason);
        module_tidy(&info);
        if (rc == 0 && strcmp(info.device_id, device) == 0) {
            *ret_info = info;
            return 0;
        }
        if (info.devices > devices)
            devices = info.devices;
    }
    if (reason.code == ERR_NONE)
        err_set(&reason, ERR_UNAVAILABLE, "it is none of the %d that there are", devices);
    module_tidy_text(reason.text, sizeof reason.text);
    if (is_gpu(device))
        return err_set(err, ERR_DEVICE, "the device %s cannot be used by the backend %s: %s", device, api->name, reason.text);
    return err_at(err, ERR_UNAVAILABLE, "/backend", "the backend %s cannot be used: %s", api->name, reason.text);
}

static int open_for(const struct spec *spec, enum spec_backend backend, const char *device,
                    const struct residuum_backend **ret_api, struct backend_info *ret_info, struct err *err) {
    if (!serves(backend, device))
        return err_at(err, ERR_UNAVAILABLE, "/backend", "the backend %s does not compute on the device %s",
                      spec_backend_name(backend), device);
    if (module_open(backend, ret_api, err) != 0 || find_device(*ret_api, device, ret_info, err) != 0)
        return -1;
    return check_precision(spec, ret_info, err);
}

static bool is_usable(const struct spec *spec, enum spec_backend backend, struct err *err) {
    struct backend_info info;
    return module_probe(backend, 0, AUTO_TIMEOUT_MS, &info, err) == 0 && check_precision(spec, &info, err) == 0;
}

static int choose_for_cpu(const struct spec *spec, const struct residuum_backend **ret_api, struct backend_info *ret_info,
                          struct err *err) {
    struct err reason = {0};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if (!serves(order[i], MODULE_CPU))
            continue;
        memset(&reason, 0, sizeof reason);
        if (is_usable(spec, order[i], &reason))
            return open_for(spec, order[i], MODULE_CPU, ret_api, ret_info, err);
        say("not using %s: %s", spec_backend_name(order[i]), reason.text);
    }
    return err_at(err, ERR_UNAVAILABLE, "/backend", "no backend on this machine can do the job; the last one tried: %s",
                  reason.text);
}

int module_choose(const struct spec *spec, const char *device, const struct residuum_backend **ret_api,
                  struct backend_info *ret_info, struct err *err) {
    if (spec->backend != BACKEND_AUTO)
        return open_for(spec, spec->backend, device, ret_api, ret_info, err);
    if (is_gpu(device))
        return open_for(spec, BACKEND_CUDNN, device, ret_api, ret_info, err);
    return choose_for_cpu(spec, ret_api, ret_info, err);
}
