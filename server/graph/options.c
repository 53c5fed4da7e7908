/* Which value of an option holds for a layer, and whether every option that was set had an effect. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "server/graph/builder.h"

/* * is any text, ? one character. A pattern that ends where a name has a dot matches, too: the name of a block is for its layers.
 * Only the last * is ever tried again, so the time is bounded by the product of the lengths. */
static bool matches(const char *pattern, const char *name) {
    const char *star = NULL, *resume = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = pattern++;
            resume = name;
        } else if (*pattern == '\0' && (*name == '\0' || *name == '.')) {
            return true;
        } else if (*name != '\0' && (*pattern == '?' || *pattern == *name)) {
            pattern++;
            name++;
        } else if (star == NULL || *resume == '\0') {
            return false;
        } else {
            pattern = star + 1;
            name = ++resume;
        }
    }
}

static bool holds(const struct builder *b, const struct spec_override *override, const char *layer) {
    return override->stage > 0 ? override->stage == b->stage : matches(override->layers, layer);
}

void option_saw_layer(struct builder *b, const char *layer) {
    for (int i = 0; i < b->model->overrides_n; i++)
        b->overrides[i].matched |= holds(b, &b->model->overrides[i], layer);
}

const struct spec_options *option_of_override(struct builder *b, const char *layer, enum spec_option option) {
    const struct spec_options *found = NULL;
    for (int i = 0; i < b->model->overrides_n; i++) {
        const struct spec_override *override = &b->model->overrides[i];
        if (!holds(b, override, layer))
            continue;
        b->overrides[i].matched = true;
        b->overrides[i].used |= 1u << option;
        if ((override->options.given & 1u << option) != 0)
            found = &override->options;
    }
    return found;
}

const struct spec_options *option_of_model(struct builder *b, enum spec_option option) {
    b->used |= 1u << option;
    return (b->model->options.given & 1u << option) != 0 ? &b->model->options : &b->design->own;
}

const struct spec_options *option_of(struct builder *b, const char *layer, enum spec_option option) {
    const struct spec_options *model = option_of_model(b, option), *override = option_of_override(b, layer, option);
    return override != NULL ? override : model;
}

void option_pointer(const struct builder *b, const struct spec_options *set, enum spec_option option, char *ret_pointer,
                    size_t size) {
    snprintf(ret_pointer, size, "/model/%s", spec_option_name(option));
    for (int i = 0; i < b->model->overrides_n; i++)
        if (set == &b->model->overrides[i].options)
            snprintf(ret_pointer, size, "/model/overrides/%d/%s", i, spec_option_name(option));
}

/* --- what had no effect --- */

/* What an option is for. */
static const char *const purposes[] = {
    [OPTION_WIDTH] = "convolutions and the preset's own hidden dense layers",
    [OPTION_DEPTH] = "stages, by their number",
    [OPTION_NORM] = "norm layers such as 'bn1'",
    [OPTION_NORM_GROUPS] = "norm layers of the kind \"group\"",
    [OPTION_INIT] = "convolutions and dense layers",
    [OPTION_INIT_SIGMA] = "convolutions and dense layers of the init \"normal\"",
    [OPTION_ACTIVATION] = "activation layers such as 'act1'",
    [OPTION_RESIDUAL] = "blocks of two or three convolutions",
    [OPTION_SHORTCUT] = "residual blocks that change the shape",
    [OPTION_PREACTIVATION] = "networks of blocks behind a stem",
    [OPTION_ZERO_INIT] = "the last norm layer of residual blocks",
    [OPTION_KERNEL] = "convolutions, but not for 1x1 ones",
    [OPTION_DOWNSAMPLING] = "stages that halve the image",
    [OPTION_DROPOUT] = "dense layers such as 'fc'",
    [OPTION_BLOCK_DROPOUT] = "the last convolution of a block",
    [OPTION_STEM_KERNEL] = "networks of blocks behind a stem",
    [OPTION_STEM_STRIDE] = "networks of blocks behind a stem",
    [OPTION_STEM_CHANNELS] = "networks of blocks behind a stem",
    [OPTION_STEM_POOL] = "networks of blocks behind a stem",
    [OPTION_DENSE] = "the end of a network",
};
_Static_assert(sizeof purposes / sizeof purposes[0] == OPTIONS_N, "one row an option");

/* The edit distance (Levenshtein) of a name from the nearest text that a pattern matches. */
static int distance(const char *pattern, const char *name) {
    int row[GRAPH_NAME_MAX], n = (int)strlen(name);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (; *pattern != '\0'; pattern++) {
        int diagonal = row[0];
        row[0] += *pattern == '*' ? 0 : 1;
        for (int j = 1; j <= n; j++) {
            bool same = *pattern == '?' || *pattern == name[j - 1];
            int above = row[j], replaced = diagonal + (same ? 0 : 1);
            int best =
                *pattern == '*' ? (above < row[j - 1] ? above : row[j - 1]) : 1 + (above < row[j - 1] ? above : row[j - 1]);
            row[j] = *pattern != '*' && replaced < best ? replaced : best;
            diagonal = above;
        }
    }
    return row[n];
}

void graph_nearest(const struct graph *graph, const char *pattern, char ret_text[GRAPH_NEAREST_MAX]) {
    int best = INT_MAX, listed = 0;
    size_t used = 0;
    ret_text[0] = '\0';
    for (int i = 0; i < graph->nodes_n; i++) {
        int far = distance(pattern, graph->nodes[i].name);
        best = far < best ? far : best;
    }
    for (int i = 0; i < graph->nodes_n && listed < GRAPH_NEAREST_N; i++)
        if (distance(pattern, graph->nodes[i].name) == best)
            used += (size_t)snprintf(ret_text + used, GRAPH_NEAREST_MAX - used, "%s'%s'", listed++ == 0 ? "" : ", ",
                                     graph->nodes[i].name);
}

static int refuse_unmatched(const struct builder *b, int index) {
    const struct spec_override *override = &b->model->overrides[index];
    char pointer[64], near[GRAPH_NEAREST_MAX];
    if (override->stage > 0) {
        snprintf(pointer, sizeof pointer, "/model/overrides/%d/stage", index);
        return err_at(b->err, ERR_FIELD, pointer, "is %d; the preset \"%s\" has %d stages", override->stage, b->model->preset,
                      b->design->stages);
    }
    snprintf(pointer, sizeof pointer, "/model/overrides/%d/layers", index);
    graph_nearest(b->graph, override->layers, near);
    return err_at(b->err, ERR_FIELD, pointer, "is \"%s\", which no layer matches; the nearest are %s", override->layers, near);
}

/* unused: options of one place, as bits. */
static int refuse_unused(const struct builder *b, const char *parent, const char *whom, unsigned unused) {
    int option = 0;
    while ((unused & 1u << option) == 0)
        option++;
    char pointer[96];
    snprintf(pointer, sizeof pointer, "%s/%s", parent, spec_option_name((enum spec_option)option));
    return err_at(b->err, ERR_FIELD, pointer, "is not used by %s; it is for %s", whom, purposes[option]);
}

int option_check(const struct builder *b) {
    char whom[64], parent[48];
    unsigned unused = b->model->options.given & ~b->used;
    snprintf(whom, sizeof whom, "the preset \"%s\" with these options", b->model->preset);
    if (unused != 0)
        return refuse_unused(b, "/model", whom, unused);
    for (int i = 0; i < b->model->overrides_n; i++) {
        if (!b->overrides[i].matched)
            return refuse_unmatched(b, i);
        unused = b->model->overrides[i].options.given & ~b->overrides[i].used;
        snprintf(parent, sizeof parent, "/model/overrides/%d", i);
        if (unused != 0)
            return refuse_unused(b, parent, "the layers that the override names", unused);
    }
    return 0;
}
