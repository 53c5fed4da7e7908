/* Group normalization (Wu and He 2018): out = gamma * (in - mean) / sqrt(var + epsilon) + beta; mean and (biased) variance are
 * those of one image's group of neighbouring channels, in training as in evaluation. */
#include <math.h>

#include "server/backend/ref/ref.h"

/* One group of one image: its values are neighbours in memory. */
struct group {
    size_t at, count; /* first value, values */
    size_t pixels;
    int channel; /* the first one */
    double mean, inverse;
};

static struct group find(const struct ref_call *call, int image, int g) {
    const struct graph_node *node = call->node;
    int channels = node->out.c / node->window.groups;
    struct group group = {.pixels = (size_t)node->out.h * (size_t)node->out.w, .channel = g * channels};
    group.at = ((size_t)image * (size_t)node->out.c + (size_t)group.channel) * group.pixels;
    group.count = (size_t)channels * group.pixels;
    const float *in = call->in[0] + group.at;
    double var = 0.0;
    for (size_t k = 0; k < group.count; k++)
        group.mean += (double)in[k];
    group.mean /= (double)group.count;
    for (size_t k = 0; k < group.count; k++)
        var += ((double)in[k] - group.mean) * ((double)in[k] - group.mean);
    group.inverse = 1.0 / sqrt(var / (double)group.count + node->epsilon);
    return group;
}

void ref_group_norm_forward(const struct ref_call *call) {
    for (int image = 0; image < call->n; image++)
        for (int g = 0; g < call->node->window.groups; g++) {
            struct group group = find(call, image, g);
            for (size_t k = 0; k < group.count; k++) {
                size_t c = (size_t)group.channel + k / group.pixels;
                double x = ((double)call->in[0][group.at + k] - group.mean) * group.inverse;
                call->out[group.at + k] = (float)(x * (double)call->value[0][c] + (double)call->value[1][c]);
            }
        }
}

/* With x' = (in - mean) / sd and h = gamma g: d beta = sum g, d gamma = sum g x', d in = (h - mean(h) - x' mean(h x')) / sd. */
static void backward_group(const struct ref_call *call, const struct group *group) {
    double sum_h = 0.0, sum_hx = 0.0;
    for (size_t k = 0; k < group->count; k++) {
        size_t c = (size_t)group->channel + k / group->pixels;
        double x = ((double)call->in[0][group->at + k] - group->mean) * group->inverse;
        double g = (double)call->out_grad[group->at + k], h = g * (double)call->value[0][c];
        call->gradient[0][c] = (float)((double)call->gradient[0][c] + g * x);
        call->gradient[1][c] = (float)((double)call->gradient[1][c] + g);
        sum_h += h;
        sum_hx += h * x;
    }
    double count = (double)group->count;
    for (size_t k = 0; k < group->count && call->in_grad[0] != NULL; k++) {
        size_t c = (size_t)group->channel + k / group->pixels;
        double x = ((double)call->in[0][group->at + k] - group->mean) * group->inverse;
        double h = (double)call->out_grad[group->at + k] * (double)call->value[0][c];
        float *to = &call->in_grad[0][group->at + k];
        *to = (float)((double)*to + group->inverse * (h - sum_h / count - x * sum_hx / count));
    }
}

void ref_group_norm_backward(const struct ref_call *call) {
    for (int c = 0; c < call->node->out.c; c++)
        call->gradient[0][c] = call->gradient[1][c] = 0.0f;
    for (int image = 0; image < call->n; image++)
        for (int g = 0; g < call->node->window.groups; g++) {
            struct group group = find(call, image, g);
            backward_group(call, &group);
        }
}
