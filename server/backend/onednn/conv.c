/* Chooses layouts and kernels for a convolution. Activations are always blocked (under "any", oneDNN 3.x takes nhwc for strided
 * data gradients, which the neighbours do not read); weights are in whatever layout the kernel asks for. */
#include <stdlib.h>
#include <string.h>

#include "server/backend/onednn/conv.h"

static int tensor_desc(const struct backend_plan *plan, const struct conv *conv, const struct value *value, bool plain, int n,
                       struct compat_desc *ret, struct err *err) {
    dnnl_dims_t dims = {n, value->c, value->h, value->w};
    dnnl_format_tag_t blocked = plan->lanes == 16 ? dnnl_nChw16c : dnnl_nChw8c;
    return compat_desc_init(ret, 4, dims, conv->type, plain ? dnnl_nchw : blocked, err);
}

static int weights_desc(const struct conv *conv, dnnl_data_type_t type, dnnl_format_tag_t tag, struct compat_desc *ret,
                        struct err *err) {
    return compat_desc_init(ret, conv->groups > 1 ? 5 : 4, conv->weight_dims, type, tag, err);
}

dnnl_status_t conv_pd(const struct backend_plan *plan, const struct conv *conv, enum compat_pass pass, int n,
                      const struct compat_desc *weights, const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *ret_pd,
                      struct err *err) {
    struct compat_conv call = {.weights = *weights, .inference = conv->inference};
    call.sum = conv->sum;
    call.relu = conv->relu;
    dnnl_status_t status = dnnl_out_of_memory;
    dnnl_dims_t channels = {conv->out.c};
    memcpy(call.stride, conv->stride, sizeof call.stride);
    memcpy(call.dilation, conv->dilation, sizeof call.dilation);
    memcpy(call.pad, conv->pad, sizeof call.pad);
    if (tensor_desc(plan, conv, &conv->in, conv->mode != MODE_BLOCKED, n, &call.src, err) == 0 &&
        tensor_desc(plan, conv, &conv->out, conv->mode == MODE_DENSE, n, &call.dst, err) == 0 &&
        (!conv->bias || compat_desc_init(&call.bias, 1, channels, dnnl_f32, dnnl_a, err) == 0))
        status = compat_conv_pd(plan->backend->engine, &call, pass, hint, ret_pd);
    compat_desc_done(&call.src);
    compat_desc_done(&call.dst);
    compat_desc_done(&call.bias);
    return status;
}

static bool is_reference(const_dnnl_primitive_desc_t pd) {
    return strncmp(compat_kernel(pd), "ref", 3) == 0;
}

static void destroy_pds(dnnl_primitive_desc_t *pds) {
    for (int i = 0; i < PASSES; i++) {
        if (pds[i])
            dnnl_primitive_desc_destroy(pds[i]);
        pds[i] = NULL;
    }
}

/* Finds kernels for every wanted pass, with gradients of weights straight into the master layout if some kernel can. A pass left
 * NULL has none. */
static int find_kernels(const struct backend_plan *plan, struct conv *conv, dnnl_primitive_desc_t *pds, struct err *err) {
    struct compat_desc any = {0}, any_f32 = {0};
    if (weights_desc(conv, conv->type, dnnl_format_tag_any, &any, err) != 0 ||
        weights_desc(conv, dnnl_f32, dnnl_format_tag_any, &any_f32, err) != 0) {
        compat_desc_done(&any);
        return -1;
    }
    conv_pd(plan, conv, PASS_FORWARD, conv->batch, &any, NULL, &pds[PASS_FORWARD], err);
    if (pds[PASS_FORWARD] && conv->wanted[PASS_DATA])
        conv_pd(plan, conv, PASS_DATA, conv->batch, &any, pds[PASS_FORWARD], &pds[PASS_DATA], err);
    dnnl_primitive_desc_t *last = &pds[PASS_WEIGHTS];
    if (pds[PASS_FORWARD] && conv->wanted[PASS_WEIGHTS]) {
        conv_pd(plan, conv, PASS_WEIGHTS, conv->batch, &conv->master, pds[PASS_FORWARD], last, err);
        if (*last && is_reference(*last)) {
            dnnl_primitive_desc_destroy(*last);
            *last = NULL;
        }
        if (!*last)
            conv_pd(plan, conv, PASS_WEIGHTS, conv->batch, &any_f32, pds[PASS_FORWARD], last, err);
    }
    compat_desc_done(&any);
    compat_desc_done(&any_f32);
    return 0;
}

/* 2: fast kernels for all wanted passes; 1: some are oneDNN's slow reference; 0: some are missing. */
static int quality(const struct conv *conv, const dnnl_primitive_desc_t *pds) {
    int worst = 2;
    for (int i = 0; i < PASSES; i++)
        if (conv->wanted[i]) {
            int this = !pds[i] ? 0 : is_reference(pds[i]) ? 1 : 2;
            worst = this < worst ? this : worst;
        }
    return worst;
}

/* Tries the modes in order of speed and keeps the first that has fast kernels, or failing that the first that works at all. */
static int choose_mode(const struct backend_plan *plan, struct conv *conv, bool reads_images, dnnl_primitive_desc_t *pds,
                       struct err *err) {
    bool few = conv->groups == 1 && (conv->in.c == 1 || conv->in.c == 3);
    enum conv_mode modes[] = {MODE_IMAGES, MODE_BLOCKED, MODE_DENSE};
    for (int wanted = 2; wanted >= 1; wanted--)
        for (int i = reads_images && few ? 0 : 1; i < PASSES; i++) {
            conv->mode = modes[i];
            if (find_kernels(plan, conv, pds, err) != 0)
                return -1;
            if (quality(conv, pds) >= wanted)
                return 0;
            destroy_pds(pds);
        }
    return err_set(err, ERR_BACKEND, "oneDNN has no convolution for %dx%dx%d to %dx%dx%d with %d groups in this precision",
                   conv->in.c, conv->in.h, conv->in.w, conv->out.c, conv->out.h, conv->out.w, conv->groups);
}

/* The layouts that oneDNN asks for on a CPU with AVX-512, which we fill faster than its reorder. */
static int find_pack(const struct backend_plan *plan, const struct conv *conv, struct conv_weights *weights, struct err *err) {
    const struct {
        dnnl_data_type_t type;
        dnnl_format_tag_t tag;
        enum pack_kind kind;
    } known[] = {{dnnl_f32, plan->lanes == 16 ? dnnl_OIhw16o16i : dnnl_OIhw8o8i, PACK_TURNED},
                 {dnnl_bf16, dnnl_OIhw8i16o2i, PACK_PAIRS},
                 {dnnl_bf16, dnnl_OIhw8o16i2o, PACK_TURNED_PAIRS}};
    weights->pack = PACK_NONE;
    for (size_t i = 0; i < sizeof known / sizeof *known && conv->blocked_weights; i++) {
        struct compat_desc desc = {0};
        if (weights_desc(conv, known[i].type, known[i].tag, &desc, err) != 0)
            return -1;
        if (compat_desc_equal(&desc, &weights->desc))
            weights->pack = known[i].kind;
        compat_desc_done(&desc);
    }
    return 0;
}

static int make_reorder(struct backend_plan *plan, struct conv *conv, enum compat_pass pass, float *master, struct err *err) {
    struct conv_weights *weights = &conv->weights[pass];
    dnnl_engine_t engine = plan->backend->engine;
    bool out = pass == PASS_WEIGHTS; /* from the kernel to the master layout */
    if (!out && find_pack(plan, conv, weights, err) != 0)
        return -1;
    weights->data = arena_block(&plan->arena, compat_desc_size(&weights->desc), err);
    if (!weights->data)
        return -1;
    if (weights->pack != PACK_NONE)
        return 0;
    const struct compat_desc *from = out ? &weights->desc : &conv->master, *to = out ? &conv->master : &weights->desc;
    if (compat_memory(engine, from, out ? weights->data : master, &weights->from, err) != 0 ||
        compat_memory(engine, to, out ? master : weights->data, &weights->to, err) != 0)
        return -1;
    return compat_reorder(engine, from, to, &weights->reorder, err);
}

static int make_weights(struct backend_plan *plan, struct conv *conv, int node, const dnnl_primitive_desc_t *pds,
                        struct err *err) {
    for (int pass = 0; pass < PASSES; pass++) {
        if (!pds[pass])
            continue;
        struct conv_weights *weights = &conv->weights[pass];
        float *values = conv->scaled ? conv->scaled : params_value(plan, node, ROLE_WEIGHT);
        float *master = pass == PASS_WEIGHTS ? params_gradient(plan, node, ROLE_WEIGHT) : values;
        dnnl_query_t what = pass == PASS_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
        if (compat_query(pds[pass], what, &weights->desc, err) != 0)
            return -1;
        weights->data = master;
        if (!compat_desc_equal(&weights->desc, &conv->master) &&
            make_reorder(plan, conv, (enum compat_pass)pass, master, err) != 0)
            return -1;
    }
    return 0;
}

/* The name of the choices that own_fits and choose_own make. It is part of every job's receipt: raise
 * the number at its end whenever one of them changes, or the arithmetic of a kernel of ours does. */
const char conv_algorithms[] = "winograd-2x2-3x3-f32-bf16-4";

/* Our own kernels, for all passes or for the weight gradient alone: bf16, blocked on both sides. */
static void choose_own(const struct backend_plan *plan, const struct unit *unit, struct conv *conv) {
    const struct graph_node *node = &plan->nodes[unit->node];
    conv->wgrad = (struct wgrad){.in_blocks = conv->in.blocks,
                                 .out_blocks = conv->out.blocks,
                                 .in_h = conv->in.h,
                                 .in_w = conv->in.w,
                                 .out_h = conv->out.h,
                                 .out_w = conv->out.w,
                                 .kernel_h = node->window.kernel_h,
                                 .kernel_w = node->window.kernel_w,
                                 .stride_h = node->window.stride_h,
                                 .stride_w = node->window.stride_w,
                                 .pad_h = node->window.pad_h,
                                 .pad_w = node->window.pad_w};
    conv->own = own_fits(plan, unit, conv);
    conv->own_weights = !conv->own && conv->wanted[PASS_WEIGHTS] && conv->type == dnnl_bf16 && conv->blocked_weights &&
                        !conv->bias && conv->dilation[0] == 0 && conv->dilation[1] == 0 && wgrad_fits(&conv->wgrad);
    if (conv->own_weights)
        conv->wanted[PASS_WEIGHTS] = false;
}

static void describe(const struct backend_plan *plan, const struct unit *unit, struct conv *conv) {
    const struct graph_node *node = &plan->nodes[unit->node];
    int groups = node->window.groups, at = 0;
    conv->in = plan->values[unit->inputs[0]];
    conv->out = plan->values[unit->out];
    conv->batch = plan->options.batch;
    conv->type = plan->options.precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
    conv->groups = groups;
    conv->bias = node->bias || unit->folded >= 0;
    conv->sum = unit->residual;
    conv->relu = unit->relu;
    conv->blocked_weights = params_blocked(plan, unit->node);
    conv->inference = plan->options.use != USE_TRAIN;
    conv->wanted[PASS_FORWARD] = true;
    conv->wanted[PASS_DATA] = !conv->inference && conv->in.needs_grad;
    conv->wanted[PASS_WEIGHTS] = !conv->inference;
    if (groups > 1)
        conv->weight_dims[at++] = groups;
    conv->weight_dims[at++] = conv->out.c / groups;
    conv->weight_dims[at++] = conv->in.c / groups;
    conv->weight_dims[at++] = node->window.kernel_h;
    conv->weight_dims[at] = node->window.kernel_w;
    conv->stride[0] = node->window.stride_h;
    conv->stride[1] = node->window.stride_w;
    conv->dilation[0] = node->window.dilation_h - 1;
    conv->dilation[1] = node->window.dilation_w - 1;
    conv->pad[0] = node->window.pad_h;
    conv->pad[1] = node->window.pad_w;
    choose_own(plan, unit, conv);
}

/* Room for the weights and bias that a folded norm changes. */
static int make_folded(struct backend_plan *plan, const struct unit *unit, struct conv *conv, struct err *err) {
    if (unit->folded < 0)
        return 0;
    conv->scaled = arena_block(&plan->arena, compat_desc_size(&conv->master), err);
    conv->offset = arena_block(&plan->arena, (size_t)conv->out.blocks * (size_t)plan->lanes * sizeof(float), err);
    return conv->scaled && conv->offset ? 0 : -1;
}

static dnnl_format_tag_t master_tag(const struct backend_plan *plan, const struct conv *conv) {
    if (conv->blocked_weights)
        return plan->lanes == 16 ? dnnl_OIhw16i16o : dnnl_OIhw8i8o;
    return conv->groups > 1 ? dnnl_goihw : dnnl_oihw;
}

/* Dense copies are shared by all convolutions that need them: the plan keeps the largest size. */
static void note_dense(struct backend_plan *plan, const struct conv *conv) {
    const struct value *sides[2] = {&conv->in, &conv->out};
    for (int i = 0; i < 2 && conv->mode == MODE_DENSE; i++) {
        size_t size = (size_t)conv->batch * (size_t)sides[i]->c * sides[i]->pixels * (conv->type == dnnl_bf16 ? 2 : 4);
        if (plan->plain_size[i] < size)
            plan->plain_size[i] = size;
    }
}

int conv_new(struct backend_plan *plan, struct unit *unit, struct err *err) {
    dnnl_primitive_desc_t pds[PASSES] = {0};
    struct conv *conv = calloc(1, sizeof *conv);
    if (!conv)
        return err_set(err, ERR_MEMORY, "out of memory while compiling layer '%s'", plan->nodes[unit->node].name);
    unit->conv = conv;
    describe(plan, unit, conv);
    int rc = weights_desc(conv, dnnl_f32, master_tag(plan, conv), &conv->master, err);
    if (rc == 0)
        rc = make_folded(plan, unit, conv, err);
    if (rc == 0 && conv->own)
        return own_new(plan, conv, err);
    if (rc == 0)
        rc = choose_mode(plan, conv, unit->inputs[0] == 0, pds, err);
    if (rc == 0)
        rc = make_weights(plan, conv, unit->node, pds, err);
    if (rc == 0)
        note_dense(plan, conv);
    destroy_pds(pds);
    return rc;
}

bool conv_can_norm(const struct conv *conv) {
    return conv->own;
}

bool conv_reads_images(const struct conv *conv) {
    return conv->mode == MODE_IMAGES;
}

void conv_free(struct conv *conv) {
    if (!conv)
        return;
    for (int i = 0; i < CONV_SETS; i++)
        conv_set_done(&conv->sets[i]);
    for (int i = 0; i < PASSES; i++) {
        struct conv_weights *weights = &conv->weights[i];
        compat_desc_done(&weights->desc);
        if (weights->reorder)
            dnnl_primitive_destroy(weights->reorder);
        if (weights->from)
            dnnl_memory_destroy(weights->from);
        if (weights->to)
            dnnl_memory_destroy(weights->to);
    }
    compat_desc_done(&conv->master);
    free(conv);
}
