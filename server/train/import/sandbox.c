/* Gives up what an import does not need: see import.h. */
#include "server/train/import/sandbox.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "server/train/import/import.h"

/* Processes and threads count for the whole user: ours are few, the daemon's jobs may have hundreds. Where there is seccomp, no
 * process is started anyway. */
enum { DESCRIPTORS = 64, PROCESSES = 4096 };

static int limit(int resource, rlim_t value, const char *what, struct err *err) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot read the limit of %s", what);
    if (now.rlim_max < value)
        value = now.rlim_max;
    if (setrlimit(resource, &(struct rlimit){value, value}) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot limit %s", what);
    return 0;
}

int import_sandbox(const char *source, const char *out, uint64_t file_bytes, struct import_protection *ret_protection,
                   struct err *err) {
    struct import_protection protection = {0};
    if (limit(RLIMIT_CORE, 0, "core dumps", err) != 0 || limit(RLIMIT_NOFILE, DESCRIPTORS, "open files", err) != 0 ||
        limit(RLIMIT_FSIZE, file_bytes, "the size of files", err) != 0 || limit(RLIMIT_NPROC, PROCESSES, "processes", err) != 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_errno(err, ERR_INTERNAL, errno, "cannot give up new privileges");
    protection.no_new_privileges = true;
    if (landlock_close(source, out, &protection.landlock, err) != 0 || seccomp_close(&protection.seccomp, err) != 0)
        return -1;
    *ret_protection = protection;
    return 0;
}
