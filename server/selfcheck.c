/* residuumd --self-check: see selfcheck.h. */
#include "server/selfcheck.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/file.h"

/* Names a folder of the data directory, which is made if need be, in the environment. */
static int set_folder(const char *name, const char *data, const char *folder, struct err *err) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", data, folder);
    if (file_mkdirs(path, err) != 0)
        return -1;
    return setenv(name, path, 1) == 0 ? 0 : err_errno(err, ERR_MEMORY, errno, "cannot set %s", name);
}

int selfcheck_exec(const struct options *options, struct err *err) {
    char data[PATH_MAX];
    const char *argv[6] = {options->worker, "--self-check"};
    int n = 2;
    if (options->brief)
        argv[n++] = "--brief";
    if (options->device[0] != '\0') {
        argv[n++] = "--device";
        argv[n++] = options->device;
    }
    if (file_mkdirs(options->data, err) != 0)
        return -1;
    if (realpath(options->data, data) == NULL)
        return err_errno(err, ERR_IO, errno, "cannot resolve the data directory %s", options->data);
    if (set_folder("RESIDUUM_SELF_CHECK", data, "self-check", err) != 0 ||
        set_folder("RESIDUUM_PLAN_CACHE", data, "plan-cache", err) != 0)
        return -1;
    execv(argv[0], (char *const *)argv);
    return err_errno(err, ERR_WORKER, errno, "cannot run the worker program %s", argv[0]);
}
