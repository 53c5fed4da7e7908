/* Makes a convolution's primitives for a batch size and runs them. The full batch and the smaller last ones of the training and
 * the test set each have their set of primitives over the same weights; the set unused for longest makes room for another. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/onednn/conv.h"

void conv_set_done(struct conv_set *set) {
    for (int pass = 0; pass < PASSES; pass++) {
        if (set->primitives[pass])
            dnnl_primitive_destroy(set->primitives[pass]);
        for (int i = 0; i < ARGS; i++)
            if (set->memory[pass][i])
                dnnl_memory_destroy(set->memory[pass][i]);
    }
    *set = (struct conv_set){0};
}

/* Makes the plan's scratchpad at least so large. */
static int need_scratch(struct backend_plan *plan, size_t size, struct err *err) {
    if (size <= plan->scratch_size)
        return 0;
    void *grown = arena_pages(size);
    if (!grown)
        return err_set(err, ERR_MEMORY, "out of memory: %zu bytes for oneDNN's scratchpad; use a smaller batch", size);
    free(plan->scratch);
    plan->scratch = grown;
    plan->scratch_size = size;
    return 0;
}

static int wrap(struct backend_plan *plan, const_dnnl_primitive_desc_t pd, dnnl_query_t what, void *data, dnnl_memory_t *ret,
                struct err *err) {
    struct compat_desc desc = {0};
    if (compat_query(pd, what, &desc, err) != 0)
        return -1;
    int rc = compat_memory(plan->backend->engine, &desc, data, ret, err);
    compat_desc_done(&desc);
    return rc;
}

/* Where the tensors of a pass lie. */
static void find_data(const struct backend_plan *plan, const struct unit *unit, enum compat_pass pass, void *ret[ARGS]) {
    const struct conv *conv = unit->conv;
    bool dense = conv->mode == MODE_DENSE;
    void *images = conv->type == dnnl_bf16 ? (void *)plan->images_bf16 : (void *)plan->images;
    void *in = pass == PASS_DATA ? plan_data(plan, unit->input_grads[0]) : plan_value(plan, unit->inputs[0]);
    void *out = pass == PASS_FORWARD ? plan_value(plan, unit->out) : plan_data(plan, unit->grads[0]);
    ret[ARG_SRC] = dense ? plan->plain[0] : conv->mode == MODE_IMAGES ? images : in;
    ret[ARG_DST] = dense ? plan->plain[1] : out;
    ret[ARG_WEIGHTS] = conv->weights[pass].data;
    float *bias = conv->offset ? conv->offset : params_value(plan, unit->node, ROLE_BIAS);
    ret[ARG_BIAS] = pass == PASS_WEIGHTS ? params_gradient(plan, unit->node, ROLE_BIAS) : bias;
    ret[ARG_SCRATCH] = plan->scratch;
}

static const dnnl_query_t queries[PASSES][ARGS] = {
    [PASS_FORWARD] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_undef, dnnl_query_dst_md, dnnl_query_scratchpad_md},
    [PASS_DATA] = {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_undef, dnnl_query_diff_dst_md,
                   dnnl_query_scratchpad_md},
    [PASS_WEIGHTS] = {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_undef, dnnl_query_diff_dst_md,
                      dnnl_query_scratchpad_md}};

static int make_memory(struct backend_plan *plan, const struct unit *unit, enum compat_pass pass, const_dnnl_primitive_desc_t pd,
                       dnnl_memory_t *memory, struct err *err) {
    struct compat_desc desc = {0};
    dnnl_dims_t channels = {unit->conv->out.c};
    void *data[ARGS];
    if (compat_query(pd, dnnl_query_scratchpad_md, &desc, err) != 0)
        return -1;
    int rc = need_scratch(plan, compat_desc_size(&desc), err);
    compat_desc_done(&desc);
    find_data(plan, unit, pass, data);
    for (int i = 0; i < ARGS && rc == 0; i++)
        if (i != ARG_BIAS)
            rc = wrap(plan, pd, queries[pass][i], data[i], &memory[i], err);
    if (rc == 0 && unit->conv->bias && pass != PASS_DATA) {
        rc = compat_desc_init(&desc, 1, channels, dnnl_f32, dnnl_a, err);
        if (rc == 0)
            rc = compat_memory(plan->backend->engine, &desc, data[ARG_BIAS], &memory[ARG_BIAS], err);
        compat_desc_done(&desc);
    }
    return rc;
}

static int make_set(struct backend_plan *plan, const struct unit *unit, struct conv_set *set, int n, struct err *err) {
    struct conv *conv = unit->conv;
    dnnl_primitive_desc_t hint = NULL, pd = NULL;
    int rc = 0;
    for (int pass = 0; pass < PASSES && rc == 0; pass++) {
        if (!conv->wanted[pass])
            continue;
        dnnl_status_t status = conv_pd(plan, conv, (enum compat_pass)pass, n, &conv->weights[pass].desc, hint, &pd, err);
        rc = compat_check(status, "plan a convolution", err);
        if (rc == 0)
            rc = compat_check(dnnl_primitive_create(&set->primitives[pass], pd), "create a convolution", err);
        if (rc == 0)
            rc = make_memory(plan, unit, (enum compat_pass)pass, pd, set->memory[pass], err);
        if (pass == PASS_FORWARD)
            hint = pd;
        else if (pd)
            dnnl_primitive_desc_destroy(pd);
        pd = NULL;
    }
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    if (rc != 0)
        conv_set_done(set);
    else
        set->n = n;
    return rc;
}

int conv_prepare(struct backend_plan *plan, struct unit *unit, int n, struct err *err) {
    struct conv *conv = unit->conv;
    struct conv_set *oldest = &conv->sets[0];
    size_t threads = (size_t)plan->backend->threads;
    conv->set = NULL;
    if (conv->own && need_scratch(plan, own_scratch(plan, conv), err) != 0)
        return -1;
    if (conv->own_weights &&
        need_scratch(plan, threads * wgrad_scratch(&conv->wgrad) + wgrad_partials(&conv->wgrad, (int)threads), err) != 0)
        return -1;
    if (conv->own)
        return 0;
    for (int i = 0; i < CONV_SETS && !conv->set; i++) {
        if (conv->sets[i].n == n)
            conv->set = &conv->sets[i];
        if (conv->sets[i].used < oldest->used)
            oldest = &conv->sets[i];
    }
    if (!conv->set) {
        conv_set_done(oldest);
        if (make_set(plan, unit, oldest, n, err) != 0)
            return -1;
        conv->set = oldest;
    }
    conv->set->used = ++plan->use_count;
    return 0;
}

static int execute(struct backend_plan *plan, const struct conv *conv, enum compat_pass pass, struct err *err) {
    static const int names[PASSES][ARGS] = {
        [PASS_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD},
        [PASS_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD},
        [PASS_WEIGHTS] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST, DNNL_ARG_SCRATCHPAD}};
    dnnl_memory_t const *memory = conv->set->memory[pass];
    dnnl_exec_arg_t args[ARGS];
    int n = 0;
    /* the scratchpad may have moved since the set was made */
    if (compat_check(dnnl_memory_set_data_handle(memory[ARG_SCRATCH], plan->scratch), "place a scratchpad", err) != 0)
        return -1;
    for (int i = 0; i < ARGS; i++)
        if (memory[i])
            args[n++] = (dnnl_exec_arg_t){names[pass][i], memory[i]};
    return compat_check(dnnl_primitive_execute(conv->set->primitives[pass], plan->backend->stream, n, args), "run a convolution",
                        err);
}

static int reorder(struct backend_plan *plan, const struct conv_weights *weights, struct err *err) {
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, weights->from}, {DNNL_ARG_TO, weights->to}};
    if (!weights->reorder)
        return 0;
    return compat_check(dnnl_primitive_execute(weights->reorder, plan->backend->stream, 2, args), "reorder weights", err);
}

static void pack(const struct backend_plan *plan, const struct conv *conv, const struct conv_weights *weights,
                 const float *master) {
    size_t block = (size_t)plan->lanes * (size_t)plan->lanes, count = compat_desc_size(&conv->master) / sizeof(float);
    bool half = weights->pack != PACK_TURNED;
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < count; at += block)
        plan->backend->kernels->pack(element(weights->data, at, half), master + at, weights->pack);
}

/* Takes the norm behind into weights and bias: scale (w * x + bias - mean) + beta, where scale = gamma / sd. */
static void fold(const struct backend_plan *plan, const struct unit *unit) {
    const struct conv *conv = unit->conv;
    const float *gamma = params_value(plan, unit->folded, ROLE_GAMMA), *beta = params_value(plan, unit->folded, ROLE_BETA);
    const float *mean = params_value(plan, unit->folded, ROLE_RUNNING_MEAN);
    const float *var = params_value(plan, unit->folded, ROLE_RUNNING_VAR);
    const float *bias = params_value(plan, unit->node, ROLE_BIAS), *weights = params_value(plan, unit->node, ROLE_WEIGHT);
    size_t lanes = conv->blocked_weights ? (size_t)plan->lanes : 1, channels = (size_t)conv->out.c;
    size_t blocks = round_up(channels, lanes) / lanes;
    size_t size = compat_desc_size(&conv->master) / sizeof(float) / blocks / lanes;
#pragma omp parallel for schedule(static)
    for (size_t c = 0; c < channels; c++) {
        double scale = (double)gamma[c] / sqrt((double)var[c] + plan->nodes[unit->folded].epsilon);
        conv->offset[c] = (float)((double)beta[c] + scale * ((bias ? (double)bias[c] : 0.0) - (double)mean[c]));
        size_t first = c / lanes * lanes * size + c % lanes; /* its weights are size values, lanes apart */
        for (size_t k = 0; k < size; k++)
            conv->scaled[first + k * lanes] = (float)(scale * (double)weights[first + k * lanes]);
    }
}

int conv_pack(struct backend_plan *plan, struct unit *unit, struct err *err) {
    const float *master = unit->conv->scaled ? unit->conv->scaled : params_value(plan, unit->node, ROLE_WEIGHT);
    if (unit->conv->scaled)
        fold(plan, unit);
    if (unit->conv->own) {
        own_pack(plan, unit, master);
        return 0;
    }
    for (int pass = PASS_FORWARD; pass <= PASS_DATA; pass++) {
        const struct conv_weights *weights = &unit->conv->weights[pass];
        if (weights->pack != PACK_NONE)
            pack(plan, unit->conv, weights, master);
        else if (reorder(plan, weights, err) != 0)
            return -1;
    }
    return 0;
}

/* Our own weight gradient; the scratchpad is as large as conv_prepare saw to. */
static void pixel_weights(struct backend_plan *plan, const struct unit *unit, int n) {
    const struct conv *conv = unit->conv;
    int threads = plan->backend->threads;
    char *partials = (char *)plan->scratch + (size_t)threads * wgrad_scratch(&conv->wgrad);
    wgrad_run(&conv->wgrad, params_gradient(plan, unit->node, ROLE_WEIGHT), plan_value(plan, unit->inputs[0]),
              plan_data(plan, unit->grads[0]), n, threads, plan->scratch, (float *)(void *)partials);
}

int conv_forward(struct backend_plan *plan, struct unit *unit, int n, struct err *err) {
    const struct conv *conv = unit->conv;
    bool dense = conv->mode == MODE_DENSE, bf16 = conv->type == dnnl_bf16;
    if (conv->own) {
        own_forward(plan, unit, n);
        return 0;
    }
    if (dense)
        layout_unblock(plan, plan->plain[0], bf16, plan_value(plan, unit->inputs[0]), &conv->in, n);
    if (dense && conv->sum)
        layout_unblock(plan, plan->plain[1], bf16, plan_value(plan, unit->out), &conv->out, n);
    if (execute(plan, conv, PASS_FORWARD, err) != 0)
        return -1;
    if (dense)
        layout_block(plan, plan_value(plan, unit->out), plan->plain[1], bf16, &conv->out, n);
    return 0;
}

int conv_backward(struct backend_plan *plan, struct unit *unit, int n, struct err *err) {
    const struct conv *conv = unit->conv;
    bool dense = conv->mode == MODE_DENSE, bf16 = conv->type == dnnl_bf16;
    if (dense) {
        layout_unblock(plan, plan->plain[0], bf16, plan_value(plan, unit->inputs[0]), &conv->in, n);
        layout_unblock(plan, plan->plain[1], bf16, plan_data(plan, unit->grads[0]), &conv->out, n);
    }
    if (conv->own)
        own_weights(plan, unit, n);
    else if (conv->own_weights)
        pixel_weights(plan, unit, n);
    else if (execute(plan, conv, PASS_WEIGHTS, err) != 0 || reorder(plan, &conv->weights[PASS_WEIGHTS], err) != 0)
        return -1;
    if (!conv->wanted[PASS_DATA])
        return 0;
    if (conv->own) {
        own_data(plan, unit, n);
        return 0;
    }
    if (execute(plan, conv, PASS_DATA, err) != 0)
        return -1;
    if (dense)
        layout_block(plan, plan_data(plan, unit->input_grads[0]), plan->plain[0], bf16, &conv->in, n);
    return 0;
}
