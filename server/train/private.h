/* What the trainer's files share: the state of a running job. */
#ifndef TRAIN_PRIVATE_H
#define TRAIN_PRIVATE_H

#include "server/backend/backend.h"
#include "server/graph/graph.h"
#include "server/train/data.h"
#include "server/train/emit.h"
#include "server/train/job.h"

/* Where training stands. All of it is in the checkpoint, so that an interrupted epoch ends with the numbers that it would have
 * had. */
struct train_state {
    int epoch;             /* finished epochs */
    int64_t step;          /* training steps done of the next one */
    double loss_sum;       /* of these steps' images, added in order */
    int64_t correct, seen; /* images */
    double seconds;        /* spent in these steps */
};

/* How fast a phase runs in this attempt. */
struct meter {
    double seconds;
    int64_t images;
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
    struct backend_plan *plan;
    int batch, threads;  /* the largest batch */
    int64_t train_steps; /* of an epoch */
    int64_t test_steps;
    struct train_state state;
    struct meter train_meter, test_meter;
    double progress_at;   /* clock of the last progress event */
    double checkpoint_at; /* clock of the last checkpoint */
    double checkpoint_every;
    float *images;   /* [batch,C,H,W] */
    int32_t *labels; /* [batch] */
    uint32_t *order; /* of the epoch's training images */
    float *tensors;  /* room for all values and momenta: what a checkpoint holds */
    float *softmax;  /* [batch,classes] */
};

/* Seconds of the monotonic clock. */
double clock_seconds(void);

/* --- checkpoint.c: DIR/checkpoint.safetensors --- */

enum checkpoint_result { CHECKPOINT_RESTORED, CHECKPOINT_NONE, CHECKPOINT_FAILED };

/* Floats that the tensors of a checkpoint need. */
size_t checkpoint_floats(const struct graph *graph);

/* Writes parameters, momenta, running statistics and state; reports it by an event. */
int checkpoint_save(struct trainer *t, struct err *err);

/* Restores them. CHECKPOINT_NONE: there is none, or it is damaged or of other work; then the log says so, and a file that was
 * found is kept as checkpoint.unusable. The plan may have been written to and must be initialized. */
enum checkpoint_result checkpoint_restore(struct trainer *t, struct err *err);

/* Puts aside a checkpoint that cannot be used and says why. */
void checkpoint_refuse(const struct trainer *t, const char *reason);

/* --- history.c: DIR/epochs.ndjson, the finished epochs' events --- */

/* Appends an epoch and syncs it; to be done before the checkpoint that contains the epoch. */
int history_append(const char *dir, const json_t *epoch, struct err *err);

/* Cuts the file to its first n epochs. Returns 0, 1 when it does not hold them (then it is left as it is), or -1. */
int history_cut(const char *dir, int n, struct err *err);

/* Sends the epochs after the first known ones again. */
int history_send(const char *dir, int known, struct emit *emit, struct err *err);

/* --- evaluate.c --- */

/* Result of a whole test set. */
struct evaluation {
    double loss; /* mean */
    double seconds;
    int64_t n, correct;
    int64_t *confusion; /* [classes,classes], rows are the true class */
    int softmax_n;
    float *softmax; /* [softmax_n,classes] of the first images */
    int labels[EVENT_CLASSES_SOFTMAX_IMAGES];
};

/* Tests the whole test set; a stop ends it early with *ret_stopped set and nothing kept. */
int evaluate(struct trainer *t, struct evaluation *ret_result, bool *ret_stopped, struct err *err);
void evaluation_done(struct evaluation *result);

/* The data of the epoch event. New reference; NULL when out of memory. */
json_t *epoch_json(const struct trainer *t, const struct evaluation *test, double lr);

/* --- progress.c --- */

/* Sends a progress event unless the last one is less than a second ago. images and loss_sum are those of the running phase. */
int progress_train(struct trainer *t, struct err *err);
int progress_test(struct trainer *t, int64_t step, int64_t images, double loss_sum, struct err *err);

#endif
