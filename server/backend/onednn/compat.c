/* Bridges oneDNN 2.x (operation descriptors, plain memory descriptors) and 3.x (neither). */
#include "server/backend/onednn/compat.h"

static const char *status_text(dnnl_status_t status) {
    if (status == dnnl_out_of_memory)
        return "out of memory";
    if (status == dnnl_unimplemented)
        return "not implemented for this shape";
    return status == dnnl_invalid_arguments ? "invalid arguments" : "runtime error";
}

int compat_check(dnnl_status_t status, const char *what, struct err *err) {
    if (status == dnnl_success)
        return 0;
    enum err_code code = status == dnnl_out_of_memory ? ERR_MEMORY : ERR_BACKEND;
    return err_set(err, code, "oneDNN could not %s: %s (status %d)", what, status_text(status), (int)status);
}

/* Each set's value holds the bits of those that it includes. */
bool compat_cpu_has(dnnl_cpu_isa_t isa) {
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}

const char *compat_kernel(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) != dnnl_success || !name)
        return "";
    return name;
}

#if DNNL_VERSION_MAJOR >= 3

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

static dnnl_status_t append_relu(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
}

#else

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

static dnnl_status_t append_relu(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
}

#endif

static dnnl_status_t set_post_ops(const struct compat_conv *conv, dnnl_primitive_attr_t attr) {
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_post_ops_create(&ops);
    if (status == dnnl_success && conv->sum)
        status = append_sum(ops);
    if (status == dnnl_success && conv->relu)
        status = append_relu(ops);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops)
        dnnl_post_ops_destroy(ops);
    return status;
}

static dnnl_status_t conv_attr(const struct compat_conv *conv, enum compat_pass pass, dnnl_primitive_attr_t *ret_attr) {
    dnnl_status_t status = dnnl_primitive_attr_create(ret_attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(*ret_attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && pass == PASS_FORWARD && (conv->sum || conv->relu))
        status = set_post_ops(conv, *ret_attr);
    return status;
}

#if DNNL_VERSION_MAJOR >= 3

int compat_desc_init(struct compat_desc *ret, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                     struct err *err) {
    ret->set = false;
    if (compat_check(dnnl_memory_desc_create_with_tag(&ret->md, ndims, dims, type, tag), "describe a tensor", err) != 0)
        return -1;
    ret->set = true;
    return 0;
}

int compat_desc_copy(struct compat_desc *ret, const struct compat_desc *from, struct err *err) {
    ret->set = false;
    if (compat_check(dnnl_memory_desc_clone(&ret->md, from->md), "copy a tensor's description", err) != 0)
        return -1;
    ret->set = true;
    return 0;
}

void compat_desc_done(struct compat_desc *desc) {
    if (desc->set)
        dnnl_memory_desc_destroy(desc->md);
    desc->set = false;
}

size_t compat_desc_size(const struct compat_desc *desc) {
    return desc->set ? dnnl_memory_desc_get_size(desc->md) : 0;
}

bool compat_desc_equal(const struct compat_desc *a, const struct compat_desc *b) {
    return dnnl_memory_desc_equal(a->md, b->md);
}

dnnl_status_t compat_conv_pd(dnnl_engine_t engine, const struct compat_conv *conv, enum compat_pass pass,
                             const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *ret_pd) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = conv_attr(conv, pass, &attr);
    const_dnnl_memory_desc_t bias = conv->bias.set ? conv->bias.md : NULL;
    dnnl_prop_kind_t kind = conv->inference ? dnnl_forward_inference : dnnl_forward_training;
    if (status == dnnl_success && pass == PASS_FORWARD)
        status = dnnl_convolution_forward_primitive_desc_create(ret_pd, engine, kind, dnnl_convolution_direct, conv->src.md,
                                                                conv->weights.md, bias, conv->dst.md, conv->stride,
                                                                conv->dilation, conv->pad, conv->pad, attr);
    else if (status == dnnl_success && pass == PASS_DATA)
        status = dnnl_convolution_backward_data_primitive_desc_create(ret_pd, engine, dnnl_convolution_direct, conv->src.md,
                                                                      conv->weights.md, conv->dst.md, conv->stride,
                                                                      conv->dilation, conv->pad, conv->pad, hint, attr);
    else if (status == dnnl_success)
        status = dnnl_convolution_backward_weights_primitive_desc_create(ret_pd, engine, dnnl_convolution_direct, conv->src.md,
                                                                         conv->weights.md, bias, conv->dst.md, conv->stride,
                                                                         conv->dilation, conv->pad, conv->pad, hint, attr);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

int compat_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what, struct compat_desc *ret, struct err *err) {
    const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(pd, what, 0);
    ret->set = false;
    if (!md)
        return err_set(err, ERR_BACKEND, "oneDNN did not name the layout (query %d) of a primitive", (int)what);
    if (compat_check(dnnl_memory_desc_clone(&ret->md, md), "copy a tensor's description", err) != 0)
        return -1;
    ret->set = true;
    return 0;
}

int compat_memory(dnnl_engine_t engine, const struct compat_desc *desc, void *data, dnnl_memory_t *ret, struct err *err) {
    return compat_check(dnnl_memory_create(ret, desc->md, engine, data), "wrap a buffer", err);
}

static dnnl_status_t reorder_pd(dnnl_engine_t engine, const struct compat_desc *from, const struct compat_desc *to,
                                dnnl_primitive_desc_t *ret_pd) {
    return dnnl_reorder_primitive_desc_create(ret_pd, from->md, engine, to->md, engine, NULL);
}

#else

int compat_desc_init(struct compat_desc *ret, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                     struct err *err) {
    ret->set = false;
    if (compat_check(dnnl_memory_desc_init_by_tag(&ret->md, ndims, dims, type, tag), "describe a tensor", err) != 0)
        return -1;
    ret->set = true;
    return 0;
}

int compat_desc_copy(struct compat_desc *ret, const struct compat_desc *from, struct err *err) {
    (void)err;
    *ret = *from;
    return 0;
}

void compat_desc_done(struct compat_desc *desc) {
    desc->set = false;
}

size_t compat_desc_size(const struct compat_desc *desc) {
    return desc->set ? dnnl_memory_desc_get_size(&desc->md) : 0;
}

bool compat_desc_equal(const struct compat_desc *a, const struct compat_desc *b) {
    return dnnl_memory_desc_equal(&a->md, &b->md);
}

static dnnl_status_t conv_desc(const struct compat_conv *conv, enum compat_pass pass, dnnl_convolution_desc_t *ret) {
    const dnnl_memory_desc_t *bias = conv->bias.set ? &conv->bias.md : NULL;
    dnnl_prop_kind_t kind = conv->inference ? dnnl_forward_inference : dnnl_forward_training;
    if (pass == PASS_FORWARD)
        return dnnl_dilated_convolution_forward_desc_init(ret, kind, dnnl_convolution_direct, &conv->src.md, &conv->weights.md,
                                                          bias, &conv->dst.md, conv->stride, conv->dilation, conv->pad,
                                                          conv->pad);
    if (pass == PASS_DATA)
        return dnnl_dilated_convolution_backward_data_desc_init(ret, dnnl_convolution_direct, &conv->src.md, &conv->weights.md,
                                                                &conv->dst.md, conv->stride, conv->dilation, conv->pad,
                                                                conv->pad);
    return dnnl_dilated_convolution_backward_weights_desc_init(ret, dnnl_convolution_direct, &conv->src.md, &conv->weights.md,
                                                               bias, &conv->dst.md, conv->stride, conv->dilation, conv->pad,
                                                               conv->pad);
}

dnnl_status_t compat_conv_pd(dnnl_engine_t engine, const struct compat_conv *conv, enum compat_pass pass,
                             const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *ret_pd) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = conv_attr(conv, pass, &attr);
    if (status == dnnl_success)
        status = conv_desc(conv, pass, &desc);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(ret_pd, &desc, attr, engine, hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

int compat_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what, struct compat_desc *ret, struct err *err) {
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, what, 0);
    ret->set = false;
    if (!md)
        return err_set(err, ERR_BACKEND, "oneDNN did not name the layout (query %d) of a primitive", (int)what);
    ret->md = *md;
    ret->set = true;
    return 0;
}

int compat_memory(dnnl_engine_t engine, const struct compat_desc *desc, void *data, dnnl_memory_t *ret, struct err *err) {
    return compat_check(dnnl_memory_create(ret, &desc->md, engine, data), "wrap a buffer", err);
}

static dnnl_status_t reorder_pd(dnnl_engine_t engine, const struct compat_desc *from, const struct compat_desc *to,
                                dnnl_primitive_desc_t *ret_pd) {
    return dnnl_reorder_primitive_desc_create(ret_pd, &from->md, engine, &to->md, engine, NULL);
}

#endif

int compat_reorder(dnnl_engine_t engine, const struct compat_desc *from, const struct compat_desc *to, dnnl_primitive_t *ret,
                   struct err *err) {
    dnnl_primitive_desc_t pd = NULL;
    int rc = compat_check(reorder_pd(engine, from, to, &pd), "plan a change of layout", err);
    if (rc == 0)
        rc = compat_check(dnnl_primitive_create(ret, pd), "create a change of layout", err);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return rc;
}
