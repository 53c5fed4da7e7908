/* Files below a directory of the server, sorted by name: see source.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/train/import/names.h"
#include "server/train/import/source.h"

struct folder {
    int root, file; /* file: -1 when none is open */
    struct guard *guard;
    bool listed;
    struct names names;
    const char **sorted;
    size_t at;
    uint64_t size, got;              /* of the file: as first seen, read */
    char wrong[IMPORT_NAME_MAX + 1]; /* the name that an error is about */
};

int folder_open(int fd, struct guard *guard, void **ret_self, struct err *err) {
    struct folder *folder = calloc(1, sizeof *folder);
    if (folder == NULL) {
        close(fd);
        return err_set(err, ERR_MEMORY, "out of memory for a directory");
    }
    *folder = (struct folder){.root = fd, .file = -1, .guard = guard};
    *ret_self = folder;
    return 0;
}

static void folder_close(void *self) {
    struct folder *folder = self;
    if (folder->file >= 0)
        close(folder->file);
    close(folder->root);
    names_done(&folder->names);
    free(folder->sorted);
    free(folder);
}

static int list(struct folder *folder, int fd, const char *prefix, int depth, struct err *err);

static int list_folder(struct folder *folder, int parent, const char *base, const char *path, int depth, struct err *err) {
    int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, ERR_IO, errno, "cannot open it");
    return list(folder, fd, path, depth, err);
}

static int list_one(struct folder *folder, int parent, const char *base, const char *prefix, int depth, struct err *err) {
    char path[IMPORT_NAME_MAX + 1];
    struct stat st;
    size_t at;
    int n = snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", base);
    snprintf(folder->wrong, sizeof folder->wrong, "%s", path);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(err, ERR_DATA, "its name has more than %d bytes", IMPORT_NAME_MAX);
    if (guard_entry(folder->guard, err) != 0 || name_check(path, err) != 0)
        return -1;
    if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_errno(err, ERR_IO, errno, "cannot look at it");
    if (S_ISDIR(st.st_mode))
        return list_folder(folder, parent, base, path, depth + 1, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_DATA, "it is %s; only files and folders can be imported",
                       S_ISLNK(st.st_mode) ? "a link" : "neither a file nor a folder");
    return names_add(&folder->names, path, &at, err);
}

/* Takes fd. */
static int list(struct folder *folder, int fd, const char *prefix, int depth, struct err *err) {
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return err_errno(err, ERR_IO, errno, "cannot read the directory");
    }
    int rc = 0;
    for (const struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = list_one(folder, fd, entry->d_name, prefix, depth, err);
    closedir(dir);
    return rc;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_all(struct folder *folder, struct err *err) {
    int fd = openat(folder->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    folder->listed = true;
    if (fd < 0)
        return err_errno(err, ERR_IO, errno, "cannot open the directory");
    if (list(folder, fd, "", 0, err) != 0)
        return -1;
    folder->wrong[0] = '\0';
    folder->sorted = calloc(folder->names.n + 1, sizeof *folder->sorted);
    if (folder->sorted == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for %zu names", folder->names.n);
    const char *name = folder->names.bytes;
    for (size_t i = 0; i < folder->names.n; i++, name += strlen(name) + 1)
        folder->sorted[i] = name;
    if (folder->names.n > 0)
        qsort(folder->sorted, folder->names.n, sizeof *folder->sorted, by_name);
    return 0;
}

static int open_file(struct folder *folder, const char *name, struct err *err) {
    struct stat st;
    folder->file = openat(folder->root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (folder->file < 0 || fstat(folder->file, &st) != 0)
        return err_errno(err, ERR_IO, errno, "cannot open it");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_DATA, "it is no file any more");
    folder->size = (uint64_t)st.st_size;
    folder->got = 0;
    return 0;
}

static int folder_next(void *self, const char **ret_name, struct err *err) {
    struct folder *folder = self;
    if (folder->file >= 0)
        close(folder->file);
    folder->file = -1;
    *ret_name = folder->wrong;
    if (!folder->listed && list_all(folder, err) != 0)
        return -1;
    *ret_name = folder->at < folder->names.n ? folder->sorted[folder->at++] : NULL;
    return *ret_name == NULL ? 0 : open_file(folder, *ret_name, err);
}

static int folder_read(void *self, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    struct folder *folder = self;
    ssize_t n = read(folder->file, to, size);
    if (n < 0)
        return err_errno(err, ERR_IO, errno, "cannot read it");
    folder->got += (uint64_t)n;
    folder->guard->progress.bytes += (uint64_t)n;
    if (n == 0 && folder->got < folder->size)
        return err_set(err, ERR_DATA, "it had %ju bytes, %ju are there", (uintmax_t)folder->size, (uintmax_t)folder->got);
    *ret_n = (size_t)n;
    return 0;
}

const struct source_kind folder_kind = {folder_next, folder_read, folder_close};
