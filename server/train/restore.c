/* Reads checkpoints, the job's own and the one of a job to go on from: see private.h. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/choices.h"
#include "common/json.h"
#include "server/train/input.h"
#include "server/train/metadata.h"
#include "server/train/private.h"
#include "server/train/say.h"

static const char unusable_name[] = "checkpoint.unusable";

enum origin { ORIGIN_OWN, ORIGIN_SOURCE };

/* --- does it fit? --- */

/* Whether a checkpoint's spec is the job's; one that was written before a field was known has that field's default. */
static bool is_same_spec(const struct trainer *t, const char *text) {
    struct spec spec = {0};
    json_t *document = json_parse(text, strlen(text), NULL);
    const struct dataset_card *card = imported_card(t->job->imported);
    json_t *canonical = document != NULL && input_spec(document, card, &spec, NULL) == 0 ? spec_to_json(&spec) : NULL;
    char *again = canonical != NULL ? json_text(canonical) : NULL;
    bool same = again != NULL && strcmp(again, t->job->spec_text) == 0;
    free(again);
    json_decref(canonical);
    json_decref(document);
    spec_done(&spec);
    return same;
}

/* Of another spec, other data or another format: going on from it would be another training. */
static int check_own(const struct trainer *t, const json_t *metadata, struct err *err) {
    if (strcmp(metadata_text(metadata, "format"), CHECKPOINT_FORMAT) != 0)
        return err_set(err, ERR_DATA, "its format is \"%.40s\", not %s", metadata_text(metadata, "format"), CHECKPOINT_FORMAT);
    if (!is_same_spec(t, metadata_text(metadata, "spec")))
        return err_set(err, ERR_DATA, "it belongs to another spec");
    if (strcmp(metadata_text(metadata, "data_sha256"), t->data.sha256) != 0)
        return err_set(err, ERR_DATA, "the images or their labels have changed since");
    return 0;
}

static int check_spec(const struct trainer *t, const json_t *metadata, struct err *err) {
    const char *text = metadata_text(metadata, "spec");
    json_t *was = json_parse(text, strlen(text), NULL), *is = spec_to_json(t->spec);
    int rc = 0;
    if (is == NULL)
        rc = err_set(err, ERR_MEMORY, "out of memory while comparing two jobs");
    else if (was == NULL)
        rc = err_set(err, ERR_DATA, "its \"spec\" is not JSON");
    else
        rc = spec_check_resume(was, is, t->spec->from.job, err);
    json_decref(was);
    json_decref(is);
    return rc;
}

static int check_source(const struct trainer *t, const json_t *metadata, struct err *err) {
    const char *job = t->spec->from.job, *format = metadata_text(metadata, "format");
    if (strcmp(format, CHECKPOINT_FORMAT) != 0)
        return err_at(err, ERR_FIELD, "/from/resume",
                      "the checkpoint of %s has the format \"%.40s\", not %s: it can only lend its weights, "
                      "without \"resume\"",
                      job, format, CHECKPOINT_FORMAT);
    if (check_spec(t, metadata, err) != 0)
        return -1;
    if (strcmp(metadata_text(metadata, "train_sha256"), t->data.train_sha256) != 0)
        return err_at(err, ERR_FIELD, "/from/resume",
                      "the training images have changed since %s was trained: it can only lend its weights, without \"resume\"",
                      job);
    return 0;
}

static int check(const struct trainer *t, enum origin origin, const json_t *metadata, struct err *err) {
    switch (origin) {
    case ORIGIN_OWN:
        return check_own(t, metadata, err);
    case ORIGIN_SOURCE:
        return check_source(t, metadata, err);
    }
    return -1;
}

/* The weights are f32 whoever made them, so training may go on; only the last bits can differ, and the log says so. */
static void say_differences(const struct trainer *t, const json_t *metadata) {
    const char *backend = metadata_text(metadata, "backend"), *version = metadata_text(metadata, "backend_version"),
               *threads = metadata_text(metadata, "threads");
    char own[16];
    snprintf(own, sizeof own, "%d", t->threads);
    if (strcmp(backend, t->info.name) != 0 || strcmp(threads, own) != 0 || strcmp(version, t->info.version) != 0)
        say("the checkpoint was made by %s %s with %s threads; going on with %s %s and %s: results can differ in the last bits",
            backend, version, threads, t->info.name, t->info.version, own);
}

/* --- state --- */

/* Images in the first steps of an epoch. */
static int64_t images_of(const struct trainer *t, int64_t steps) {
    return steps == t->train_steps ? t->data.train.n : steps * t->batch;
}

static int parse_sums(const struct trainer *t, const json_t *metadata, struct train_state *s, struct err *err) {
    if (metadata_whole(metadata, "step", t->train_steps, &s->step, err) != 0 ||
        metadata_whole(metadata, "updates", INT64_MAX, &s->updates, err) != 0 ||
        metadata_whole(metadata, "seen", t->data.train.n, &s->seen, err) != 0 ||
        metadata_whole(metadata, "correct", s->seen, &s->correct, err) != 0 ||
        metadata_real(metadata, "loss_sum", &s->loss_sum, err) != 0 || metadata_real(metadata, "seconds", &s->seconds, err) != 0)
        return -1;
    if (s->seen == images_of(t, s->step))
        return 0;
    return err_set(err, ERR_DATA, "it has seen %jd images in %jd steps; that makes %jd", (intmax_t)s->seen, (intmax_t)s->step,
                   (intmax_t)images_of(t, s->step));
}

/* It is left out where it was not known. */
static int parse_energy(const json_t *metadata, struct train_state *s, struct err *err) {
    s->energy_j = s->step == 0 ? 0 : NAN;
    return json_object_get(metadata, "energy_j") != NULL ? metadata_real(metadata, "energy_j", &s->energy_j, err) : 0;
}

static int parse_selection(const json_t *metadata, int epoch, struct selection *selection, struct err *err) {
    int64_t best_epoch, waited;
    if (metadata_whole(metadata, "best_epoch", epoch, &best_epoch, err) != 0 ||
        metadata_whole(metadata, "waited", epoch, &waited, err) != 0 ||
        metadata_real(metadata, "best", &selection->best, err) != 0 ||
        metadata_real(metadata, "reference", &selection->reference, err) != 0)
        return -1;
    selection->best_epoch = (int)best_epoch;
    selection->waited = (int)waited;
    return 0;
}

static int parse_state(const struct trainer *t, const json_t *metadata, struct train_state *ret_state, struct err *err) {
    struct train_state s = {0};
    int64_t epoch;
    if (metadata_whole(metadata, "epoch", t->spec->epochs, &epoch, err) != 0 || parse_sums(t, metadata, &s, err) != 0 ||
        parse_energy(metadata, &s, err) != 0 || parse_selection(metadata, (int)epoch, &s.selection, err) != 0)
        return -1;
    s.epoch = (int)epoch;
    /* what was measured by another metric cannot be compared; that happens with a source only */
    if (strcmp(metadata_text(metadata, "metric"), choices_selection[t->spec->selection.metric]) != 0)
        s.selection = (struct selection){0};
    *ret_state = s;
    return 0;
}

/* "epochs" counts the source's, so there must be one left to train. */
static int check_epochs(const struct trainer *t, const json_t *metadata, struct err *err) {
    int64_t epoch;
    if (metadata_whole(metadata, "epoch", INT_MAX, &epoch, err) != 0)
        return -1;
    if (epoch < t->spec->epochs)
        return 0;
    return err_at(err, ERR_FIELD, "/epochs", "is %d, which counts the %jd epochs that %s has trained; it must be above them",
                  t->spec->epochs, (intmax_t)epoch, t->spec->from.job);
}

/* --- tensors --- */

static int take_tensors(struct trainer *t, const struct safetensors *file, struct err *err) {
    struct tensors *tensors = &t->tensors;
    for (size_t i = 0; i < tensors->n; i++)
        if (safetensors_get(file, &tensors->entries[i], tensors->floats + tensors->rows[i].at, err) != 0)
            return -1;
    return 0;
}

/* Everything is read before the first tensor is set. */
static int restore_checked(struct trainer *t, const struct safetensors *file, struct err *err) {
    int shape;
    struct train_state state;
    struct safetensors_entry layers = checkpoint_layers_entry(t, &shape);
    if (parse_state(t, file->metadata, &state, err) != 0 || take_tensors(t, file, err) != 0 ||
        safetensors_get(file, &layers, t->layers.state, err) != 0 || device_set_all(t, err) != 0)
        return -1;
    t->state = state;
    say_differences(t, file->metadata);
    return 0;
}

static int restore_file(struct trainer *t, enum origin origin, const struct safetensors *file, struct err *err) {
    if (check(t, origin, file->metadata, err) != 0)
        return -1;
    if (origin == ORIGIN_SOURCE && check_epochs(t, file->metadata, err) != 0)
        return -1;
    return restore_checked(t, file, err);
}

static size_t size_limit(const struct trainer *t) {
    return t->tensors.floats_n * sizeof(float) + t->layers.state_n * sizeof(double) + SAFETENSORS_HEADER_MAX;
}

static int restore_path(struct trainer *t, enum origin origin, const char *path, struct err *err) {
    struct safetensors file;
    if (safetensors_open(path, "the file", size_limit(t), &file, err) != 0)
        return -1;
    int rc = restore_file(t, origin, &file, err);
    safetensors_done(&file);
    return rc;
}

/* --- the job's own --- */

void checkpoint_refuse(const struct trainer *t, const char *reason) {
    char from[PATH_MAX], to[PATH_MAX];
    int a = snprintf(from, sizeof from, "%s/%s", t->job->dir, CHECKPOINT_FILE);
    int b = snprintf(to, sizeof to, "%s/%s", t->job->dir, unusable_name);
    bool kept = a < PATH_MAX && b < PATH_MAX && rename(from, to) == 0;
    say("WARNING: the checkpoint cannot be used: %s. Training starts again from the first epoch%s%s", reason,
        kept ? "; the file is kept as " : "", kept ? unusable_name : "");
}

enum checkpoint_result checkpoint_restore(struct trainer *t, struct err *err) {
    char path[PATH_MAX];
    struct err reason = {0};
    if (snprintf(path, sizeof path, "%s/%s", t->job->dir, CHECKPOINT_FILE) >= (int)sizeof path) {
        err_set(err, ERR_IO, "the path of the job's directory is longer than %zu bytes", sizeof path - 1);
        return CHECKPOINT_FAILED;
    }
    if (restore_path(t, ORIGIN_OWN, path, &reason) == 0)
        return CHECKPOINT_RESTORED;
    if (reason.code == ERR_NOT_FOUND)
        return CHECKPOINT_NONE;
    if (reason.code == ERR_DATA || reason.code == ERR_TOO_LARGE) {
        checkpoint_refuse(t, reason.text);
        return CHECKPOINT_NONE;
    }
    *err = reason;
    return CHECKPOINT_FAILED;
}

/* --- another job's --- */

int checkpoint_continue(struct trainer *t, const char *path, struct err *err) {
    struct err reason = {0};
    if (restore_path(t, ORIGIN_SOURCE, path, &reason) == 0)
        return 0;
    if (reason.code == ERR_DATA || reason.code == ERR_TOO_LARGE)
        return err_at(err, ERR_FIELD, "/from/resume", "the checkpoint of %s cannot be continued with this spec: %s",
                      t->spec->from.job, reason.text);
    *err = reason;
    return -1;
}
