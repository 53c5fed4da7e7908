/* Which epochs' weights a job still has: files DIR/weights/epoch-N.safetensors, written by its workers (common/event.h). */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

/* Puts an epoch into a rising list; when it is full, the lowest one leaves. */
static void insert(int epochs[NAMED_MAX], int *n, int epoch) {
    int at = 0;
    while (at < *n && epochs[at] < epoch)
        at++;
    if (*n == NAMED_MAX && at == 0)
        return;
    if (*n == NAMED_MAX) {
        at--;
        for (int i = 0; i < at; i++)
            epochs[i] = epochs[i + 1];
    } else {
        for (int i = (*n)++; i > at; i--)
            epochs[i] = epochs[i - 1];
    }
    epochs[at] = epoch;
}

static int kept(const char *path, int ret_epochs[NAMED_MAX]) {
    int n = 0;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        int epoch, end = 0;
        if (sscanf(entry->d_name, "epoch-%9d.safetensors%n", &epoch, &end) == 1 && end > 0 && entry->d_name[end] == '\0')
            insert(ret_epochs, &n, epoch);
    }
    closedir(dir);
    return n;
}

static int not_kept(const char *dir, const char *id, int epoch, struct err *err) {
    int epochs[NAMED_MAX], n = kept(dir, epochs);
    char list[NAMED_MAX * 12] = "";
    for (int i = 0, used = 0; i < n; i++)
        used += snprintf(list + used, sizeof list - (size_t)used, "%s%d", i == 0 ? "" : ", ", epochs[i]);
    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "job %s has no weights of any epoch any more", id);
    return err_set(err, ERR_NOT_FOUND, "the weights of epoch %d of job %s are not kept; there are those of %s%s", epoch, id, list,
                   n == NAMED_MAX ? " and perhaps of earlier ones" : "");
}

int sched_weights_find(const struct sched *sched, const char *id, int epoch, struct sched_weights *ret_weights, struct err *err) {
    char dir[PATH_MAX];
    int epochs[NAMED_MAX], n;
    struct sched_weights found = {.epoch = epoch};
    if (weights_dir(sched, id, dir, err) != 0)
        return -1;
    if (epoch == WEIGHTS_NEWEST && (n = kept(dir, epochs)) > 0)
        found.epoch = epochs[n - 1];
    if ((size_t)snprintf(found.path, sizeof found.path, "%s/epoch-%d.safetensors", dir, found.epoch) >= sizeof found.path)
        return err_set(err, ERR_IO, "the path of a job's weights is longer than %d bytes", PATH_MAX);
    if (access(found.path, R_OK) != 0)
        return not_kept(dir, id, found.epoch, err);
    *ret_weights = found;
    return 0;
}
