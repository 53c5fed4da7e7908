/* The GPU's driver, cuDNN and NVML as the module finds them: every way in which they are missing, old or sick is told in a
 * sentence. Fakes of the libraries stand in a folder of RESIDUUM_CUDA_PATH; each question is answered by this program started
 * anew, because a library once loaded stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/spec.h"
#include "server/backend/cudnn/compiler.h"
#include "server/backend/cudnn/device.h"
#include "server/backend/cudnn/nvml.h"

#define ID "GPU-1fdda001-2345-6789-abcd-ef0011223340"
#define LOADER "/lib64/ld-linux-x86-64.so.2"

enum { ANSWER_FD = 3, LINKS_MAX = 10, REPEATS = 3 };

/* --- the program that answers --- */

struct answer {
    int rc, device;
    bool runtime_compiled;
    struct backend_info info;
    struct backend_telemetry telemetry;
    struct nvml_memory memory;
    struct err err;
};

static void answer_probe(const char *argument, struct answer *answer) {
    answer->rc = gpu_probe(atoi(argument), &answer->info, &answer->err);
}

/* Finds the device of an id among those that are there. */
static void answer_find(const char *argument, struct answer *answer) {
    struct gpu_driver driver;
    CUdevice device = -1;
    answer->rc = gpu_driver_open(&driver, &answer->err);
    if (answer->rc != 0)
        return;
    answer->rc = gpu_driver_start(&driver, &answer->err) != 0 || gpu_find(&driver, argument, &device, &answer->err) != 0 ? -1 : 0;
    answer->device = device;
    answer->runtime_compiled = driver.runtime_compiled;
    gpu_driver_close(&driver);
}

/* Asks for the health some times: a fault is told every time. */
static void answer_health(const char *argument, struct answer *answer) {
    struct nvml nvml;
    nvml_init(&nvml, argument);
    nvml_telemetry(&nvml, &answer->telemetry);
    nvml_memory(&nvml, &answer->memory);
    nvml_driver(&nvml, answer->info.driver, sizeof answer->info.driver);
    for (int i = 0; i < REPEATS; i++) {
        answer->err = (struct err){0};
        answer->rc = nvml_health(&nvml, &answer->err);
    }
    nvml_done(&nvml);
    nvml_done(&nvml);
}

/* An error of a CUDA call, seen beside what NVML says. */
static void answer_blame(const char *argument, struct answer *answer) {
    struct nvml nvml;
    enum err_code code = ERR_NONE;
    nvml_init(&nvml, ID);
    answer->rc = err_parse(argument, &code) ? err_set(&answer->err, code, "the GPU could not launch a kernel") : 0;
    nvml_blame(&nvml, &answer->err);
    nvml_done(&nvml);
}

/* Compiles a kernel for compute capability 9.0 with the NVRTC of this CUDA version. */
static void answer_compile(const char *argument, struct answer *answer) {
    static const char *const options[] = {"--gpu-architecture=sm_90"};
    struct gpu_compiler compiler;
    answer->rc = gpu_compiler_open(atoi(argument), &compiler, &answer->err);
    if (answer->rc != 0)
        return;
    void *program = NULL;
    size_t size = 0;
    int result =
        compiler.nvrtcCreateProgram(&program, "extern \"C\" __global__ void f(int *p) { *p = 1; }", "f.cu", 0, NULL, NULL);
    if (result == 0)
        result = compiler.nvrtcCompileProgram(program, 1, options);
    if (result == 0)
        result = compiler.nvrtcGetCUBINSize(program, &size);
    char *image = calloc(size + 1, 1);
    if (result == 0 && image != NULL)
        result = compiler.nvrtcGetCUBIN(program, image);
    answer->rc = result;
    answer->memory.used = size;
    snprintf(answer->info.name, sizeof answer->info.name, "%.3s", image != NULL && size > 4 ? image + 1 : "");
    snprintf(answer->info.note, sizeof answer->info.note, "%s", compiler.nvrtcGetErrorString(6));
    free(image);
    compiler.nvrtcDestroyProgram(&program);
    gpu_compiler_close(&compiler);
}

/* Whether the loader finds a library by itself. */
static void answer_loader(const char *argument, struct answer *answer) {
    answer->rc = dlopen(argument, RTLD_LAZY) != NULL ? 0 : -1;
}

static const struct {
    const char *name;
    void (*answer)(const char *argument, struct answer *answer);
} questions[] = {{"probe", answer_probe}, {"find", answer_find},       {"health", answer_health},
                 {"blame", answer_blame}, {"compile", answer_compile}, {"loader", answer_loader}};

static int reply(const char *question, const char *argument) {
    static struct answer answer;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
        if (strcmp(questions[i].name, question) == 0)
            questions[i].answer(argument, &answer);
    return write(ANSWER_FD, &answer, sizeof answer) == sizeof answer ? 0 : 1;
}

/* --- the folder of fakes --- */

struct scene {
    const char *cuda, *cudnn, *nvml;   /* what FAKE_CUDA, FAKE_CUDNN and FAKE_NVML say */
    const char *without, *without_too; /* libraries that are left out of the folder */
    const char *broken;                /* a library that is no library */
    const char *old;                   /* a library that has few functions */
    const char *visible;               /* CUDA_VISIBLE_DEVICES */
    bool bare;                         /* the loader knows no folder but the system's own */
};

/* Library, the fake that stands for it, the one that stands for an old one. */
static const struct {
    const char *name, *fake, *old;
} links[LINKS_MAX] = {
    {"libcuda.so.1", "libcuda.so", "libcuda-old.so"},
    {"libcudnn.so.9", "libcudnn.so", "libcudnn-old.so"},
    {"libcudnn_graph.so.9", "libempty.so", NULL},
    {"libcudnn_heuristic.so.9", "libempty.so", NULL},
    {"libcudnn_engines_precompiled.so.9", "libempty.so", NULL},
    {"libcudnn_engines_runtime_compiled.so.9", "libempty.so", NULL},
    {"libcublasLt.so.13", "libempty.so", NULL},
    {"libcublasLt.so.14", "libempty.so", NULL},
    {"libnvrtc.so.13", "libempty.so", NULL},
    {"libnvidia-ml.so.1", "libnvidia-ml.so", NULL},
};

static bool is(const char *name, const char *other) {
    return other != NULL && strcmp(name, other) == 0;
}

static void put(const char *folder, const char *fakes, size_t i, const struct scene *scene) {
    char path[PATH_MAX], target[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, links[i].name);
    if (is(links[i].name, scene->broken)) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs("no library\n", file);
        fclose(file);
        return;
    }
    snprintf(target, sizeof target, "%s/%s", fakes, is(links[i].name, scene->old) ? links[i].old : links[i].fake);
    assert_int_equal(access(target, R_OK), 0);
    assert_int_equal(symlink(target, path), 0);
}

static void make_folder(char folder[], const struct scene *scene) {
    char self[PATH_MAX] = "", fakes[PATH_MAX];
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    snprintf(fakes, sizeof fakes, "%.*s/fakes", PATH_MAX - 8, dirname(self));
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < LINKS_MAX; i++)
        if (!is(links[i].name, scene->without) && !is(links[i].name, scene->without_too))
            put(folder, fakes, i, scene);
}

static void remove_folder(const char *folder) {
    char path[PATH_MAX];
    for (size_t i = 0; i < LINKS_MAX; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, links[i].name);
        unlink(path);
    }
    rmdir(folder);
}

static void set(const char *name, const char *value) {
    if (value != NULL)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

/* The child: never returns. */
static void start(const struct scene *scene, const char *folder, const char *question, const char *argument, int fd) {
    char path[PATH_MAX + 16], self[PATH_MAX] = "";
    /* An empty entry and a folder that is not there are passed over. */
    snprintf(path, sizeof path, ":/nonexistent:%s", folder);
    set("RESIDUUM_CUDA_PATH", path);
    set("FAKE_CUDA", scene->cuda);
    set("FAKE_CUDNN", scene->cudnn);
    set("FAKE_NVML", scene->nvml);
    set("CUDA_VISIBLE_DEVICES", scene->visible);
    if (dup2(fd, ANSWER_FD) < 0 || readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        _exit(1);
    if (scene->bare) {
        unsetenv("LD_LIBRARY_PATH");
        execl(LOADER, LOADER, "--inhibit-cache", self, question, argument, NULL);
    } else {
        execl(self, self, question, argument, NULL);
    }
    _exit(1);
}

static struct answer ask(const struct scene *scene, const char *question, const char *argument) {
    char folder[] = "/tmp/residuum-gpu-XXXXXX";
    struct answer answer;
    int ends[2], status = -1;
    make_folder(folder, scene);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        start(scene, folder, question, argument, ends[1]);
    close(ends[1]);
    ssize_t n = read(ends[0], &answer, sizeof answer);
    close(ends[0]);
    waitpid(child, &status, 0);
    remove_folder(folder);
    assert_int_equal(n, sizeof answer);
    assert_int_equal(status, 0);
    return answer;
}

static void assert_says(const struct answer *answer, const char *part) {
    if (strstr(answer->err.text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", answer->err.text, part);
}

/* A probe that fails with this code and these words. */
static struct answer refused(struct scene scene, enum err_code code, const char *words, const char *more) {
    struct answer answer = ask(&scene, "probe", "0");
    assert_int_equal(answer.rc, -1);
    assert_says(&answer, words);
    assert_says(&answer, more);
    assert_int_equal(answer.err.code, code);
    return answer;
}

/* --- devices --- */

static void test_device(void **state) {
    (void)state;
    struct answer answer = ask(&(struct scene){0}, "probe", "0");
    assert_string_equal(answer.err.text, "");
    assert_int_equal(answer.rc, 0);
    const struct backend_info *info = &answer.info;
    assert_string_equal(info->name, "cudnn");
    assert_string_equal(info->version, "9.19.0");
    assert_string_equal(info->algorithms, "cudnn-9.19.0,own-1");
    assert_string_equal(info->device_id, ID);
    assert_string_equal(info->device, "NVIDIA \"Fake\" H100");
    assert_string_equal(info->driver, "580.65.06");
    assert_string_equal(info->note, "not yet run on hardware by us");
    assert_int_equal(info->precisions, 1 << PRECISION_F32 | 1 << PRECISION_BF16 | 1 << PRECISION_TF32);
    assert_int_equal(info->compute, 90);
    assert_int_equal(info->devices, 1);
    assert_int_equal(info->threads_max, 1);
    assert_int_equal(info->memory_bytes, 85024112640);
    assert_int_equal(info->memory_free_bytes, 80000000000);
}

static void assert_number(const json_t *profile, const char *key, CUdevice_attribute attribute) {
    assert_int_equal(json_integer_value(json_object_get(profile, key)), 1000 + (int)attribute);
}

/* The keys and the order are those of the profiles that the memory plan and cuDNN take. */
static void test_profile(void **state) {
    (void)state;
    struct answer answer = ask(&(struct scene){0}, "probe", "0");
    json_t *profile = json_loads(answer.info.profile, JSON_REJECT_DUPLICATES, NULL);
    json_t *known = json_load_file("server/graph/profiles/h100.json", 0, NULL);
    assert_non_null(profile);
    assert_non_null(known);
    const char *key;
    json_t *value;
    json_object_foreach(known, key, value) if (json_typeof(value) != json_typeof(json_object_get(profile, key)))
        fail_msg("%s is missing, or no such value", key);
    assert_int_equal(json_object_size(profile), json_object_size(known));
    assert_int_equal(json_integer_value(json_object_get(profile, "deviceVer")), 900);
    assert_int_equal(json_integer_value(json_object_get(profile, "driverVer")), 13000);
    assert_int_equal(json_integer_value(json_object_get(profile, "totalGlobalMem")), 85024112640);
    assert_string_equal(json_string_value(json_object_get(profile, "deviceName")), "NVIDIA ?Fake? H100");
    assert_number(profile, "multiProcessorCount", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    assert_number(profile, "smClockRateKHz", CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    assert_number(profile, "maxCtasPerSM", CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR);
    assert_number(profile, "l2CacheSize", CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
    json_t *grid = json_object_get(profile, "maxGridSize");
    assert_int_equal(json_array_size(grid), 3);
    assert_int_equal(json_integer_value(json_array_get(grid, 2)), 1000 + CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
    json_decref(profile);
    json_decref(known);
}

static void test_a_property_that_is_not_told_is_0(void **state) {
    (void)state;
    char cuda[32];
    snprintf(cuda, sizeof cuda, "untold=%d", CU_DEVICE_ATTRIBUTE_TCC_DRIVER);
    struct answer answer = ask(&(struct scene){.cuda = cuda}, "probe", "0");
    assert_int_equal(answer.rc, 0);
    json_t *profile = json_loads(answer.info.profile, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_integer(json_object_get(profile, "isTccDriver")));
    assert_int_equal(json_integer_value(json_object_get(profile, "isTccDriver")), 0);
    assert_number(profile, "multiProcessorCount", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    json_decref(profile);
}

static void test_two_devices(void **state) {
    (void)state;
    struct scene scene = {.cuda = "devices=2 compute1=75"};
    struct answer answer = ask(&scene, "probe", "1");
    assert_int_equal(answer.rc, 0);
    assert_int_equal(answer.info.devices, 2);
    assert_string_equal(answer.info.device_id, "GPU-1fdda001-2345-6789-abcd-ef0011223341");
    assert_string_equal(answer.info.device, "NVIDIA \"Fake\" H200");
    assert_int_equal(answer.info.memory_bytes, 85024112641);
    assert_int_equal(answer.info.precisions, 1 << PRECISION_F32);
    answer = ask(&scene, "probe", "2");
    assert_int_equal(answer.rc, -1);
    assert_says(&answer, "no GPU number 2: the driver shows 2");
    answer = ask(&scene, "find", "GPU-1fdda001-2345-6789-abcd-ef0011223341");
    assert_int_equal(answer.rc, 0);
    assert_int_equal(answer.device, 1);
    answer = ask(&scene, "find", "GPU-1fdda001-2345-6789-abcd-ef0011223342");
    assert_int_equal(answer.rc, -1);
    assert_int_equal(answer.err.code, ERR_DEVICE);
    assert_says(&answer, "none of the 2 GPUs that the driver shows has the id GPU-1fdda001-2345-6789-abcd-ef0011223342");
}

static void test_slice(void **state) {
    (void)state;
    struct answer answer = ask(&(struct scene){.cuda = "mig=1"}, "probe", "0");
    assert_int_equal(answer.rc, 0);
    assert_string_equal(answer.info.device_id, "MIG-1fdda001-2345-6789-abcd-ef0011223340");
}

/* A device that cannot be used is named, and does not hide the others. */
static void test_refused_device(void **state) {
    (void)state;
    struct answer answer = refused((struct scene){.cuda = "compute=70 devices=2"}, ERR_UNAVAILABLE,
                                   "NVIDIA \"Fake\" H100 has compute capability 7.0, too old", "needs 7.5 or newer");
    assert_int_equal(answer.info.devices, 2);
    assert_string_equal(answer.info.device_id, ID);
    assert_string_equal(answer.info.device, "NVIDIA \"Fake\" H100");
    refused((struct scene){.cuda = "compute=130"}, ERR_UNAVAILABLE,
            "compute capability 13.0, newer than cuDNN 9.19.0 knows (up to 12.1)", "install a newer cuDNN");
    refused((struct scene){.cuda = "mode=2"}, ERR_UNAVAILABLE, "compute mode \"prohibited\"", "nvidia-smi -c DEFAULT");
    refused((struct scene){.nvml = "failed=1"}, ERR_DEVICE, "the GPU " ID " is at fault", "needs service");
}

/* --- the driver --- */

static void test_no_driver(void **state) {
    (void)state;
    struct scene scene = {.without = "libcuda.so.1", .bare = true};
    if (ask(&scene, "loader", "libcuda.so.1").rc == 0) {
        print_message("skipped: this machine has an NVIDIA driver\n");
        skip();
    }
    refused(scene, ERR_UNAVAILABLE, "no NVIDIA driver: libcuda.so.1: cannot open shared object file",
            "or in a container start it with GPUs (--gpus all)");
    /* With the real cuDNN, where the loader finds it. */
    scene = (struct scene){.without = "libcuda.so.1", .without_too = "libcudnn.so.9"};
    refused(scene, ERR_UNAVAILABLE, "no NVIDIA driver", "--gpus all");
}

static void test_no_device(void **state) {
    (void)state;
    refused((struct scene){.cuda = "init=100"}, ERR_UNAVAILABLE, "shows no GPU (CUDA_VISIBLE_DEVICES is not set)", "nvidia-smi");
    refused((struct scene){.cuda = "init=100", .visible = "-1"}, ERR_UNAVAILABLE, "(CUDA_VISIBLE_DEVICES is -1)", "--gpus all");
    refused((struct scene){.cuda = "init=100", .visible = ""}, ERR_UNAVAILABLE, "(CUDA_VISIBLE_DEVICES is empty)", "--gpus all");
}

static void test_driver_fails(void **state) {
    (void)state;
    refused((struct scene){.cuda = "init=803"}, ERR_DEVICE,
            "system has unsupported display driver / cuda driver combination (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)",
            "reboot the machine");
    refused((struct scene){.cuda = "init=802"}, ERR_DEVICE, "802", "nvidia-fabricmanager");
    refused((struct scene){.cuda = "init=804"}, ERR_UNAVAILABLE, "804", "cuda-compat");
    refused((struct scene){.cuda = "init=46"}, ERR_DEVICE, "46", "nvidia-smi -q -d COMPUTE");
    refused((struct scene){.cuda = "init=101"}, ERR_DEVICE, "101", "taken by another process");
    refused((struct scene){.cuda = "init=999"}, ERR_BACKEND, "unknown error (CUDA error, 999)", "nvidia-modprobe -u");
    refused((struct scene){.cuda = "version_result=34"}, ERR_UNAVAILABLE, "34", "the toolkit's stub");
}

static void test_driver_too_old(void **state) {
    (void)state;
    const char *words = "the NVIDIA driver 535 (CUDA 12.2) is older than CUDA 13 needs", *advice = "install driver 580 or newer";
    struct scene scene = {.cuda = "version=12020"};
    refused(scene, ERR_UNAVAILABLE, words, advice);
    scene.old = "libcuda.so.1";
    refused(scene, ERR_UNAVAILABLE, words, advice);
    scene.cuda = NULL;
    refused(scene, ERR_UNAVAILABLE, "the NVIDIA driver (libcuda.so.1, CUDA 13.0) has no function cu", "install a newer driver");
    /* What cuDNN was made for counts as well. */
    scene = (struct scene){.cudnn = "cudart=14000"};
    refused(scene, ERR_UNAVAILABLE, "the NVIDIA driver 580 (CUDA 13.0) is older than CUDA 14 needs", "install a newer driver");
}

static void test_versions(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(gpu_driver_fits(13000, 13010, &err), 0);
    assert_int_equal(gpu_driver_fits(14000, 12090, &err), 0);
    assert_int_equal(gpu_driver_fits(11070, 12090, &err), -1);
    assert_non_null(strstr(err.text, "driver 515 (CUDA 11.7) is older than CUDA 12 needs: install driver 525 or newer"));
}

/* --- cuDNN --- */

static void test_no_cudnn(void **state) {
    (void)state;
    struct scene scene = {.without = "libcudnn.so.9", .without_too = "libcublasLt.so.13", .bare = true};
    if (access(LOADER, X_OK) != 0 || ask(&scene, "loader", "libcudnn.so.9").rc == 0) {
        print_message("skipped: the loader cannot be kept from finding this machine's cuDNN\n");
        skip();
    }
    refused(scene, ERR_UNAVAILABLE, "libcudnn.so.9 cannot be opened: libcudnn.so.9: cannot open shared object file",
            "install cuDNN 9");
    scene.without = NULL;
    refused(scene, ERR_UNAVAILABLE, "libcublasLt.so.13 cannot be opened", "the CUDA libraries it was made for");
    scene.without_too = "libcudnn_engines_precompiled.so.9";
    refused(scene, ERR_UNAVAILABLE, "libcudnn_engines_precompiled.so.9 cannot be opened", "with all its libraries");
    scene.without_too = "libcudnn_graph.so.9";
    refused(scene, ERR_UNAVAILABLE, "libcudnn_graph.so.9 cannot be opened", "with all its libraries");
}

/* A file of the configured folder is the one that is meant, even where the loader would find a sound one. */
static void test_broken_cudnn(void **state) {
    (void)state;
    refused((struct scene){.broken = "libcudnn.so.9"}, ERR_UNAVAILABLE, "libcudnn.so.9 cannot be opened: /tmp/residuum-gpu-",
            "install cuDNN");
    refused((struct scene){.broken = "libcublasLt.so.13"}, ERR_UNAVAILABLE, "libcublasLt.so.13 cannot be opened: /tmp/",
            "install cuDNN");
    refused((struct scene){.cudnn = "cudart=99000"}, ERR_UNAVAILABLE, "libcublasLt.so.99 cannot be opened", "install cuDNN");
}

static void test_cudnn_too_old(void **state) {
    (void)state;
    refused((struct scene){.cudnn = "version=91002"}, ERR_UNAVAILABLE, "cuDNN 9.10.2 is older than this backend needs",
            "install cuDNN 9.11 or newer");
    refused((struct scene){.old = "libcudnn.so.9"}, ERR_UNAVAILABLE, "libcudnn.so.9 has no function cudnn",
            "install cuDNN 9.11 or newer");
    refused((struct scene){.cudnn = "check=1002"}, ERR_UNAVAILABLE,
            "cuDNN could not use its libraries together: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH (1002): the libraries differ",
            "from one package");
}

/* Engines that are compiled at run time are offered only when all that they need is there. */
static void test_runtime_compiled(void **state) {
    (void)state;
    assert_true(ask(&(struct scene){0}, "find", ID).runtime_compiled);
    struct answer answer = ask(&(struct scene){.broken = "libnvrtc.so.13"}, "find", ID);
    assert_int_equal(answer.rc, 0);
    assert_false(answer.runtime_compiled);
    answer = ask(&(struct scene){.broken = "libcudnn_engines_runtime_compiled.so.9"}, "find", ID);
    assert_int_equal(answer.rc, 0);
    assert_false(answer.runtime_compiled);
}

/* The real cuDNN behind a fake driver: its table is whole, its version passes the gate. */
static void test_real_cudnn(void **state) {
    (void)state;
    if (ask(&(struct scene){0}, "loader", "libcudnn.so.9").rc != 0) {
        print_message("skipped: cuDNN is not installed\n");
        skip();
    }
    struct gpu_driver driver;
    struct err err = {0};
    char folder[] = "/tmp/residuum-gpu-XXXXXX", path[PATH_MAX];
    make_folder(folder, &(struct scene){0});
    for (size_t i = 1; i < LINKS_MAX; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, links[i].name);
        unlink(path);
    }
    setenv("RESIDUUM_CUDA_PATH", folder, 1);
    int rc = gpu_driver_open(&driver, &err);
    unsetenv("RESIDUUM_CUDA_PATH");
    remove_folder(folder);
    assert_string_equal(err.text, "");
    assert_int_equal(rc, 0);
    assert_int_equal(gpu_driver_start(&driver, &err), 0);
    assert_true(driver.cudnnGetVersion() >= 91100);
    cudnnBackendDescriptor_t descriptor;
    assert_int_equal(driver.cudnnBackendCreateDescriptor(CUDNN_BACKEND_TENSOR_DESCRIPTOR, &descriptor), CUDNN_STATUS_SUCCESS);
    assert_int_not_equal(driver.cudnnBackendFinalize(descriptor), CUDNN_STATUS_SUCCESS);
    assert_int_equal(gpu_error_cudnn(&driver, driver.cudnnBackendFinalize(descriptor), "describe a tensor", &err), -1);
    assert_int_equal(err.code, ERR_BACKEND);
    assert_non_null(strstr(err.text, "cuDNN could not describe a tensor: CUDNN_STATUS_BAD_PARAM"));
    driver.cudnnBackendDestroyDescriptor(descriptor);
    driver.region_begin(0, 1, "nothing");
    driver.region_end(0, 1, "nothing");
    gpu_driver_close(&driver);
    gpu_driver_close(&driver);
}

/* --- errors --- */

static CUresult no_text(CUresult result, const char **ret_text) {
    (void)result;
    (void)ret_text;
    return CUDA_ERROR_INVALID_VALUE;
}

static enum err_code code_of(int result) {
    struct gpu_driver driver = {.cuGetErrorName = no_text, .cuGetErrorString = no_text};
    struct err err = {0};
    int rc = gpu_error(&driver, (CUresult)result, "copy the images to the device", &err);
    assert_int_equal(rc, result == 0 ? 0 : -1);
    if (result != 0)
        assert_non_null(strstr(err.text, "the GPU could not copy the images to the device: unknown error (CUDA error, "));
    return err.code;
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        int result;
        enum err_code code;
    } rows[] = {
        {0, ERR_NONE},      {2, ERR_MEMORY},    {214, ERR_DEVICE},      {220, ERR_DEVICE},  {226, ERR_DEVICE},
        {700, ERR_BACKEND}, {702, ERR_BACKEND}, {710, ERR_BACKEND},     {719, ERR_BACKEND}, {721, ERR_BACKEND},
        {802, ERR_DEVICE},  {803, ERR_DEVICE},  {1, ERR_BACKEND},       {209, ERR_BACKEND}, {701, ERR_BACKEND},
        {900, ERR_BACKEND}, {808, ERR_DEVICE},  {304, ERR_UNAVAILABLE}, {46, ERR_DEVICE},   {805, ERR_DEVICE},
        {809, ERR_DEVICE},  {999, ERR_BACKEND}, {12345, ERR_BACKEND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (code_of(rows[i].result) != rows[i].code)
            fail_msg("%d is %s", rows[i].result, err_name(code_of(rows[i].result)));
}

static const char *status_name(cudnnStatus_t status) {
    (void)status;
    return "CUDNN_STATUS";
}

static void long_message(char *message, size_t size) {
    memset(message, 'x', size);
}

static void test_cudnn_errors(void **state) {
    (void)state;
    static const struct {
        int status;
        enum err_code code;
    } rows[] = {{0, ERR_NONE},           {4004, ERR_MEMORY},  {4003, ERR_MEMORY},  {1008, ERR_UNAVAILABLE},
                {3005, ERR_UNAVAILABLE}, {3000, ERR_BACKEND}, {5001, ERR_BACKEND}, {2003, ERR_BACKEND}};
    struct gpu_driver driver = {.cudnnGetErrorString = status_name, .cudnnGetLastErrorString = long_message};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        int rc = gpu_error_cudnn(&driver, (cudnnStatus_t)rows[i].status, "run a convolution", &err);
        assert_int_equal(rc, rows[i].status == 0 ? 0 : -1);
        assert_int_equal(err.code, rows[i].code);
    }
}

/* --- NVML --- */

static struct answer health(const char *nvml) {
    struct scene scene = {.nvml = nvml};
    return ask(&scene, "health", ID);
}

static void test_telemetry(void **state) {
    (void)state;
    struct answer answer = health(NULL);
    assert_int_equal(answer.rc, 0);
    assert_true(answer.telemetry.temperature_c == 61);
    assert_true(answer.telemetry.utilization == 0.87);
    assert_true(answer.telemetry.power_w == 312.5);
    assert_true(answer.telemetry.energy_j == 5000000000.123);
    assert_int_equal(answer.telemetry.memory_used_bytes, 5024112640);
    assert_true(answer.telemetry.step_s < 0);
    assert_string_equal(answer.info.driver, "580.65.06");
}

static void assert_unknown(const struct answer *answer) {
    assert_int_equal(answer->rc, 0);
    assert_true(answer->telemetry.temperature_c < 0 && answer->telemetry.utilization < 0);
    assert_true(answer->telemetry.power_w < 0 && answer->telemetry.energy_j < 0);
}

/* Whatever is missing is unknown, and no error. */
static void test_nothing_known(void **state) {
    (void)state;
    struct answer answer = health("bare=1 failed=1 action=1 xid=79");
    assert_unknown(&answer);
    assert_int_equal(answer.telemetry.memory_used_bytes, 5024112640);
    answer = health("bare=1 memory=3");
    assert_unknown(&answer);
    assert_true(answer.telemetry.memory_used_bytes < 0);
    answer = health("init=9");
    assert_unknown(&answer);
    assert_string_equal(answer.info.driver, "");
    answer = ask(&(struct scene){0}, "health", "GPU-00000000-0000-0000-0000-000000000000");
    assert_unknown(&answer);
    assert_true(answer.telemetry.memory_used_bytes < 0);
    struct scene scene = {.broken = "libnvidia-ml.so.1"};
    answer = ask(&scene, "health", ID);
    assert_unknown(&answer);
    answer = ask(&scene, "probe", "0");
    assert_int_equal(answer.rc, 0);
    assert_string_equal(answer.info.driver, "CUDA 13.0");
    assert_int_equal(answer.info.memory_free_bytes, 0);
}

static void test_sick(void **state) {
    (void)state;
    static const struct {
        const char *nvml, *words;
    } rows[] = {
        {"new_ecc=1", "could not correct"},
        {"ecc=3 new_ecc=4", "nvidia-smi -q -d ECC"},
        {"double_bit=1", "could not correct"},
        {"pending=1", "waits to be replaced"},
        {"failed=1 pending=1", "could not be replaced"},
        {"retired=1", "wait to be retired"},
        {"action=1", "to reset it (recovery action 1)"},
        {"action=7", "to reboot the machine (recovery action 7)"},
        {"action=99", "for a repair (recovery action 99)"},
        {"xid=48", "Xid 48,"},
        {"xid=63", "Xid 63,"},
        {"xid=64", "Xid 64,"},
        {"xid=79", "Xid 79, it fell off the bus"},
        {"xid=92", "Xid 92,"},
        {"xid=94", "Xid 94,"},
        {"xid=95", "Xid 95,"},
        {"xid=13 xid2=79", "Xid 79,"},
        {"memory=15", "it is lost"},
        {"handle=15", "it is lost"},
        {"memory=16", "must be reset"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct answer answer = health(rows[i].nvml);
        if (answer.rc != -1 || answer.err.code != ERR_DEVICE)
            fail_msg("%s: no fault of the device", rows[i].nvml);
        assert_says(&answer, "the GPU " ID " is at fault: ");
        assert_says(&answer, rows[i].words);
    }
}

/* What a faulty program causes, or what was before us, is no fault of the device. */
static void test_not_sick(void **state) {
    (void)state;
    static const char *const rows[] = {"", "ecc=3", "xid=13 xid2=31", "xid=43", "xid=45 xid2=8", "action=0"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct answer answer = health(rows[i]);
        if (answer.rc != 0)
            fail_msg("%s: %s", rows[i], answer.err.text);
    }
}

/* The driver answers a lost GPU with errors that a faulty program would have caused as well. */
static void test_blame(void **state) {
    (void)state;
    struct answer answer = ask(&(struct scene){.nvml = "xid=79"}, "blame", "backend");
    assert_int_equal(answer.err.code, ERR_DEVICE);
    assert_says(&answer, "Xid 79,");
    assert_says(&answer, "(after: the GPU could not launch a kernel)");
    answer = ask(&(struct scene){.nvml = "xid=13"}, "blame", "backend");
    assert_int_equal(answer.err.code, ERR_BACKEND);
    assert_string_equal(answer.err.text, "the GPU could not launch a kernel");
    answer = ask(&(struct scene){.nvml = "xid=79"}, "blame", "out-of-memory");
    assert_int_equal(answer.err.code, ERR_MEMORY);
    answer = ask(&(struct scene){.nvml = "xid=79"}, "blame", "no error");
    assert_int_equal(answer.err.code, ERR_NONE);
}

/* --- NVRTC --- */

static void test_compiler(void **state) {
    (void)state;
    struct scene scene = {.without = "libnvrtc.so.13"};
    if (ask(&scene, "loader", "libnvrtc.so.13").rc != 0) {
        print_message("skipped: NVRTC 13 is not installed\n");
        skip();
    }
    /* A newer driver than any NVRTC here takes the newest that there is. */
    struct answer answer = ask(&scene, "compile", "15000");
    assert_string_equal(answer.err.text, "");
    assert_int_equal(answer.rc, 0);
    assert_true(answer.memory.used > 64);
    assert_string_equal(answer.info.name, "ELF");
    assert_string_equal(answer.info.note, "NVRTC_ERROR_COMPILATION");
}

static void test_no_compiler(void **state) {
    (void)state;
    struct answer answer = ask(&(struct scene){.broken = "libnvrtc.so.13"}, "compile", "13000");
    if (answer.rc == 0 || answer.err.code == ERR_NONE) {
        print_message("skipped: this machine has an NVRTC 12\n");
        skip();
    }
    assert_int_equal(answer.err.code, ERR_UNAVAILABLE);
    assert_says(&answer, "NVRTC of CUDA 13 is missing (/tmp/residuum-gpu-");
    /* A library of that name that is none. */
    answer = ask(&(struct scene){0}, "compile", "13000");
    assert_int_equal(answer.err.code, ERR_UNAVAILABLE);
    assert_says(&answer, "libnvrtc.so.13 has no function nvrtcVersion");
}

int main(int argc, char **argv) {
    if (argc == 3)
        return reply(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_a_property_that_is_not_told_is_0),
        cmocka_unit_test(test_two_devices),
        cmocka_unit_test(test_slice),
        cmocka_unit_test(test_refused_device),
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_no_device),
        cmocka_unit_test(test_driver_fails),
        cmocka_unit_test(test_driver_too_old),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_no_cudnn),
        cmocka_unit_test(test_broken_cudnn),
        cmocka_unit_test(test_cudnn_too_old),
        cmocka_unit_test(test_runtime_compiled),
        cmocka_unit_test(test_real_cudnn),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cudnn_errors),
        cmocka_unit_test(test_telemetry),
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_sick),
        cmocka_unit_test(test_not_sick),
        cmocka_unit_test(test_blame),
        cmocka_unit_test(test_compiler),
        cmocka_unit_test(test_no_compiler),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
