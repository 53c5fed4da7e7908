/* What the files share that expand presets into nodes. */
#ifndef GRAPH_BUILDER_H
#define GRAPH_BUILDER_H

#include "server/graph/graph.h"

struct builder;

enum { STAGES_MAX = 5 };
enum ending { ENDING_AVERAGE, ENDING_MAXIMUM, ENDING_FLATTEN }; /* how the last image becomes a row of values */

/* A preset as data. */
struct graph_design {
    void (*build)(struct builder *b);
    int stages, channels[STAGES_MAX]; /* of each stage, before widening */
    bool bottleneck;                  /* blocks of 1x1, 3x3 and 1x1 convolutions, the last with four times the channels */
    bool unpadded;                    /* convolutions that shrink the image */
    enum ending ending;
    bool plain_output;       /* the last dense layer has no bias */
    struct spec_options own; /* the value of every option where neither the job nor an override sets it */
};

/* Which parts of a set of options had an effect. */
struct use {
    bool matched;  /* it holds for some layer */
    unsigned used; /* options that such a layer asked for, as bits */
};

/* The state of building a preset. After the first failure at is -1, and nothing more is added. */
struct builder {
    struct graph *graph;
    const struct spec_model *model;
    const struct graph_design *design;
    int classes;
    struct err *err;
    int at;        /* the node that the next layer takes as its input */
    int stage;     /* that layers are added to, from 1; 0: before the first and after the last */
    int units;     /* norms and activations outside of blocks so far: they are bn1, act1, bn2, act2, ... */
    unsigned used; /* options of the whole model that some layer asked for */
    struct use overrides[SPEC_OVERRIDES_MAX]; /* the same of each override */
};

/* --- options.c --- */

/* The options that decide about one option of a layer: the last override that holds for the layer and sets it, else the model's,
 * else the preset's own. Never NULL. */
const struct spec_options *option_of(struct builder *b, const char *layer, enum spec_option option);

/* The same without overrides. */
const struct spec_options *option_of_model(struct builder *b, enum spec_option option);

/* The last override that holds for the layer and sets the option; NULL: none does. */
const struct spec_options *option_of_override(struct builder *b, const char *layer, enum spec_option option);

/* The pointer to an option of a set that the job or an override chose: "/model/kernel". */
void option_pointer(const struct builder *b, const struct spec_options *set, enum spec_option option, char *ret_pointer,
                    size_t size);

/* Whether the options are the preset's own: not chosen by anyone. */
static inline bool option_is_own(const struct builder *b, const struct spec_options *options) {
    return options == &b->design->own;
}

/* Notes that a layer of this name exists. */
void option_saw_layer(struct builder *b, const char *layer);

/* Refuses options that had no effect and overrides that hold for no layer. Call it when everything is built. */
int option_check(const struct builder *b);

/* --- builder.c --- */

struct layer_name {
    char text[GRAPH_NAME_MAX];
};

/* "PREFIX.NAME", or NAME without a prefix; NUMBER is appended to it when it is not 0. */
struct layer_name layer_name(const char *prefix, const char *name, int number);

/* Adds a node under this name. It takes the last node as its input, unless it has inputs. */
void build_layer(struct builder *b, const char *name, struct graph_node node);

/* A number of channels or units, widened. */
int build_width(struct builder *b, const char *layer, int channels);

struct build_conv {
    int channels, kernel, stride, pad;
    bool bias;
};
void build_conv(struct builder *b, const char *name, struct build_conv conv);

/* Adds the norm that is chosen under its name, if any. ends_residual: its gamma can start at 0. */
void build_norm(struct builder *b, const char *name, bool ends_residual);
void build_act(struct builder *b, const char *name);
void build_pool(struct builder *b, const char *name, enum graph_op op, int kernel, int stride, int pad);

/* Adds a dropout in front of a layer, if that layer's option, which is OPTION_DROPOUT or OPTION_BLOCK_DROPOUT, is above 0. */
void build_dropout(struct builder *b, const char *name, const char *layer, enum spec_option option);

/* Whether the convolution in front of (or behind) a norm has a bias: in a norm it would be lost, so only without one. */
bool build_bias(struct builder *b, const char *norm);

/* A convolution with its norm and activation: PREFIX.convN, bnN and actN for number N. */
void build_unit(struct builder *b, const char *prefix, int number, int channels, int stride, bool ends_residual);

/* The padding with which a kernel keeps the size of an image. */
static inline int build_same_pad(int kernel) {
    return (kernel - 1) / 2;
}

/* From the last image to the loss: the preset's ending, hidden dense layers, output. */
void build_head(struct builder *b);

/* The number of blocks of the stage that is being built. */
int build_depth(struct builder *b);

/* How the stage that is being built halves the image, asked for under the name of its pool. */
enum spec_downsampling build_downsampling(struct builder *b, const char *pool);

/* The 2x2 pool for a way of downsampling other than by stride. */
void build_halving(struct builder *b, const char *pool, enum spec_downsampling how);

/* --- blocks.c --- */

/* Networks of blocks behind a stem: He et al. 2015 and 2016, Zagoruyko and Komodakis 2016. */
void build_blocks(struct builder *b);

/* David Page's network for DAWNBench. */
void build_page(struct builder *b);

#endif
