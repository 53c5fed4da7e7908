/* Writes the checkpoint of a running job, DIR/checkpoint.safetensors: the tensors of tensors.h, the sums of layers.h, and in
 * "__metadata__" all else that an exact resume needs, with the data's SHA-256. To change the format: change CHECKPOINT_FORMAT;
 * older files are then refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/choices.h"
#include "common/version.h"
#include "server/train/metadata.h"
#include "server/train/private.h"
#include "server/train/say.h"

struct safetensors_entry checkpoint_layers_entry(const struct trainer *t, int *shape) {
    *shape = (int)t->layers.state_n;
    return (struct safetensors_entry){.name = CHECKPOINT_LAYERS,
                                      .shape = shape,
                                      .dims = 1,
                                      .count = t->layers.state_n,
                                      .type = SAFETENSORS_F64,
                                      .values = t->layers.state};
}

/* Left out where it is not known. */
static int put_energy(json_t *metadata, double energy_j) {
    return isfinite(energy_j) ? metadata_put(metadata, "energy_j", "%.17g", energy_j) : 0;
}

static int put_state(json_t *metadata, const struct train_state *s) {
    return metadata_put(metadata, "epoch", "%d", s->epoch) | metadata_put(metadata, "step", "%jd", (intmax_t)s->step) |
           metadata_put(metadata, "updates", "%jd", (intmax_t)s->updates) |
           metadata_put(metadata, "loss_sum", "%.17g", s->loss_sum) |
           metadata_put(metadata, "correct", "%jd", (intmax_t)s->correct) |
           metadata_put(metadata, "seen", "%jd", (intmax_t)s->seen) | metadata_put(metadata, "seconds", "%.17g", s->seconds) |
           put_energy(metadata, s->energy_j);
}

static int put_selection(json_t *metadata, const struct selection *selection) {
    return metadata_put(metadata, "best_epoch", "%d", selection->best_epoch) |
           metadata_put(metadata, "best", "%.17g", selection->best) |
           metadata_put(metadata, "reference", "%.17g", selection->reference) |
           metadata_put(metadata, "waited", "%d", selection->waited);
}

static json_t *metadata_json(const struct trainer *t) {
    const struct spec *spec = t->spec;
    json_t *metadata =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "format", CHECKPOINT_FORMAT, "program", RESIDUUM_VERSION,
                  "job", t->job->id, "spec", t->job->spec_text, "data_sha256", t->data.sha256, "train_sha256",
                  t->data.train_sha256, "backend", t->info.name, "backend_version", t->info.version, "precision",
                  spec_precision_name(spec->precision), "metric", choices_selection[spec->selection.metric]);
    if (metadata != NULL && metadata_put(metadata, "threads", "%d", t->threads) == 0 && put_state(metadata, &t->state) == 0 &&
        put_selection(metadata, &t->state.selection) == 0)
        return metadata;
    json_decref(metadata);
    return NULL;
}

/* The sums are of eight bytes each: they come first. */
static int save_entries(struct trainer *t, struct safetensors_entry *entries, const json_t *metadata, int64_t *ret_bytes,
                        struct err *err) {
    int shape;
    if (device_get_all(t, err) != 0)
        return -1;
    entries[0] = checkpoint_layers_entry(t, &shape);
    memcpy(entries + 1, t->tensors.entries, t->tensors.n * sizeof *entries);
    return safetensors_write(t->job->dir, CHECKPOINT_FILE, metadata, entries, 1 + t->tensors.n, ret_bytes, err);
}

static int save(struct trainer *t, int64_t *ret_bytes, struct err *err) {
    json_t *metadata = metadata_json(t);
    struct safetensors_entry *entries = calloc(1 + t->tensors.n, sizeof *entries);
    int rc = metadata == NULL || entries == NULL ? err_set(err, ERR_MEMORY, "out of memory while writing a checkpoint")
                                                 : save_entries(t, entries, metadata, ret_bytes, err);
    free(entries);
    json_decref(metadata);
    return rc;
}

int checkpoint_save(struct trainer *t, struct err *err) {
    int64_t bytes = 0;
    if (device_read(t, err) != 0 || save(t, &bytes, err) != 0)
        return -1;
    t->checkpoint_at = clock_seconds();
    say("checkpoint: epoch %d, step %jd", t->state.epoch, (intmax_t)t->state.step);
    return emit_event(t->emit, EVENT_CHECKPOINT,
                      json_pack("{s:i, s:I, s:s, s:I}", "epoch", t->state.epoch, "step", (json_int_t)t->state.step, "file",
                                CHECKPOINT_FILE, "bytes", (json_int_t)bytes),
                      err);
}
