/* Which epochs' weights a job still has: files DIR/weights/epoch-N.safetensors, written by its workers (common/event.h). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/event.h"
#include "server/sched/private.h"

enum { NAMED_MAX = 16 }; /* epochs that a message names: the newest ones */

static int weights_dir(const struct sched *sched, const char *id, char ret_path[PATH_MAX], struct err *err) {
    char dir[PATH_MAX];
    if (sched_job_dir(sched, id, dir, err) != 0)
        return -1;
    if ((size_t)snprintf(ret_path, PATH_MAX, "%s/weights", dir) >= PATH_MAX)
        return err_set(err, ERR_IO, "the path of a job's weights is longer than %d bytes", PATH_MAX);
    return 0;
}

static int by_epoch(const void *a, const void *b) {
    const struct sched_kept *left = a, *right = b;
    return (left->epoch > right->epoch) - (left->epoch < right->epoch);
}

/* Adds a file of the open directory; one that is gone meanwhile is left out. */
static int add_file(DIR *dir, const char *name, struct sched_kept **list, size_t *n, struct err *err) {
    enum { ROOM_STEP = 64 };
    struct stat st;
    int epoch = event_weights_epoch(name);
    if (epoch == 0 || fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
        return 0;
    if (*n % ROOM_STEP == 0) {
        struct sched_kept *larger = realloc(*list, (*n + ROOM_STEP) * sizeof **list);
        if (larger == NULL)
            return err_set(err, ERR_MEMORY, "out of memory while listing weights");
        *list = larger;
    }
    (*list)[(*n)++] = (struct sched_kept){.epoch = epoch, .bytes = (int64_t)st.st_size};
    return 0;
}

static int read_dir(const char *path, struct sched_kept **list, size_t *n, struct err *err) {
    int rc = 0;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return 0; /* there was no epoch yet */
    for (struct dirent *entry = readdir(dir); entry != NULL && rc == 0; entry = readdir(dir))
        rc = add_file(dir, entry->d_name, list, n, err);
    closedir(dir);
    return rc;
}

int sched_weights_list(const struct sched *sched, const char *id, struct sched_kept **ret_list, size_t *ret_n, struct err *err) {
    char path[PATH_MAX];
    struct sched_kept *list = NULL;
    size_t n = 0;
    if (weights_dir(sched, id, path, err) != 0)
        return -1;
    if (read_dir(path, &list, &n, err) != 0) {
        free(list);
        return -1;
    }
    if (n > 0)
        qsort(list, n, sizeof *list, by_epoch);
    *ret_list = list;
    *ret_n = n;
    return 0;
}

static int not_kept(const char *id, int epoch, const struct sched_kept *kept, size_t n, struct err *err) {
    char list[NAMED_MAX * 12] = "";
    size_t first = n > NAMED_MAX ? n - NAMED_MAX : 0, used = 0;
    for (size_t i = first; i < n; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%d", i == first ? "" : ", ", kept[i].epoch);
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "job %s has no weights of any epoch", id);
    return err_set(err, ERR_NOT_FOUND, "the weights of epoch %d of job %s are not kept; there are those of %s%s", epoch, id, list,
                   first > 0 ? " and of earlier ones" : "");
}

int sched_weights_find(const struct sched *sched, const char *id, int epoch, struct sched_weights *ret_weights, struct err *err) {
    char dir[PATH_MAX], name[EVENT_WEIGHTS_NAME_MAX];
    struct sched_kept *kept = NULL;
    size_t n = 0;
    struct sched_weights found = {.epoch = epoch};
    if (weights_dir(sched, id, dir, err) != 0 || sched_weights_list(sched, id, &kept, &n, err) != 0)
        return -1;
    if (epoch == WEIGHTS_NEWEST && n > 0)
        found.epoch = kept[n - 1].epoch;
    int rc = 0;
    event_weights_name(found.epoch, name);
    if ((size_t)snprintf(found.path, sizeof found.path, "%s/%s", dir, name) >= sizeof found.path)
        rc = err_set(err, ERR_IO, "the path of a job's weights is longer than %d bytes", PATH_MAX);
    else if (access(found.path, R_OK) != 0)
        rc = not_kept(id, found.epoch, kept, n, err);
    else
        *ret_weights = found;
    free(kept);
    return rc;
}
