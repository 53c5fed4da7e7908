/* The weights of finished epochs: their hash, their way to the evaluator, their files. See private.h. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/sha256.h"
#include "server/train/metadata.h"
#include "server/train/normal.h"
#include "server/train/private.h"

static const char format_name[] = "residuum-weights-1";

/* What is validated, tested and exported. */
static enum backend_tensor exported(const struct trainer *t) {
    return t->spec->average_decay > 0 ? TENSOR_AVERAGE : TENSOR_VALUE;
}

static void make_digests(const struct trainer *t, struct digests *ret_digests) {
    const float *floats = t->tensors.floats;
    size_t n = t->tensors.values_n, bytes = n * sizeof *floats;
    bool average = exported(t) == TENSOR_AVERAGE;
    sha256_hex(floats, average ? 2 * bytes : bytes, ret_digests->weights);
    if (average)
        sha256_hex(floats + n, bytes, ret_digests->exported);
    else
        memcpy(ret_digests->exported, ret_digests->weights, sizeof ret_digests->exported);
}

/* To the evaluator goes what is exported. */
static int copy_values(const struct trainer *t, struct err *err) {
    const struct tensors *tensors = &t->tensors;
    if (tensors_get(tensors, TENSOR_VALUE, t->api, t->plan, err) != 0 ||
        tensors_get(tensors, TENSOR_AVERAGE, t->api, t->plan, err) != 0)
        return -1;
    return tensors_set(tensors, exported(t), t->api, t->evaluator, TENSOR_VALUE, err);
}

int weights_take(struct trainer *t, struct digests *ret_digests, struct err *err) {
    watchdog_begin(t->watchdog, WATCHDOG_COPY);
    int rc = copy_values(t, err);
    watchdog_end(t->watchdog);
    if (rc == 0)
        make_digests(t, ret_digests);
    return rc;
}

/* --- writing --- */

static json_t *metadata_json(const struct trainer *t, int epoch) {
    json_t *metadata = json_pack("{s:s, s:s, s:s, s:s}", "format", format_name, "job", t->job->id, "weights",
                                 exported(t) == TENSOR_AVERAGE ? "average" : "values", "spec", t->job->spec_text);
    if (metadata != NULL && metadata_put(metadata, "epoch", "%d", epoch) == 0 && normal_put(metadata, &t->data) == 0)
        return metadata;
    json_decref(metadata);
    return NULL;
}

static int weights_dir(const struct trainer *t, char ret_path[PATH_MAX], struct err *err) {
    if (snprintf(ret_path, PATH_MAX, "%s/weights", t->job->dir) < PATH_MAX)
        return 0;
    return err_set(err, ERR_IO, "the path of the job's directory is longer than %d bytes", PATH_MAX - 1);
}

/* entries: room for one of each parameter. An average goes by its parameter's own name. */
static int write_entries(const struct trainer *t, int epoch, const json_t *metadata, struct safetensors_entry *entries,
                         struct err *err) {
    const struct tensors *tensors = &t->tensors;
    char dir[PATH_MAX], name[EVENT_WEIGHTS_NAME_MAX];
    int64_t bytes;
    for (size_t i = 0; i < tensors->n; i++)
        if (tensors->rows[i].kind == exported(t)) {
            int param = tensors->rows[i].param;
            entries[param] = tensors->entries[i];
            entries[param].name = t->graph->params[param].name;
        }
    event_weights_name(epoch, name);
    if (weights_dir(t, dir, err) != 0 || file_mkdirs(dir, err) != 0)
        return -1;
    return safetensors_write(dir, name, metadata, entries, (size_t)t->graph->params_n, &bytes, err);
}

int weights_write(const struct trainer *t, int epoch, struct err *err) {
    json_t *metadata = metadata_json(t, epoch);
    struct safetensors_entry *entries = calloc((size_t)t->graph->params_n + 1, sizeof *entries);
    int rc = metadata == NULL || entries == NULL
                 ? err_set(err, ERR_MEMORY, "out of memory while writing the weights of epoch %d", epoch)
                 : write_entries(t, epoch, metadata, entries, err);
    free(entries);
    json_decref(metadata);
    return rc;
}

int weights_link(const struct trainer *t, int epoch, const char *path, struct err *err) {
    char dir[PATH_MAX], to[PATH_MAX], name[EVENT_WEIGHTS_NAME_MAX];
    event_weights_name(epoch, name);
    if (weights_dir(t, dir, err) != 0 || file_mkdirs(dir, err) != 0)
        return -1;
    if (snprintf(to, sizeof to, "%s/%s", dir, name) >= (int)sizeof to)
        return err_set(err, ERR_IO, "the path of the job's weights is longer than %d bytes", PATH_MAX - 1);
    if (link(path, to) == 0 || errno == EEXIST) /* by an attempt before this one */
        return file_sync_dir(dir, err);
    return err_errno(err, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO, errno, "cannot link %s to %s", path, to);
}

/* --- removing --- */

/* Whether a file is the weights of an epoch that is to be kept. */
static bool is_kept(const struct trainer *t, const char *name) {
    int epoch = event_weights_epoch(name), every = t->spec->keep_every;
    if (epoch == 0 || epoch > t->state.epoch)
        return false;
    return epoch == t->state.epoch || epoch == t->state.selection.best_epoch || (every > 0 && epoch % every == 0);
}

static int prune(const struct trainer *t, const char *path, DIR *dir, struct err *err) {
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || is_kept(t, entry->d_name))
            continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            return err_errno(err, ERR_IO, errno, "cannot remove %s/%s", path, entry->d_name);
    }
    return 0;
}

int weights_prune(const struct trainer *t, struct err *err) {
    char path[PATH_MAX];
    if (weights_dir(t, path, err) != 0)
        return -1;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_errno(err, ERR_IO, errno, "cannot open the directory %s", path);
    int rc = prune(t, path, dir, err);
    closedir(dir);
    return rc;
}
