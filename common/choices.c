/* Names of the enums of a job: see choices.h and spec.h. */
#include "common/choices.h"

#include <stddef.h>

#include "common/spec.h"

const char *const choices_precision[] = {[PRECISION_F32] = "f32", [PRECISION_BF16] = "bf16", [PRECISION_TF32] = "tf32", NULL};
const char *const choices_backend[] = {
    [BACKEND_AUTO] = "auto", [BACKEND_REF] = "ref", [BACKEND_ONEDNN] = "onednn", [BACKEND_CUDNN] = "cudnn", NULL};
const char *const choices_norm[] = {[NORM_NONE] = "none", [NORM_BATCH] = "batch", [NORM_GROUP] = "group", NULL};
const char *const choices_init[] = {
    [INIT_HE_NORMAL] = "he_normal",           [INIT_HE_UNIFORM] = "he_uniform", [INIT_XAVIER_NORMAL] = "xavier_normal",
    [INIT_XAVIER_UNIFORM] = "xavier_uniform", [INIT_NORMAL] = "normal",         NULL};
const char *const choices_shortcut[] = {[SHORTCUT_A] = "A", [SHORTCUT_B] = "B", NULL};
const char *const choices_activation[] = {[ACTIVATION_RELU] = "relu",
                                          [ACTIVATION_LEAKY_RELU] = "leaky_relu",
                                          [ACTIVATION_ELU] = "elu",
                                          [ACTIVATION_GELU] = "gelu",
                                          [ACTIVATION_SILU] = "silu",
                                          [ACTIVATION_SIGMOID] = "sigmoid",
                                          [ACTIVATION_TANH] = "tanh",
                                          [ACTIVATION_IDENTITY] = "identity",
                                          NULL};
const char *const choices_downsampling[] = {
    [DOWNSAMPLING_STRIDE] = "stride", [DOWNSAMPLING_MAX_POOL] = "max_pool", [DOWNSAMPLING_AVG_POOL] = "avg_pool", NULL};
const char *const choices_schedule[] = {
    [SCHEDULE_CONSTANT] = "constant", [SCHEDULE_STEP] = "step",           [SCHEDULE_MULTI_STEP] = "multi_step",
    [SCHEDULE_COSINE] = "cosine",     [SCHEDULE_ONE_CYCLE] = "one_cycle", NULL};
const char *const choices_optimizer[] = {
    [OPTIMIZER_SGD] = "sgd", [OPTIMIZER_ADAM] = "adam", [OPTIMIZER_ADAMW] = "adamw", [OPTIMIZER_RMSPROP] = "rmsprop", NULL};
const char *const choices_selection[] = {[SELECTION_ACCURACY] = "accuracy", [SELECTION_LOSS] = "loss", NULL};

const char *spec_precision_name(enum spec_precision value) {
    return choices_precision[value];
}
const char *spec_backend_name(enum spec_backend value) {
    return choices_backend[value];
}
const char *spec_activation_name(enum spec_activation value) {
    return choices_activation[value];
}
