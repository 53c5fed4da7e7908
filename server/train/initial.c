/* What a job starts from when its spec has "from": DIR/initial.safetensors, see common/event.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/train/metadata.h"
#include "server/train/private.h"
#include "server/train/say.h"

/* A file may belong to another model than the job's, but to none larger than a graph can be. */
static const size_t size_max = (size_t)GRAPH_PARAMETERS_MAX * sizeof(float) + SAFETENSORS_HEADER_MAX;

static const char initial_name[] = "initial.safetensors", best_name[] = "initial-best.safetensors";

static int initial_path(const struct trainer *t, const char *name, char ret_path[PATH_MAX], struct err *err) {
    if (snprintf(ret_path, PATH_MAX, "%s/%s", t->job->dir, name) < PATH_MAX)
        return 0;
    return err_set(err, ERR_IO, "the path of the job's directory is longer than %d bytes", PATH_MAX - 1);
}

/* {"taken": [names], "fresh": [names]}: file is the one that values are taken from; NULL: all are taken. */
static json_t *names_json(const struct trainer *t, const struct safetensors *file) {
    json_t *taken = json_array(), *fresh = json_array();
    int rc = taken == NULL || fresh == NULL ? -1 : 0;
    for (int i = 0; i < t->graph->params_n && rc == 0; i++) {
        bool has = file == NULL || safetensors_has(file, &t->tensors.entries[i]);
        rc = json_array_append_new(has ? taken : fresh, json_string(t->graph->params[i].name));
    }
    if (rc == 0)
        return json_pack("{s:o, s:o}", "taken", taken, "fresh", fresh);
    json_decref(taken);
    json_decref(fresh);
    return NULL;
}

static void say_names(const json_t *initial, const char *job) {
    size_t i;
    json_t *name;
    say("weights of %zu parameters are taken from %s, %zu start afresh", json_array_size(json_object_get(initial, "taken")), job,
        json_array_size(json_object_get(initial, "fresh")));
    json_array_foreach(json_object_get(initial, "fresh"), i, name) {
        say("  afresh: %s, which the source lacks or has in another shape", json_string_value(name));
    }
}

/* Row i of the tensors is the value of parameter i. */
static int take_values(const struct trainer *t, const struct safetensors *file, struct err *err) {
    for (int i = 0; i < t->graph->params_n; i++) {
        const struct safetensors_entry *entry = &t->tensors.entries[i];
        if (safetensors_has(file, entry) && safetensors_get(file, entry, t->tensors.floats + t->tensors.rows[i].at, err) != 0)
            return -1;
    }
    return 0;
}

static int take_file(struct trainer *t, const struct safetensors *file, json_t **ret_initial, struct err *err) {
    if (take_values(t, file, err) != 0)
        return -1;
    json_t *initial = names_json(t, file);
    if (initial == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while taking over weights");
    say_names(initial, t->spec->from.job);
    *ret_initial = initial;
    return 0;
}

int initial_weights(struct trainer *t, json_t **ret_initial, struct err *err) {
    char path[PATH_MAX];
    struct safetensors file;
    if (initial_path(t, initial_name, path, err) != 0 || safetensors_open(path, initial_name, size_max, &file, err) != 0)
        return -1;
    int rc = take_file(t, &file, ret_initial, err);
    safetensors_done(&file);
    return rc;
}

/* The checkpoint may know of an epoch that the daemon did not when it linked the best one's weights. */
static int check_best(const char *path, int epoch, struct err *err) {
    struct safetensors file;
    int64_t found;
    if (safetensors_open(path, best_name, size_max, &file, err) != 0)
        return -1;
    int rc = metadata_whole(file.metadata, "epoch", INT_MAX, &found, err);
    safetensors_done(&file);
    if (rc == 0 && found != epoch)
        return err_set(err, ERR_DATA, "%s is of epoch %jd", best_name, (intmax_t)found);
    return rc;
}

/* The best epoch up to now is the source's: its weights become the job's. It can train without them. */
static int take_best(const struct trainer *t, struct err *err) {
    int epoch = t->state.selection.best_epoch;
    char path[PATH_MAX];
    struct err reason = {0};
    if (epoch == 0)
        return 0;
    if (initial_path(t, best_name, path, err) != 0)
        return -1;
    if (check_best(path, epoch, &reason) == 0)
        return weights_link(t, epoch, path, err);
    say("WARNING: the weights of the best epoch of %s, %d, cannot be kept: %s", t->spec->from.job, epoch, reason.text);
    return 0;
}

/* Patience that the source had lost begins again: whoever asks for more epochs wants them. */
static void go_on(struct train_state *state, const struct spec *spec) {
    if (selection_stops(&state->selection, spec))
        state->selection.waited = 0;
}

int initial_resume(struct trainer *t, json_t **ret_initial, struct err *err) {
    char path[PATH_MAX];
    if (initial_path(t, initial_name, path, err) != 0 || checkpoint_continue(t, path, err) != 0 ||
        history_import(t->job->dir, t->state.epoch, err) != 0 || take_best(t, err) != 0)
        return -1;
    go_on(&t->state, t->spec);
    *ret_initial = names_json(t, NULL);
    if (*ret_initial == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while going on from %s", t->spec->from.job);
    say("going on from %s after epoch %d, step %jd", t->spec->from.job, t->state.epoch, (intmax_t)t->state.step);
    return 0;
}
