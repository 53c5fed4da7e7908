/* What the files of the self-check share. */
#ifndef TRAIN_SELFCHECK_PRIVATE_H
#define TRAIN_SELFCHECK_PRIVATE_H

#include <jansson.h>

#include "server/backend/backend.h"
#include "server/graph/graph.h"
#include "server/train/data.h"
#include "server/train/tensors.h"

struct selfcheck {
    bool brief;
    const char *json_path;                    /* NULL: where selfcheck.h says */
    int fd;                                   /* of the report for a person */
    const struct residuum_backend *api;       /* of the device, and */
    const struct residuum_backend *truth_api; /* ref */
    struct backend_info info;
    struct backend *backend, *truth;
    struct data data; /* the images of all networks: some of the data set "shapes" */
    double *curve;    /* losses of the truth's longest training, made when they are first wanted */
    /* --- selfcheck_report.c --- */
    json_t *items, *features;      /* features: name: whether all its items have passed */
    int failed, skipped, withheld; /* withheld: failed, too, but what they allow is not used then */
    bool lost;                     /* the device has failed: nothing more can be asked of it */
};

/* --- selfcheck_report.c --- */

/* What a device can do without, as the environment's RESIDUUM_GPU_FEATURES calls it: batch norm by cuDNN, and steps as graphs. */
#define FEATURES_VARIABLE "RESIDUUM_GPU_FEATURES"
#define FEATURE_FUSED_NORM "fused-norm"
#define FEATURE_CAPTURED "captured-steps"

int report_init(struct selfcheck *check, struct err *err);
void report_done(struct selfcheck *check);

/* Tells a finished item and keeps it. feature: what it allows when it has passed; NULL: nothing. A device that is not lost can do
 * without a feature: then it is not used, and no failure of the device. */
void report_item(struct selfcheck *check, const struct backend_check *item, const char *feature);

/* Whether the items so far allow a feature. */
bool report_allows(const struct selfcheck *check, const char *feature);

/* Writes the file and says the last sentence. Returns the exit code. */
int report_end(struct selfcheck *check);

/* --- selfcheck_net.c: networks to train, and training them --- */

/* Loads the images; data_done frees them. */
int lesson_images(struct data *ret_data, struct err *err);

/* A network to train. */
struct lesson {
    struct spec spec;
    struct graph *graph;
    const struct data *data;
};

/* spec: JSON of a job; its train_limit says how many of the images it trains on. lesson_done accepts zeroed memory. */
int lesson_init(struct lesson *lesson, const struct selfcheck *check, const char *spec, struct err *err);
void lesson_done(struct lesson *lesson);

/* One plan that trains the network, from the same values every time. */
struct pupil {
    const struct lesson *lesson;
    const struct residuum_backend *api;
    struct backend *backend;
    struct backend_plan *plan;
    struct tensors tensors; /* of pupil_take */
    bool from_device;       /* the images are those that load_data has put there */
    uint32_t *samples;      /* of one step: [batch] */
    float *images;
    int32_t *labels, *others;
    float *shares;
};

struct pupil_options {
    enum spec_precision precision;
    bool truth; /* on ref, instead of the device */
    enum backend_steps steps;
    bool from_device;
};

/* pupil_done accepts zeroed memory. */
int pupil_init(struct pupil *pupil, const struct selfcheck *check, const struct lesson *lesson,
               const struct pupil_options *options, struct err *err);
void pupil_done(struct pupil *pupil);

/* Trains n steps from step first on; ret_losses: the mean loss of each, [n]. A loss that is not finite is an error. */
int pupil_train(struct pupil *pupil, int first, int n, double *ret_losses, struct err *err);

/* Copies values and the optimizer's state out to tensors, or from another pupil's in. */
int pupil_take(struct pupil *pupil, struct err *err);
int pupil_give(struct pupil *pupil, const struct pupil *from, struct err *err);

/* Whether both have taken the same bits. */
bool pupil_equal(const struct pupil *a, const struct pupil *b);

/* --- selfcheck_compare.c: items against the truth --- */

/* An item fills in passed or skipped, measured, limit and text; its name and precision are set. What it returns -1 for has
 * failed for that reason. */
typedef int item_fn(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err);

item_fn check_every_op, check_step, check_curve;

/* --- selfcheck_same.c: items that compare bits --- */
item_fn check_images, check_captured, check_repeated, check_resumed;

/* --- selfcheck_fused.c: the two below once more, on a device that is opened with the feature "fused-norm" --- */
item_fn check_fused_step, check_fused_captured;

/* --- selfcheck_device.c: memory, endurance, speed --- */
item_fn check_too_large, check_given_back, check_soak, check_speed;

/* Sets passed and both numbers: measured must not be above limit. */
void item_at_most(struct backend_check *item, double measured, double limit);
/* An item of which only the text says more. */
void item_passes(struct backend_check *item, bool passed);

#endif
