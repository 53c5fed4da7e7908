/* What the trainer's files share: the state of a running job. */
#ifndef TRAIN_PRIVATE_H
#define TRAIN_PRIVATE_H

#include "server/backend/backend.h"
#include "server/graph/graph.h"
#include "server/train/clock.h"
#include "server/train/data.h"
#include "server/train/emit.h"
#include "server/train/job.h"
#include "server/train/layers.h"
#include "server/train/metrics.h"
#include "server/train/predictions.h"
#include "server/train/select.h"
#include "server/train/tensors.h"
#include "server/train/watchdog.h"

/* Where training stands. All of it is in the checkpoint, so that an interrupted epoch ends with the numbers that it would have
 * had. */
struct train_state {
    int epoch;             /* finished epochs */
    int64_t step;          /* training steps done of the next one */
    int64_t updates;       /* training steps done in all */
    double loss_sum;       /* of the next epoch's images so far, added in order */
    int64_t correct, seen; /* images of them */
    double seconds;        /* spent in these steps */
    double energy_j;       /* that a GPU has used since the epoch began; NaN: not known */
    struct selection selection;
};

/* How fast a phase runs in this attempt. */
struct meter {
    double seconds;
    int64_t images;
};

/* How a GPU is, as it told last. */
struct reading {
    double at; /* clock */
    struct backend_telemetry now;
};

struct gauge {
    bool told;       /* whether the last question was answered */
    bool complained; /* whether the log says that one was not */
    struct reading last;
};

struct trainer {
    const struct job *job;
    const struct spec *spec;
    struct emit *emit;
    struct data data;
    struct graph *graph;
    const struct residuum_backend *api;
    struct backend_info info;
    struct backend *backend;
    struct backend_plan *plan;      /* trains */
    struct backend_plan *evaluator; /* validates and tests, with the weights that weights_take gives it */
    int batch, evaluator_batch;     /* images of a step at most */
    int threads;
    int64_t train_steps; /* of an epoch */
    struct train_state state;
    struct tensors tensors; /* room for what a checkpoint holds; what is in it is valid right after it is filled only */
    struct layers layers;   /* of the epoch's steps so far; its state is in the checkpoint, too */
    struct meter train_meter, evaluation_meter;
    struct gauge gauge;
    struct watchdog *watchdog; /* of a GPU; NULL on a processor */
    double progress_at;        /* clock of the last progress event */
    double checkpoint_at;      /* clock of the last checkpoint */
    double checkpoint_every;
    uint32_t *order; /* of the epoch's training images */
    /* one step: [batch or evaluator_batch] */
    uint32_t *samples;
    float *images; /* [n,C,H,W]; NULL: the device has them */
    int32_t *labels, *others;
    float *shares;
    float *softmax;                        /* [n,classes] */
    struct backend_statistics *statistics; /* [graph->params_n] */
};

/* Whether the daemon wants the job to stop, or is gone. */
bool must_stop(const struct trainer *t);

/* --- prepare.c --- */

/* Loads the data, builds the graph, opens the backend, compiles the plans, allocates. */
int prepare(struct trainer *t, struct err *err);
void trainer_done(struct trainer *t);

/* --- device.c --- */

/* Starts to watch what a GPU does, as soon as the graph is known. */
int device_watch(struct trainer *t, struct err *err);

/* Whether the backend takes images from a device's own memory, and puts all sets there if so. */
bool device_has_data(const struct trainer *t);
int device_load(const struct trainer *t, struct err *err);

/* Copies all of t->tensors from, or to, the plan that trains. */
int device_get_all(const struct trainer *t, struct err *err);
int device_set_all(const struct trainer *t, struct err *err);

/* Asks a GPU how it is and counts its energy. ERR_DEVICE: it says that it has failed. */
int device_read(struct trainer *t, struct err *err);

/* "gpu" of progress and of epoch events, of the last reading. New reference; NULL when out of memory. */
json_t *device_json(const struct trainer *t);
json_t *device_epoch_json(const struct trainer *t);

/* Tells the failure and ends the process at once: whatever is tidied up first, an exit handler of the driver's among it, may
 * hang. */
_Noreturn void device_failed(struct emit *emit, const struct err *err);

/* --- start.c --- */

/* Sets weights and state from the job's checkpoint, from what the spec's "from" names, or afresh; says hello and sends the epochs
 * that the daemon misses. */
int start(struct trainer *t, struct err *err);

/* --- initial.c: what "from" names --- */

/* Takes over the values of the weights file that fit, by name and shape, into t->tensors. *ret_initial: "initial" of the hello
 * event. */
int initial_weights(struct trainer *t, json_t **ret_initial, struct err *err);

/* Goes on where the source stopped: restores its checkpoint, makes its epochs the beginning of the job's own and keeps the best
 * one's weights. */
int initial_resume(struct trainer *t, json_t **ret_initial, struct err *err);

/* --- epoch.c --- */

/* Trains, validates and tests an epoch, or what is left of it. A stop ends it early with *ret_stopped set. */
int epoch_run(struct trainer *t, bool *ret_stopped, struct err *err);

/* --- record.c --- */

/* Of an epoch's weights: of the values and, where there is one, the average after them; of what its file holds. */
struct digests {
    char weights[65], exported[65];
};

/* What is measured after an epoch's training. */
struct outcome {
    struct metrics validation, test;
    struct activations activations;
    struct predictions predictions; /* of the job's last epoch only */
    struct selection selection;     /* after this epoch */
    double seconds;                 /* that validation and test took */
    double lr;                      /* of the last step */
    struct digests digests;
};

int outcome_init(struct outcome *outcome, const struct trainer *t, struct err *err);
void outcome_done(struct outcome *outcome); /* accepts zeroed memory */

/* The data of the epoch event. New reference; NULL when out of memory. */
json_t *epoch_json(const struct trainer *t, const struct outcome *outcome);

/* --- evaluate.c --- */

struct evaluation {
    const struct image_set *set;
    const char *phase;               /* "validation" or "test" */
    int64_t before;                  /* images evaluated in this epoch before: of the validation set */
    struct metrics *metrics;         /* initialized; gets the results */
    struct predictions *predictions; /* of as many images; NULL: not wanted */
};

/* Runs a whole set through the evaluator and adds the time to *seconds. A stop ends it early with *ret_stopped set. */
int evaluate(struct trainer *t, const struct evaluation *evaluation, double *seconds, bool *ret_stopped, struct err *err);

/* Adds what the layers of the trained plan put out for the first test images. */
int measure_activations(struct trainer *t, struct activations *activations, struct err *err);

/* --- weights.c: the weights of an epoch, DIR/weights/epoch-N.safetensors --- */

/* Copies values and average from the trained plan to t->tensors, the exported ones (the average where there is one) on to the
 * evaluator, and makes their digests. */
int weights_take(struct trainer *t, struct digests *ret_digests, struct err *err);

/* Writes the file of an epoch from t->tensors, as weights_take left them. */
int weights_write(const struct trainer *t, int epoch, struct err *err);

/* Makes the file at a path the weights of an epoch, by a link. */
int weights_link(const struct trainer *t, int epoch, const char *path, struct err *err);

/* Removes the files that the state does not call for: all but the last epoch's, the best one's, and every keep_every-th. */
int weights_prune(const struct trainer *t, struct err *err);

/* --- checkpoint.c: DIR/checkpoint.safetensors --- */

#define CHECKPOINT_FILE "checkpoint.safetensors"
#define CHECKPOINT_FORMAT "residuum-checkpoint-3"
#define CHECKPOINT_LAYERS "training.layers" /* the tensor of struct layers */

/* Writes tensors, sums and state; reports it by an event. */
int checkpoint_save(struct trainer *t, struct err *err);

/* The entry of struct layers in the file; shape: room for its one size. */
struct safetensors_entry checkpoint_layers_entry(const struct trainer *t, int *shape);

/* --- restore.c --- */

enum checkpoint_result { CHECKPOINT_RESTORED, CHECKPOINT_NONE, CHECKPOINT_FAILED };

/* Restores the job's own checkpoint. CHECKPOINT_NONE: there is none, or it is damaged or of other work; then the log says so, and
 * a file that was found is kept as checkpoint.unusable. */
enum checkpoint_result checkpoint_restore(struct trainer *t, struct err *err);

/* Puts aside a checkpoint that cannot be used and says why. */
void checkpoint_refuse(const struct trainer *t, const char *reason);

/* Restores another job's checkpoint at a path. ERR_FIELD, ERR_DATA: the job cannot go on from it. */
int checkpoint_continue(struct trainer *t, const char *path, struct err *err);

/* --- history.c: DIR/epochs.ndjson, the finished epochs' events --- */

/* Appends an epoch and syncs it; to be done before the checkpoint that contains the epoch. */
int history_append(const char *dir, const json_t *epoch, struct err *err);

/* Cuts the file to its first n epochs. Returns 0, 1 when it does not hold them (then it is left as it is), or -1. */
int history_cut(const char *dir, int n, struct err *err);

/* Makes the first n epochs of DIR/initial-epochs.ndjson the whole file. ERR_DATA when there are fewer. */
int history_import(const char *dir, int n, struct err *err);

/* Sends the epochs after the first known ones again. */
int history_send(const char *dir, int known, struct emit *emit, struct err *err);

/* --- progress.c --- */

/* Send a progress event unless the last one is less than a second ago. step is that of the running evaluation. */
int progress_train(struct trainer *t, struct err *err);
int progress_evaluate(struct trainer *t, const struct evaluation *evaluation, int64_t step, struct err *err);

#endif
