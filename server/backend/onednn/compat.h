/* The one place where the C APIs of oneDNN 2.x and 3.x differ: memory descriptors and primitive descriptors. */
#ifndef ONEDNN_COMPAT_H
#define ONEDNN_COMPAT_H

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/* A memory descriptor: a struct in 2.x, an opaque handle in 3.x. Zeroed memory is "none". */
struct compat_desc {
    dnnl_memory_desc_t md;
    bool set;
};

int compat_desc_init(struct compat_desc *ret, int ndims, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                     struct err *err);
int compat_desc_copy(struct compat_desc *ret, const struct compat_desc *from, struct err *err);
void compat_desc_done(struct compat_desc *desc);
size_t compat_desc_size(const struct compat_desc *desc);
bool compat_desc_equal(const struct compat_desc *a, const struct compat_desc *b);

enum compat_pass { PASS_FORWARD, PASS_DATA, PASS_WEIGHTS };

/* A convolution. For PASS_DATA src and dst stand for their gradients, for PASS_WEIGHTS weights, bias and dst do. */
struct compat_conv {
    struct compat_desc src, weights, bias, dst; /* bias may be none */
    dnnl_dims_t stride, dilation, pad;          /* dilation counts from 0 as in oneDNN */
    bool inference;
    bool sum, relu; /* of PASS_FORWARD: add to what dst holds, then ReLU */
};

/* Makes a primitive descriptor with a scratchpad that the caller brings. hint is the forward one, needed by the other passes.
 * Returns the library's status: "unimplemented" is an answer, not an error. */
dnnl_status_t compat_conv_pd(dnnl_engine_t engine, const struct compat_conv *conv, enum compat_pass pass,
                             const_dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *ret_pd);

/* The descriptor behind a query such as dnnl_query_weights_md. */
int compat_query(const_dnnl_primitive_desc_t pd, dnnl_query_t what, struct compat_desc *ret, struct err *err);

/* The kernel's name, as DNNL_VERBOSE=1 shows it: "jit:avx512_core". */
const char *compat_kernel(const_dnnl_primitive_desc_t pd);

int compat_memory(dnnl_engine_t engine, const struct compat_desc *desc, void *data, dnnl_memory_t *ret, struct err *err);

/* A primitive that copies from one layout into another. */
int compat_reorder(dnnl_engine_t engine, const struct compat_desc *from, const struct compat_desc *to, dnnl_primitive_t *ret,
                   struct err *err);

/* Whether oneDNN uses an instruction set here: the CPU has it and DNNL_MAX_CPU_ISA does not forbid it. */
bool compat_cpu_has(dnnl_cpu_isa_t isa);

/* 0, or -1 and a message: what was tried and the library's status. */
int compat_check(dnnl_status_t status, const char *what, struct err *err);

#endif
