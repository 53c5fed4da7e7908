/* Finds, probes and opens backend modules: see module.h. */
#include "server/train/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "server/train/say.h"

enum { AUTO_TIMEOUT_MS = 10000 };

static const enum spec_backend order[] = {BACKEND_CUDNN, BACKEND_ONEDNN, BACKEND_REF};

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

/* --- the probing child --- */

struct answer {
    int rc;
    struct backend_info info;
    struct err err;
};

/* Dies with the parent, has its own session of signals, and keeps nothing of the parent's descriptors but the pipe and standard
 * error: a hung child must not hold the job's lock. */
static void child(enum spec_backend backend, int pipe_fd) {
    enum { PIPE_FD = 3 };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (dup2(pipe_fd, PIPE_FD) < 0 || close_range(PIPE_FD + 1, ~0U, 0) != 0)
        _exit(1);
    struct answer answer = {.rc = -1};
    const struct residuum_backend *api;
    if (module_open(backend, &api, &answer.err) == 0)
        answer.rc = api->probe(0, &answer.info, &answer.err);
    ssize_t n = write(PIPE_FD, &answer, sizeof answer);
    _exit(n == sizeof answer ? 0 : 1);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads until the answer is whole, the pipe ends or time is up (returns false). */
static bool read_answer(int fd, int timeout_ms, struct answer *answer, size_t *ret_got) {
    int64_t end = now_ms() + timeout_ms;
    for (*ret_got = 0; *ret_got < sizeof *answer;) {
        int64_t left = end - now_ms();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left <= 0)
            return false;
        if (poll(&ready, 1, (int)left) <= 0)
            continue;
        ssize_t n = read(fd, (char *)answer + *ret_got, sizeof *answer - *ret_got);
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        if (n > 0)
            *ret_got += (size_t)n;
    }
    return true;
}

static int died(const char *name, int status, struct err *err) {
    if (WIFSIGNALED(status))
        return err_set(err, ERR_UNAVAILABLE, "probing the backend %s crashed with SIG%s (%s)", name,
                       sigabbrev_np(WTERMSIG(status)), sigdescr_np(WTERMSIG(status)));
    return err_set(err, ERR_UNAVAILABLE, "probing the backend %s ended with exit code %d and no answer", name,
                   WEXITSTATUS(status));
}

/* Takes what the child said; it is not trusted to end its texts. */
static int accept_answer(const char *name, struct answer *answer, struct backend_info *ret_info, struct err *err) {
    struct backend_info *info = &answer->info;
    answer->err.text[sizeof answer->err.text - 1] = '\0';
    info->name[sizeof info->name - 1] = info->version[sizeof info->version - 1] = '\0';
    info->device_id[sizeof info->device_id - 1] = info->device[sizeof info->device - 1] = '\0';
    if (answer->rc != 0)
        return err_set(err, ERR_UNAVAILABLE, "%s", answer->err.text[0] != '\0' ? answer->err.text : "the probe failed");
    if (strcmp(info->name, name) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the module of the backend %s calls itself \"%s\"", name, info->name);
    *ret_info = *info;
    return 0;
}

static int wait_answer(const char *name, pid_t pid, int fd, int timeout_ms, struct backend_info *ret_info, struct err *err) {
    struct answer answer = {0};
    size_t got;
    int status = 0;
    bool in_time = read_answer(fd, timeout_ms, &answer, &got);
    if (!in_time || got == sizeof answer)
        kill(pid, SIGKILL); /* an answer is an answer: a library that hangs at exit does no harm */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!in_time)
        return err_set(err, ERR_UNAVAILABLE, "probing the backend %s did not end within %d ms", name, timeout_ms);
    if (got < sizeof answer)
        return died(name, status, err);
    return accept_answer(name, &answer, ret_info, err);
}

int module_probe(enum spec_backend backend, int timeout_ms, struct backend_info *ret_info, struct err *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, ERR_IO, errno, "cannot make a pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(backend, ends[1]);
    close(ends[1]);
    int rc = pid < 0
                 ? err_errno(err, ERR_MEMORY, errno, "cannot start a process to probe the backend %s", spec_backend_name(backend))
                 : wait_answer(spec_backend_name(backend), pid, ends[0], timeout_ms, ret_info, err);
    close(ends[0]);
    return rc;
}

/* --- the job's choice --- */

static int check_precision(const struct spec *spec, const struct backend_info *info, struct err *err) {
    if (info->precisions >> spec->precision & 1)
        return 0;
    return err_at(err, ERR_UNAVAILABLE, "/precision", "the backend %s does not offer %s on this machine", info->name,
                  spec_precision_name(spec->precision));
}

static int open_and_probe(const struct spec *spec, enum spec_backend backend, const struct residuum_backend **ret_api,
                          struct backend_info *ret_info, struct err *err) {
    if (module_open(backend, ret_api, err) != 0)
        return -1;
    struct err reason = {0};
    if ((*ret_api)->probe(0, ret_info, &reason) != 0)
        return err_at(err, ERR_UNAVAILABLE, "/backend", "the backend %s cannot be used: %s", (*ret_api)->name, reason.text);
    return check_precision(spec, ret_info, err);
}

int module_choose(const struct spec *spec, const struct residuum_backend **ret_api, struct backend_info *ret_info,
                  struct err *err) {
    if (spec->backend != BACKEND_AUTO)
        return open_and_probe(spec, spec->backend, ret_api, ret_info, err);
    struct err reason = {0};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        struct backend_info info;
        memset(&reason, 0, sizeof reason);
        if (module_probe(order[i], AUTO_TIMEOUT_MS, &info, &reason) == 0 && check_precision(spec, &info, &reason) == 0)
            return open_and_probe(spec, order[i], ret_api, ret_info, err);
        say("not using %s: %s", spec_backend_name(order[i]), reason.text);
    }
    return err_at(err, ERR_UNAVAILABLE, "/backend", "no backend on this machine can do the job; the last one tried: %s",
                  reason.text);
}
