/* A job specification: what a student asks for. JSON in, checked struct, canonical JSON (every field filled in) out. The fields
 * are rows of one table in spec.c; "GET /v1/jobs/{id}" and the help text come from the same rows. */
#ifndef COMMON_SPEC_H
#define COMMON_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/dataset.h"
#include "common/err.h"

enum spec_precision { PRECISION_F32, PRECISION_BF16, PRECISION_TF32 };
enum spec_backend { BACKEND_AUTO, BACKEND_REF, BACKEND_ONEDNN, BACKEND_CUDNN };
enum spec_norm { NORM_NONE, NORM_BATCH, NORM_GROUP };
enum spec_init { INIT_HE_NORMAL, INIT_HE_UNIFORM, INIT_XAVIER_NORMAL, INIT_XAVIER_UNIFORM, INIT_NORMAL };
enum spec_shortcut { SHORTCUT_A, SHORTCUT_B };
enum spec_activation {
    ACTIVATION_RELU,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_ELU,
    ACTIVATION_GELU,
    ACTIVATION_SILU,
    ACTIVATION_SIGMOID,
    ACTIVATION_TANH,
    ACTIVATION_IDENTITY
};
enum spec_downsampling { DOWNSAMPLING_STRIDE, DOWNSAMPLING_MAX_POOL, DOWNSAMPLING_AVG_POOL };
enum spec_optimizer { OPTIMIZER_SGD, OPTIMIZER_ADAM, OPTIMIZER_ADAMW, OPTIMIZER_RMSPROP };
enum spec_selection { SELECTION_ACCURACY, SELECTION_LOSS };
enum spec_schedule { SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_MULTI_STEP, SCHEDULE_COSINE, SCHEDULE_ONE_CYCLE };

/* Names as in JSON ("bf16", "leaky_relu", ...). */
const char *spec_precision_name(enum spec_precision value);
const char *spec_backend_name(enum spec_backend value);
const char *spec_activation_name(enum spec_activation value);

enum { SPEC_LIST_MAX = 32, SPEC_BATCH_MAX = 4096 };
struct spec_list {
    int n, values[SPEC_LIST_MAX];
};

/* What can be set of a preset; the rows stand in spec_model.c. */
enum spec_option {
    OPTION_WIDTH,
    OPTION_DEPTH,
    OPTION_NORM,
    OPTION_NORM_GROUPS,
    OPTION_INIT,
    OPTION_INIT_SIGMA,
    OPTION_ACTIVATION,
    OPTION_RESIDUAL,
    OPTION_SHORTCUT,
    OPTION_PREACTIVATION,
    OPTION_ZERO_INIT,
    OPTION_KERNEL,
    OPTION_DOWNSAMPLING,
    OPTION_DROPOUT,
    OPTION_BLOCK_DROPOUT,
    OPTION_STEM_KERNEL,
    OPTION_STEM_STRIDE,
    OPTION_STEM_CHANNELS,
    OPTION_STEM_POOL,
    OPTION_DENSE,
    OPTIONS_N
};

const char *spec_option_name(enum spec_option option);

struct spec_options {
    unsigned given;         /* bits 1 << OPTION_X; what is not given is as the preset has it */
    double width;           /* multiplies the preset's channels and hidden units; rounded, at least 1 */
    struct spec_list depth; /* blocks (in nets without blocks: convolutions) per stage; a single number is for all */
    enum spec_norm norm;    /* after each convolution; in mlp after each hidden layer */
    int norm_groups;        /* of norm "group" */
    enum spec_init init;    /* of the weights of convolutions and dense layers */
    double init_sigma;      /* of init "normal" */
    enum spec_activation activation;
    bool residual;                       /* whether blocks have their shortcut */
    enum spec_shortcut shortcut;         /* where a block changes the shape: A pads with zero channels, B projects */
    bool preactivation;                  /* He et al. 2016: norm and activation before each convolution of a block */
    bool zero_init;                      /* the last gamma of each residual block starts at 0 */
    int kernel;                          /* of all convolutions but the stem's and 1x1 ones */
    enum spec_downsampling downsampling; /* how stages halve the image */
    double dropout;                      /* rate before every dense layer but the first, and before the output in any case */
    double block_dropout;                /* rate before the last convolution of each block of a residual or plain net */
    int stem_kernel, stem_stride, stem_channels; /* of the first convolution of a net with blocks; channels as they are */
    bool stem_pool;                              /* a 3x3 max pool of stride 2 behind it */
    struct spec_list dense; /* units of the hidden dense layers before the output, instead of the preset's own */
};

enum { SPEC_OVERRIDES_MAX = 32 };

/* Options for a part of a preset. Of several that hold for a layer, the last one wins. */
struct spec_override {
    int stage; /* 1 and up; 0: by name */
    char
        layers[64]; /* pattern of layer names; * stands for any text, ? for one character. A block's name is for all its layers */
    struct spec_options options;
};

/* "model": a preset with options, or a list of layers. `"model": "resnet20"` is short for `{"preset": "resnet20"}`. Zeroed but
 * for its name it is the preset as it is. */
struct spec_model {
    char preset[32]; /* "" with layers */
    struct spec_options options;
    struct spec_override overrides[SPEC_OVERRIDES_MAX];
    int overrides_n;
    json_t *layers; /* a custom model: the list of its layers, owned; graph_build checks it. NULL with a preset */
};

struct spec {
    char name[81];
    char dataset[33];
    int pad; /* zero pixels added on every side of each image before anything else; fashion-mnist: 2 (28x28 -> 32x32) */
    struct spec_model model;
    int epochs, batch_size;
    uint64_t seed; /* 0 to 2^53 - 1, exact in JSON */
    enum spec_precision precision;
    bool deterministic; /* true: two runs give the same bits; false: a GPU may take faster algorithms of which none promises that
                         */
    enum spec_backend backend;
    char device[64]; /* "auto", or the id of the only device that may run it: "cpu", "GPU-1fdd..." */
    int threads;     /* of the worker; default: what the context says */
    struct {         /* "optimizer": {"kind": "sgd", ...}; a field that the kind does not use is an error */
        enum spec_optimizer kind;
        double momentum;      /* sgd: 0.9, rmsprop: 0 */
        bool nesterov;        /* sgd */
        double weight_decay;  /* sgd: 1e-4, adamw: 0.01, else 0 */
        bool decay_norm_bias; /* whether biases, gamma and beta decay as well: true, as torch.optim does */
        double beta1, beta2;  /* adam, adamw: 0.9, 0.999 */
        double alpha;         /* rmsprop: 0.99 */
        double epsilon;       /* adam, adamw, rmsprop: 1e-8 */
        double clip_norm;     /* largest norm of all gradients together; 0: no clipping */
    } optimizer;
    struct { /* "schedule": {"kind": "one_cycle", "lr": 0.1, ...}; a field that the kind does not use is an error */
        enum spec_schedule kind;
        double lr;                           /* the rate after warm-up; one_cycle: the peak. 0.1 with sgd, else 0.001 */
        double warmup_epochs;                /* all but one_cycle: linear from lr/100; default 0 */
        int step_epochs;                     /* step: multiply by gamma every so many epochs */
        double gamma;                        /* step, multi_step */
        struct spec_list milestones;         /* multi_step: epochs after which to multiply by gamma, rising; at least one */
        double min_lr;                       /* cosine */
        double warmup_fraction;              /* one_cycle: share of all steps spent rising, default 0.3; PyTorch's pct_start */
        double div_factor, final_div_factor; /* one_cycle: lr starts at lr/div, ends at lr/div/final; 25 and 1e4 as PyTorch */
    } schedule;
    struct {      /* "augment": {"crop": 4, "flip": true}, in the order in which it is done */
        int crop; /* zero padding in pixels before a random crop of the image's size; 0: no crop */
        bool flip;
        double rotation;   /* largest angle in degrees, 0 to 45; bilinear, black outside */
        double brightness; /* factor of 1 - b to 1 + b, as torchvision's ColorJitter; 0 to 1 */
        double contrast;   /* the same around the image's mean grey */
        int cutout;        /* side in pixels of a black square at a random centre (DeVries and Taylor 2017); 0: none */
        double mixup;      /* alpha of the Beta distribution (Zhang et al. 2018); 0: none */
    } augment;
    double label_smoothing;     /* 0 to 0.9 */
    double average_decay;       /* of the exponential moving average of the weights; 0: none. With it, it is the average that is
                                   validated, tested and exported */
    double validation_fraction; /* of the training images, stratified, chosen by the seed; 0: no validation */
    struct {                    /* "selection": by the validation set only; the test set is only reported */
        enum spec_selection metric; /* of the best epoch: highest accuracy, or lowest loss */
        int patience;               /* stop after so many epochs without improvement; 0: never */
        double min_delta;           /* by more than which the metric must improve to count */
    } selection;
    int keep_every; /* weights are kept of the last, the best and every so many epochs; 0: of the last and the best only */
    struct {        /* "from": {"job": "job_...", "epoch": 5}; start from another job's weights. job "": from nothing */
        char job[32];
        int epoch;   /* a kept epoch of that job; 0: its last */
        bool resume; /* with its optimizer state, averages and epoch count, as if it had been one job of "epochs" epochs in all;
                        of the last epoch only */
    } from;
    int train_limit, test_limit; /* 0: all; else the first N images after the seeded shuffle */
};

/* What parsing needs to know of its surroundings. find_dataset returns a borrowed card or NULL. */
struct spec_context {
    int threads_default, threads_max;
    const struct dataset_card *(*find_dataset)(void *arg, const char *name);
    void *arg;
    const char *const *dataset_names; /* for "did you mean" */
    size_t dataset_names_n;
};

/* A context with the built-in data sets. */
struct spec_context spec_context_builtin(int threads_default, int threads_max);

/* Checks doc and fills *ret_spec, which spec_done frees, with all defaults applied. Wrong types, unknown keys (with the nearest
 * known one), values out of bounds and combinations that cannot be are added to errors, each with its JSON Pointer. Returns 0, or
 * -1 and leaves *ret_spec untouched. Preset names, layers, and whether options have any effect, are checked by graph_build. */
int spec_parse(const json_t *doc, const struct spec_context *context, struct spec *ret_spec, struct err_list *errors);

/* Frees what a parsed spec owns. Accepts a zeroed one. */
void spec_done(struct spec *spec);

/* How many of the training images are set aside for validation: fraction of them, rounded to the nearest. */
int spec_validation_images(double fraction, int images);

/* The canonical document: every field, in the table's order; of a model what is given. Parsed again it gives the same spec. New
 * reference; NULL when out of memory. */
json_t *spec_to_json(const struct spec *spec);

/* Whether a job may go on from another one's state: what cannot change within one training is its network, its data, and the kind
 * of state that its optimizer has. Both are canonical documents. ERR_FIELD at the first field that differs; job names the other.
 */
int spec_check_resume(const json_t *was, const json_t *is, const char *job, struct err *err);

/* The learning rate of a step. step counts from 0 over all epochs (epoch * steps_per_epoch + i). Formulas: constant, step and
 * cosine (Loshchilov and Hutter 2017, without restarts) with linear warm-up; one-cycle (Smith and Topin 2017) with cosine phases
 * as torch.optim.lr_scheduler.OneCycleLR, momentum not cycled. */
double spec_lr(const struct spec *spec, uint64_t step, uint64_t steps_per_epoch);

#endif
