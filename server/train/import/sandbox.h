/* The two walls of the sandbox: see import_sandbox. */
#ifndef TRAIN_IMPORT_SANDBOX_H
#define TRAIN_IMPORT_SANDBOX_H

#include <stdbool.h>

#include "common/err.h"

/* Landlock: only source (read) and out (read and write) are left of the file system, no TCP, no signals to others.
 * *ret_version: of its interface, 0 where the kernel has none. */
int landlock_close(const char *source, const char *out, int *ret_version, struct err *err);

/* seccomp: only system calls of a list are left, the others fail with EPERM. *ret_active: whether the kernel has it. */
int seccomp_close(bool *ret_active, struct err *err);

#endif
