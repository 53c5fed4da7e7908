/* Ops that move or join values without learning: add, concat, shortcut, flatten, dropout. */
#include <string.h>

#include "common/rng.h"
#include "server/backend/ref/ref.h"

void ref_add_forward(const struct ref_call *call) {
    size_t count = (size_t)call->n * ref_count(call->node->out);
    for (size_t k = 0; k < count; k++) {
        double sum = 0.0;
        for (int i = 0; i < call->node->inputs_n; i++)
            sum += (double)call->in[i][k];
        call->out[k] = (float)sum;
    }
}

void ref_add_backward(const struct ref_call *call) {
    size_t count = (size_t)call->n * ref_count(call->node->out);
    for (int i = 0; i < call->node->inputs_n; i++)
        for (size_t k = 0; k < count && call->in_grad[i] != NULL; k++)
            call->in_grad[i][k] += call->out_grad[k];
}

/* Of one image: input i starts at value number `at` of the output. */
void ref_concat_forward(const struct ref_call *call) {
    size_t whole = ref_count(call->node->out), at = 0;
    for (int i = 0; i < call->node->inputs_n; i++) {
        size_t part = ref_count(call->in_shape[i]);
        for (size_t image = 0; image < (size_t)call->n; image++)
            memcpy(call->out + image * whole + at, call->in[i] + image * part, part * sizeof(float));
        at += part;
    }
}

void ref_concat_backward(const struct ref_call *call) {
    size_t whole = ref_count(call->node->out), at = 0;
    for (int i = 0; i < call->node->inputs_n; i++) {
        size_t part = ref_count(call->in_shape[i]);
        for (size_t image = 0; image < (size_t)call->n && call->in_grad[i] != NULL; image++)
            for (size_t k = 0; k < part; k++)
                call->in_grad[i][image * part + k] += call->out_grad[image * whole + at + k];
        at += part;
    }
}

/* The input pixel that output pixel (c, y, x) of an image copies; c is a channel of the input. */
static size_t shortcut_source(const struct ref_call *call, int image, int c, int y, int x) {
    struct graph_shape in = call->in_shape[0];
    size_t row = ((size_t)image * (size_t)in.c + (size_t)c) * (size_t)in.h + (size_t)(y * call->node->window.stride_h);
    return row * (size_t)in.w + (size_t)(x * call->node->window.stride_w);
}

void ref_shortcut_forward(const struct ref_call *call) {
    struct graph_shape out = call->node->out;
    float *to = call->out;
    for (int image = 0; image < call->n; image++)
        for (int c = 0; c < out.c; c++)
            for (int y = 0; y < out.h; y++)
                for (int x = 0; x < out.w; x++)
                    *to++ = c < call->in_shape[0].c ? call->in[0][shortcut_source(call, image, c, y, x)] : 0.0f;
}

void ref_shortcut_backward(const struct ref_call *call) {
    struct graph_shape out = call->node->out;
    if (call->in_grad[0] == NULL)
        return;
    const float *from = call->out_grad;
    for (int image = 0; image < call->n; image++)
        for (int c = 0; c < out.c; c++)
            for (int y = 0; y < out.h; y++)
                for (int x = 0; x < out.w; x++, from++)
                    if (c < call->in_shape[0].c)
                        call->in_grad[0][shortcut_source(call, image, c, y, x)] += *from;
}

/* Dense N,C,H,W is flat already. */
void ref_flatten_forward(const struct ref_call *call) {
    memcpy(call->out, call->in[0], (size_t)call->n * ref_count(call->node->out) * sizeof(float));
}

void ref_flatten_backward(const struct ref_call *call) {
    size_t count = (size_t)call->n * ref_count(call->node->out);
    for (size_t k = 0; k < count && call->in_grad[0] != NULL; k++)
        call->in_grad[0][k] += call->out_grad[k];
}

/* What value number k of an image is multiplied by: 0 when dropped, else 1 / (1 - rate). Keys: backend.h. */
static double dropout_factor(const struct ref_call *call, int image, size_t k) {
    const struct backend_batch *batch = call->batch;
    uint32_t words[4], place = batch->epoch | (uint32_t)call->index << 16;
    rng_block(batch->seed, RNG_DROPOUT, place, batch->samples[image], (uint32_t)(k / 4), words);
    return rng_unit(words[k % 4]) < (float)call->node->rate ? 0.0 : 1.0 / (1.0 - call->node->rate);
}

void ref_dropout_forward(const struct ref_call *call) {
    size_t count = ref_count(call->node->out);
    for (int image = 0; image < call->n; image++)
        for (size_t k = 0; k < count; k++) {
            size_t at = (size_t)image * count + k;
            call->out[at] = call->training ? (float)((double)call->in[0][at] * dropout_factor(call, image, k)) : call->in[0][at];
        }
}

void ref_dropout_backward(const struct ref_call *call) {
    size_t count = ref_count(call->node->out);
    for (int image = 0; image < call->n && call->in_grad[0] != NULL; image++)
        for (size_t k = 0; k < count; k++) {
            size_t at = (size_t)image * count + k;
            call->in_grad[0][at] += (float)((double)call->out_grad[at] * dropout_factor(call, image, k));
        }
}
