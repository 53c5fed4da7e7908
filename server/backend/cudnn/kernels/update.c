/* Kernels over the flat buffers of parameters: norms, clipping, the optimizer, bf16 copies. A block takes a chunk. */
#include "server/backend/cudnn/kernels/access.h"

/* The sum over the threads of a block; in parts[0] after the last phase. */
#define ADD_THREADS(parts)                                        \
    for (uint32_t half = KERNEL_THREADS / 2; half > 0; half /= 2) \
        PHASE(thread) {                                           \
            if (thread < half)                                    \
                (parts)[thread] += (parts)[thread + half];        \
        }

FUNCTION const void *chunk_gradient(const void *region, const struct kernel_chunk *chunk) {
    return (const char *)region + chunk->gradient;
}

/* --- norms and clipping --- */

KERNEL(gradient_norms) {
    SHARED(double, parts, [KERNEL_THREADS]);
    for (int32_t number = (int32_t)launch->block_x; number < p->chunks_n; number += (int32_t)launch->blocks_x) {
        const struct kernel_chunk *chunk = &p->chunks[number];
        PHASE(thread) {
            double sum = 0;
            for (int32_t k = (int32_t)thread; k < chunk->count && chunk->gradient >= 0; k += KERNEL_THREADS) {
                double g = (double)load(chunk_gradient(p->gradient, chunk), k, chunk->narrow);
                sum += g * g;
            }
            parts[thread] = sum;
        }
        ADD_THREADS(parts)
        PHASE(thread) {
            if (thread == 0)
                p->partial[(int64_t)number * 3] = parts[0];
        }
    }
}

/* The sum of one of a parameter's partial sums over its chunks. */
FUNCTION double sum_chunks(const struct kernel_param *param, const double *partial, int32_t which) {
    double sum = 0;
    UNROLLED(16) /* a large weight has hundreds, and one thread waits for them */
    for (int32_t k = 0; k < param->chunks; k++)
        sum += partial[((int64_t)param->first_chunk + k) * 3 + which];
    return sum;
}

/* What gradients are multiplied by; NaN when one of them is, so that the loss shows it. */
FUNCTION float clip_of(float clip_norm, double norm) {
    float factor = (float)((double)clip_norm / (norm + 1e-6));
    return !(clip_norm > 0) || factor > 1 ? 1 : factor;
}

KERNEL(gradient_clip) {
    SHARED(double, parts, [KERNEL_THREADS]);
    if (launch->block_x > 0)
        return;
    PHASE(thread) {
        double sum = 0;
        for (int32_t param = (int32_t)thread; param < p->params_n; param += KERNEL_THREADS) {
            double squares = sum_chunks(&p->params[param], p->partial, 0);
            p->statistics[param].gradient = sqrt(squares);
            sum += squares;
        }
        parts[thread] = sum;
    }
    ADD_THREADS(parts)
    PHASE(thread) {
        if (thread == 0) {
            p->result->gradient_norm = sqrt(parts[0]);
            p->result->clip = clip_of(p->step->clip_norm, sqrt(parts[0]));
        }
    }
}

KERNEL(update_norms) {
    PHASE(thread) {
        for (int64_t param = first_element(launch, thread); param < p->params_n; param += stride(launch)) {
            p->statistics[param].weight = sqrt(sum_chunks(&p->params[param], p->partial, 1));
            p->statistics[param].update = sqrt(sum_chunks(&p->params[param], p->partial, 2));
        }
    }
}

/* --- optimizers: the formulas of struct backend_optimizer --- */

/* What an optimizer remembers of one value. */
struct state {
    float momentum, square;
};

FUNCTION float sgd(const struct kernel_step *step, struct state *state, float w, float g) {
    state->momentum = step->momentum * state->momentum + g;
    return w - step->lr * (step->nesterov ? g + step->momentum * state->momentum : state->momentum);
}

/* Kingma and Ba 2015 */
FUNCTION float adam(const struct kernel_step *step, struct state *state, float w, float g) {
    state->momentum = step->beta1 * state->momentum + (1 - step->beta1) * g;
    state->square = step->beta2 * state->square + (1 - step->beta2) * (g * g);
    return w - step->lr * (state->momentum / step->correction1) / (sqrtf(state->square / step->correction2) + step->epsilon);
}

/* Tieleman and Hinton 2012, with PyTorch's momentum */
FUNCTION float rmsprop(const struct kernel_step *step, struct state *state, float w, float g) {
    state->square = step->alpha * state->square + (1 - step->alpha) * (g * g);
    state->momentum = step->momentum * state->momentum + g / (sqrtf(state->square) + step->epsilon);
    return w - step->lr * state->momentum;
}

/* The new value of w with gradient g, clipped. */
FUNCTION float moved(const struct kernel_step *step, float decay, struct state *state, float w, float g) {
    switch (step->optimizer) {
    case KERNEL_ADAM:
        return adam(step, state, w, g + decay * w);
    case KERNEL_ADAMW: /* Loshchilov and Hutter 2019: the decay is not part of the gradient */
        return adam(step, state, w - step->lr * decay * w, g);
    case KERNEL_RMSPROP:
        return rmsprop(step, state, w, g + decay * w);
    }
    return sgd(step, state, w, g + decay * w);
}

/* What a value was and what was added to it. */
struct change {
    float before, update;
};

/* Updates value number k of a chunk. */
FUNCTION struct change update_value(const struct kernel_update *p, const struct kernel_step *step,
                                    const struct kernel_chunk *chunk, float clip, int32_t k) {
    int64_t at = chunk->first + k;
    float g = load(chunk_gradient(p->gradient, chunk), k, chunk->narrow) * clip;
    float decay = chunk->decays || !step->decay_weights_only ? step->weight_decay : 0;
    struct state state = {p->momentum ? p->momentum[at] : 0, p->square ? p->square[at] : 0};
    struct change change;
    change.before = p->master[at];
    p->master[at] = moved(step, decay, &state, change.before, g);
    change.update = p->master[at] - change.before;
    if (p->momentum)
        p->momentum[at] = state.momentum;
    if (p->square)
        p->square[at] = state.square;
    if (p->working && chunk->working >= 0)
        store((char *)p->working + chunk->working, k, 1, p->master[at]);
    return change;
}

/* A running statistic is not updated; but everything is averaged. */
KERNEL(update) {
    SHARED(double, weights, [KERNEL_THREADS]);
    SHARED(double, updates, [KERNEL_THREADS]);
    for (int32_t number = (int32_t)launch->block_x; number < p->chunks_n; number += (int32_t)launch->blocks_x) {
        PHASE(thread) {
            /* Copies: what is read through an address, a compiler would read again after each value that is written. */
            const struct kernel_chunk own = p->chunks[number], *chunk = &own;
            const struct kernel_step step = *p->step;
            float decay = step.average_decay, clip = p->result->clip;
            double weight = 0, update = 0;
            for (int32_t k = (int32_t)thread; k < chunk->count; k += KERNEL_THREADS) {
                struct change change = {0, 0};
                if (chunk->gradient >= 0)
                    change = update_value(p, &step, chunk, clip, k);
                weight += (double)change.before * (double)change.before;
                update += (double)change.update * (double)change.update;
                if (p->average)
                    p->average[chunk->first + k] =
                        decay * p->average[chunk->first + k] + (1 - decay) * p->master[chunk->first + k];
            }
            weights[thread] = weight;
            updates[thread] = update;
        }
        ADD_THREADS(weights)
        ADD_THREADS(updates)
        PHASE(thread) {
            if (thread == 0) {
                p->partial[(int64_t)number * 3 + 1] = weights[0];
                p->partial[(int64_t)number * 3 + 2] = updates[0];
            }
        }
    }
}

KERNEL(narrow) {
    PHASE(thread) {
        for (int32_t number = (int32_t)launch->block_x; number < p->chunks_n; number += (int32_t)launch->blocks_x) {
            const struct kernel_chunk *chunk = &p->chunks[number];
            for (int32_t k = (int32_t)thread; k < chunk->count && chunk->working >= 0; k += KERNEL_THREADS)
                store((char *)p->working + chunk->working, k, 1, p->master[chunk->first + k]);
        }
    }
}
