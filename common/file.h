/* Files that are there whole or not at all. */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include <stddef.h>
#include <sys/uio.h>

#include "common/err.h"

/* Writes the parts to DIR/NAME: written aside (NAME.part), synced, renamed, directory synced. */
int file_write(const char *dir, const char *name, const struct iovec *parts, int parts_n, struct err *err);

/* Syncs a directory, so that the names in it are on disk. */
int file_sync_dir(const char *dir, struct err *err);

/* Reads a whole file of at most limit bytes; a NUL is appended, not counted. Caller frees *ret_data. ERR_NOT_FOUND when there is
 * none, ERR_TOO_LARGE when it is larger. */
int file_read(const char *path, size_t limit, char **ret_data, size_t *ret_size, struct err *err);

/* mkdir -p with mode 0700; an existing directory is fine. */
int file_mkdirs(const char *path, struct err *err);

/* Removes a directory and what is in it, not following links. A missing one is fine. */
int file_remove_tree(const char *path, struct err *err);

/* The directory of the running program (from /proc/self/exe), without a trailing slash. */
int file_exe_dir(char *ret_path, size_t size, struct err *err);

#endif
