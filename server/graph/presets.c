/* Ready-made models: a const table of presets, and building one with its options. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "server/graph/builder.h"
#include "server/graph/private.h"

/* Convolutions, then a pool; or the last convolution strides. */
static void chain_stage(struct builder *b) {
    int depth = build_depth(b);
    struct layer_name pool = layer_name("", "pool", b->stage);
    enum spec_downsampling how = build_downsampling(b, pool.text);
    for (int i = 1; i <= depth && b->at >= 0; i++)
        build_unit(b, "", ++b->units, b->design->channels[b->stage - 1], i == depth && how == DOWNSAMPLING_STRIDE ? 2 : 1, false);
    if (depth > 0 && how != DOWNSAMPLING_STRIDE)
        build_halving(b, pool.text, how);
}

static void build_chain(struct builder *b) {
    for (b->stage = 1; b->stage <= b->design->stages; b->stage++)
        chain_stage(b);
    build_head(b);
}

/* --- the table --- */

#define HE "He, Zhang, Ren, Sun: Deep residual learning for image recognition (2015)"
#define HE16 "He, Zhang, Ren, Sun: Identity mappings in deep residual networks (2016)"
#define WIDE "Zagoruyko, Komodakis: Wide residual networks (2016)"
#define SIMONYAN "Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition (2014)"
#define LECUN "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition (1998)"
#define LECUN89 "LeCun et al.: Backpropagation applied to handwritten zip code recognition (1989)"
#define RUMELHART "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (1986)"
#define PAGE "Page: How to train your ResNet (2018), for DAWNBench"

/* What most presets have. */
#define COMMON \
    .width = 1, .norm_groups = 8, .init = INIT_HE_NORMAL, .init_sigma = 0.01, .activation = ACTIVATION_RELU, .kernel = 3
#define STEM(channels_) .stem_kernel = 3, .stem_stride = 1, .stem_channels = channels_
#define BLOCKS(channels_) COMMON, STEM(channels_), .norm = NORM_BATCH, .downsampling = DOWNSAMPLING_STRIDE

/* Section 4.2 of He et al. 2015: three stages of n blocks. */
#define CIFAR(n, ...)                                                                                    \
    &(const struct graph_design) {                                                                       \
        .build = build_blocks, .stages = 3, .channels = {16, 32, 64}, .ending = ENDING_AVERAGE, .own = { \
            BLOCKS(16),                                                                                  \
            .depth = {1, {n}},                                                                           \
            .shortcut = SHORTCUT_A,                                                                      \
            __VA_ARGS__                                                                                  \
        }                                                                                                \
    }

/* Table 1 of He et al. 2015, with a stem for small images. */
#define IMAGENET(bottleneck_, ...)                                                                      \
    &(const struct graph_design) {                                                                      \
        .build = build_blocks, .stages = 4, .channels = {64, 128, 256, 512}, .bottleneck = bottleneck_, \
        .ending = ENDING_AVERAGE, .own = {                                                              \
            BLOCKS(64),                                                                                 \
            .depth = {4, {__VA_ARGS__}},                                                                \
            .shortcut = SHORTCUT_B,                                                                     \
            .residual = true                                                                            \
        }                                                                                               \
    }

/* Table 1 of Simonyan and Zisserman, with norms and a single dense layer: five pools leave one pixel of 32x32. */
#define VGG(...)                                                                                                    \
    &(const struct graph_design) {                                                                                  \
        .build = build_chain, .stages = 5, .channels = {64, 128, 256, 512, 512}, .ending = ENDING_AVERAGE, .own = { \
            COMMON,                                                                                                 \
            .depth = {5, {__VA_ARGS__}},                                                                            \
            .norm = NORM_BATCH,                                                                                     \
            .downsampling = DOWNSAMPLING_MAX_POOL                                                                   \
        }                                                                                                           \
    }

static const struct graph_preset presets[] = {
    {"resnet8", "ResNet-8 (CIFAR)", HE ", section 4.2", true, CIFAR(1, .residual = true)},
    {"resnet14", "ResNet-14 (CIFAR)", HE ", section 4.2", true, CIFAR(2, .residual = true)},
    {"resnet20", "ResNet-20 (CIFAR)", HE ", section 4.2", true, CIFAR(3, .residual = true)},
    {"resnet32", "ResNet-32 (CIFAR)", HE ", section 4.2", true, CIFAR(5, .residual = true)},
    {"resnet44", "ResNet-44 (CIFAR)", HE ", section 4.2", true, CIFAR(7, .residual = true)},
    {"resnet56", "ResNet-56 (CIFAR)", HE ", section 4.2", true, CIFAR(9, .residual = true)},
    {"resnet110", "ResNet-110 (CIFAR)", HE ", section 4.2", true, CIFAR(18, .residual = true)},
    {"plain20", "Plain-20 (CIFAR)", HE ", section 4.2", false, CIFAR(3, .residual = false)},
    {"plain32", "Plain-32 (CIFAR)", HE ", section 4.2", false, CIFAR(5, .residual = false)},
    {"plain44", "Plain-44 (CIFAR)", HE ", section 4.2", false, CIFAR(7, .residual = false)},
    {"plain56", "Plain-56 (CIFAR)", HE ", section 4.2", false, CIFAR(9, .residual = false)},
    {"preact-resnet20", "Pre-activation ResNet-20 (CIFAR)", HE16 ", section 4", true,
     CIFAR(3, .residual = true, .preactivation = true)},
    {"resnet18", "ResNet-18 (CIFAR stem)", HE ", table 1", true, IMAGENET(false, 2, 2, 2, 2)},
    {"resnet34", "ResNet-34 (CIFAR stem)", HE ", table 1", true, IMAGENET(false, 3, 4, 6, 3)},
    {"resnet50", "ResNet-50 (CIFAR stem)", HE ", table 1", true, IMAGENET(true, 3, 4, 6, 3)},
    {"wide-resnet16-4", "Wide ResNet-16-4", WIDE ", section 2", true,
     &(const struct graph_design){
         .build = build_blocks,
         .stages = 3,
         .channels = {64, 128, 256},
         .ending = ENDING_AVERAGE,
         .own = {BLOCKS(16), .depth = {1, {2}}, .shortcut = SHORTCUT_B, .residual = true, .preactivation = true}}},
    {"resnet9", "ResNet-9 (DAWNBench)", PAGE, true,
     &(const struct graph_design){.build = build_page, /* without the factor of 0.125 before the loss */
                                  .stages = 3,
                                  .channels = {128, 256, 512},
                                  .ending = ENDING_MAXIMUM,
                                  .plain_output = true,
                                  .own = {COMMON, STEM(64), .norm = NORM_BATCH, .depth = {3, {1, 0, 1}}, .residual = true,
                                          .downsampling = DOWNSAMPLING_MAX_POOL}}},
    {"vgg11", "VGG-11 (small images)", SIMONYAN ", table 1 A", false, VGG(1, 1, 2, 2, 2)},
    {"vgg13", "VGG-13 (small images)", SIMONYAN ", table 1 B", false, VGG(2, 2, 2, 2, 2)},
    {"vgg16", "VGG-16 (small images)", SIMONYAN ", table 1 D", false, VGG(2, 2, 3, 3, 3)},
    /* C5, a 5x5 convolution of a 5x5 image in the paper, is the dense layer fc1 here, so that other image sizes work too. */
    {"lenet5", "LeNet-5", LECUN, false,
     &(const struct graph_design){.build = build_chain,
                                  .stages = 2,
                                  .channels = {6, 16},
                                  .unpadded = true,
                                  .ending = ENDING_FLATTEN,
                                  .own = {.width = 1,
                                          .norm = NORM_NONE,
                                          .norm_groups = 8,
                                          .init_sigma = 0.01,
                                          .kernel = 5,
                                          .depth = {1, {1}},
                                          .downsampling = DOWNSAMPLING_AVG_POOL,
                                          .dense = {2, {120, 84}}}}},
    {"simplecnn", "Simple CNN", LECUN89 ", in the form that courses draw", false,
     &(const struct graph_design){
         .build = build_chain,
         .stages = 2,
         .channels = {32, 64},
         .ending = ENDING_FLATTEN,
         .own = {COMMON, .norm = NORM_NONE, .depth = {1, {1}}, .downsampling = DOWNSAMPLING_MAX_POOL, .dense = {1, {64}}}}},
    {"mlp", "Multilayer perceptron", RUMELHART, false,
     &(const struct graph_design){
         .build = build_chain, .ending = ENDING_FLATTEN, .own = {COMMON, .norm = NORM_NONE, .dense = {2, {512, 512}}}}},
};

enum { PRESETS_N = sizeof presets / sizeof presets[0] };

const struct graph_preset *graph_presets(size_t *ret_n) {
    *ret_n = PRESETS_N;
    return presets;
}

const struct graph_preset *graph_preset_find(const char *name, struct err *err) {
    const char *names[PRESETS_N];
    for (int i = 0; i < PRESETS_N; i++) {
        names[i] = presets[i].name;
        if (strcmp(names[i], name) == 0)
            return &presets[i];
    }
    const char *near = json_nearest(name, names, PRESETS_N);
    if (near != NULL)
        err_at(err, ERR_FIELD, "/model/preset", "There is no preset '%.40s'; did you mean '%s'?", name, near);
    else
        err_at(err, ERR_FIELD, "/model/preset",
               "There is no preset '%.40s'; known ones are resnet20, plain20, vgg16, simplecnn, ...; `residuum presets` or GET "
               "/v1/presets lists them",
               name);
    return NULL;
}

static int check_depth(const struct spec_model *model, const struct graph_preset *preset, struct err *err) {
    int n = model->options.depth.n, stages = preset->design->stages;
    bool given = (model->options.given & 1u << OPTION_DEPTH) != 0;
    if (!given || stages == 0 || n == 1 || n == stages)
        return 0;
    return err_at(err, ERR_FIELD, "/model/depth",
                  "has %d numbers; \"%s\" has %d stages and needs as many numbers, or one for all", n, preset->name, stages);
}

static int build_preset(const struct spec_model *model, struct graph *graph, const struct graph_preset *preset, int classes,
                        struct err *err) {
    struct builder b = {.graph = graph, .model = model, .design = preset->design, .classes = classes, .err = err};
    preset->design->build(&b);
    return b.at < 0 ? -1 : option_check(&b);
}

static int preset_build(const struct spec_model *model, struct graph_shape input, int classes, struct graph **ret_graph,
                        struct err *err) {
    const struct graph_preset *preset = graph_preset_find(model->preset, err);
    if (preset == NULL || check_depth(model, preset, err) < 0)
        return -1;
    struct graph *graph = graph_new(preset->title, input, err);
    if (graph == NULL)
        return -1;
    if (build_preset(model, graph, preset, classes, err) < 0) {
        graph_free(graph);
        return -1;
    }
    *ret_graph = graph;
    return 0;
}

int graph_build(const struct spec_model *model, struct graph_shape input, int classes, struct graph **ret_graph,
                struct err *err) {
    if (model->layers != NULL)
        return layers_build(model->layers, input, classes, ret_graph, err);
    return preset_build(model, input, classes, ret_graph, err);
}
