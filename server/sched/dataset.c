/* Files of data sets: DATA/uploads/ID is an archive as far as it has come, DATA/datasets/ID what was made of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "server/sched/private.h"

/* What is left free for jobs and the database. */
static const int64_t reserve_bytes = INT64_C(256) << 20;

int dataset_path(const struct sched *sched, const char *folder, const char *id, char ret_path[PATH_MAX], struct err *err) {
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/%s/%s", sched->data_dir, folder, id) < PATH_MAX)
        return 0;
    return err_set(err, ERR_IO, "the path of a data set's files is longer than %d bytes", PATH_MAX);
}

/* --- uploads --- */

int sched_upload_check(const struct sched *sched, int64_t bytes, struct err *err) {
    struct statvfs disk;
    int64_t max = sched->options.dataset_max_bytes;
    if (bytes > max)
        return err_set(err, ERR_TOO_LARGE, "the archive has %lld bytes; this server takes at most %lld (--dataset-max)",
                       (long long)bytes, (long long)max);
    if (statvfs(sched->data_dir, &disk) != 0)
        return err_errno(err, ERR_IO, errno, "cannot ask how much room %s has", sched->data_dir);
    int64_t room = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize - reserve_bytes;
    if (bytes > room)
        return err_set(err, ERR_FULL, "the server has no room for %lld bytes; %lld can be taken", (long long)bytes,
                       (long long)(room > 0 ? room : 0));
    return 0;
}

static int make_folder(const struct sched *sched, const char *folder, struct err *err) {
    char path[PATH_MAX];
    return dataset_path(sched, folder, "", path, err) == 0 ? file_mkdirs(path, err) : -1;
}

/* The lock is the descriptor's: it ends with it. */
static int lock(int fd, const struct dataset *dataset, int64_t *ret_offset, struct err *err) {
    struct stat st;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, ERR_CONFLICT, "another request is sending content of data set \"%s\"", dataset->name);
    if (fstat(fd, &st) != 0)
        return err_errno(err, ERR_IO, errno, "cannot look at the upload of data set \"%s\"", dataset->name);
    *ret_offset = st.st_size;
    return 0;
}

int sched_upload_open(const struct sched *sched, const struct dataset *dataset, int *ret_fd, int64_t *ret_offset,
                      struct err *err) {
    char path[PATH_MAX];
    if (make_folder(sched, "uploads", err) != 0 || dataset_path(sched, "uploads", dataset->id, path, err) != 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(err, errno == ENOSPC ? ERR_FULL : ERR_IO, errno, "cannot open %s", path);
    if (lock(fd, dataset, ret_offset, err) != 0) {
        close(fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

int64_t sched_upload_offset(const struct sched *sched, const struct dataset *dataset) {
    char path[PATH_MAX];
    struct stat st;
    return dataset_path(sched, "uploads", dataset->id, path, NULL) == 0 && stat(path, &st) == 0 ? st.st_size : 0;
}

int sched_upload_done(struct sched *sched, const struct dataset *dataset, struct err *err) {
    sched->look_imports = true;
    return store_dataset_queue(sched->options.store, dataset->id, err);
}

/* --- what is ready --- */

int sched_dataset_file(const struct sched *sched, const char *id, const char *name, int *ret_fd, uint64_t *ret_size,
                       struct err *err) {
    char dir[PATH_MAX], path[PATH_MAX];
    if (dataset_path(sched, "datasets", id, dir, err) != 0)
        return -1;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return err_set(err, ERR_IO, "the path of a data set's files is longer than %d bytes", PATH_MAX);
    return file_open(path, ret_fd, ret_size, err);
}

int sched_dataset_delete(struct sched *sched, const struct viewer *viewer, const char *id, struct err *err) {
    return store_dataset_delete(sched->options.store, viewer, id, err) != 0 ? -1 : named_add(&sched->doomed_sets, id, err);
}

void dataset_remove_upload(const struct sched *sched, const char *id) {
    char path[PATH_MAX];
    if (dataset_path(sched, "uploads", id, path, NULL) == 0 && unlink(path) != 0 && errno != ENOENT)
        log_line("warning", "upload-kept", "dataset", id, "reason", strerror(errno), (char *)NULL);
}

void dataset_remove(const struct sched *sched, const char *id) {
    char path[PATH_MAX];
    struct err why = {0};
    dataset_remove_upload(sched, id);
    if (dataset_path(sched, "datasets", id, path, &why) != 0 || file_remove_tree(path, &why) != 0)
        log_line("warning", "directory-kept", "dataset", id, "reason", why.text, (char *)NULL);
}

void datasets_committed(struct sched *sched, bool committed) {
    for (const struct named *set = sched->doomed_sets; set != NULL && committed; set = set->next) {
        imports_stop(sched, set->id);
        dataset_remove(sched, set->id);
    }
    named_clear(&sched->doomed_sets);
}

/* --- after a daemon that died --- */

/* The folder in which a data set of this state has its files; NULL: in none. */
static const char *folder_of(enum dataset_state state) {
    switch (state) {
    case DATASET_UPLOADING:
    case DATASET_QUEUED:
        return "uploads";
    case DATASET_READY:
        return "datasets";
    case DATASET_FAILED:
        break;
    }
    return NULL;
}

/* Whether something in a folder belongs there. What cannot be told, as the store fails, does. */
static bool belongs(const struct sched *sched, const char *folder, const char *name) {
    struct dataset dataset = {0};
    struct err why = {0};
    if (store_dataset_get(sched->options.store, &daemon_viewer, name, &dataset, &why) != 0)
        return why.code != ERR_NOT_FOUND;
    const char *own = strcmp(dataset.id, name) == 0 ? folder_of(dataset.state) : NULL; /* else it is another one's second id */
    dataset_done(&dataset);
    return own != NULL && strcmp(own, folder) == 0;
}

static void sweep_folder(const struct sched *sched, const char *folder) {
    char path[PATH_MAX];
    struct err why = {0};
    DIR *dir = dataset_path(sched, folder, "", path, &why) == 0 ? opendir(path) : NULL;
    if (dir == NULL)
        return; /* there was no data set yet */
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || belongs(sched, folder, entry->d_name) ||
            dataset_path(sched, folder, entry->d_name, path, &why) != 0)
            continue;
        if (unlink(path) != 0 && file_remove_tree(path, &why) != 0)
            log_line("warning", "file-kept", "file", path, "reason", why.text, (char *)NULL);
    }
    closedir(dir);
}

/* A power cut may have taken the end of an upload whose row says that it is whole. */
struct lost {
    const struct sched *sched;
    struct named *list;
};

static int find_lost(void *arg, const struct dataset *dataset) {
    struct lost *lost = arg;
    if (dataset->state != DATASET_QUEUED || sched_upload_offset(lost->sched, dataset) == dataset->archive_bytes)
        return 0;
    return named_add(&lost->list, dataset->id, NULL);
}

void datasets_sweep(struct sched *sched) {
    struct lost lost = {.sched = sched};
    struct err why = {0};
    sweep_folder(sched, "uploads");
    sweep_folder(sched, "datasets");
    int rc = store_dataset_list(sched->options.store, &daemon_viewer, find_lost, &lost, &why);
    for (const struct named *set = lost.list; set != NULL && rc == 0; set = set->next)
        rc = store_dataset_unqueue(sched->options.store, set->id, &why);
    if (rc != 0)
        log_line("error", "datasets-unknown", "reason", why.text, (char *)NULL);
    named_clear(&lost.list);
    sched->look_imports = true;
}
