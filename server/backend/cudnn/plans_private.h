/* What the files of the plans share: describing a graph of operations to cuDNN, and the search for an engine. */
#ifndef CUDNN_PLANS_PRIVATE_H
#define CUDNN_PLANS_PRIVATE_H

#include "server/backend/cudnn/plans.h"

/* --- plans.c --- */

/* What can be planned; the names stand in the deny list and in texts. */
#define PLAN_OPS(X)                      \
    X(PLAN_FORWARD, "forward")           \
    X(PLAN_BACK_X, "back_x")             \
    X(PLAN_BACK_W, "back_w")             \
    X(PLAN_NORM_FORWARD, "norm_forward") \
    X(PLAN_NORM_BACK, "norm_back")

enum plan_op {
#define PLAN_ENUM(op, name) op,
    PLAN_OPS(PLAN_ENUM)
#undef PLAN_ENUM
};

const char *plan_op_name(enum plan_op op);

enum { PLAN_DENIED_MAX = 32 };

struct planner {
    const struct gpu_driver *driver;
    cudnnBackendDescriptor_t device;
    char *profile; /* one line; tells devices apart in the cache */
    int compute;
    int64_t workspace_bytes;
    char *cache; /* NULL: none */
    struct {
        enum plan_op op;
        int64_t engine;
    } denied[PLAN_DENIED_MAX];
    int denied_n;
};

/* --- plans_draft.c: a graph of operations while it is described --- */

/* Owns every descriptor that is made for it. The first failure goes to err; what is called after it does nothing, so that a
 * description reads as one. */
enum { DRAFT_MAX = 48 };
struct draft {
    const struct gpu_driver *driver;
    struct err *err;
    bool failed;
    cudnnBackendDescriptor_t made[DRAFT_MAX];
    int made_n;
};

cudnnBackendDescriptor_t draft_new(struct draft *draft, cudnnBackendDescriptorType_t type);
void draft_set(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
               cudnnBackendAttributeType_t type, int64_t count, const void *values);
void draft_int(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, int64_t value);
void draft_ref(struct draft *draft, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
               cudnnBackendDescriptor_t value);
void draft_finalize(struct draft *draft, cudnnBackendDescriptor_t descriptor);

/* [n, h, w, c], channels fastest. */
struct draft_shape {
    int64_t n, h, w, c;
};
enum draft_place { DRAFT_MEMORY, DRAFT_VIRTUAL, DRAFT_VALUE }; /* at an address; between two operations; by value, on the host */
cudnnBackendDescriptor_t draft_tensor(struct draft *draft, int64_t uid, cudnnDataType_t type, struct draft_shape shape,
                                      enum draft_place place);

/* A finished graph of operations; NULL after a failure. */
cudnnBackendDescriptor_t draft_graph(struct draft *draft, const cudnnBackendDescriptor_t *operations, int operations_n);
void draft_done(struct draft *draft);

/* A failure of cuDNN while it plans: ERR_UNSUPPORTED where it says that it does not have something, else as gpu_error_cudnn. */
int plan_error(const struct gpu_driver *driver, cudnnStatus_t status, const char *what, struct err *err);

/* --- plans_search.c: from a graph to a plan --- */

struct plan_engine {
    int64_t index;
    uint32_t notes, behaviors; /* bits 1 << cudnnBackendNumericalNote_t, cudnnBackendBehaviorNote_t */
    char knobs[160];           /* "2=1 14=3": type and value of each */
};

struct plan {
    const struct gpu_driver *driver;
    cudnnBackendDescriptor_t plan, pack;
    int64_t workspace_bytes;
    struct plan_engine engine;
    bool cached;           /* came from the cache */
    char cache_reason[96]; /* why it could not be written; "" */
};

struct plan_request {
    enum plan_op op;
    const char *text; /* what is planned, one line: for errors, and told apart by in the cache */
    enum spec_precision precision;
    bool nondeterministic;
};

/* Describes the graph into the draft and returns it; NULL when the draft failed. */
typedef cudnnBackendDescriptor_t plan_describe_graph(struct draft *draft, const void *key);

/* Takes the plan from the cache, or describes the graph, searches an engine and writes the cache. */
int plan_new(struct planner *planner, const struct plan_request *request, plan_describe_graph *describe, const void *key,
             struct plan *ret_plan, struct err *err);
void plan_done(struct plan *plan);
void plan_text(const struct plan *plan, char *ret_text);

enum { PLAN_ADDRESSES_MAX = 16 };
struct plan_address {
    int64_t uid;
    void *at; /* a device address, or a host address of a value */
};
int plan_bind(struct plan *plan, const struct plan_address *addresses, int addresses_n, CUdeviceptr workspace, struct err *err);
int plan_run(const struct plan *plan, cudnnHandle_t handle, const char *what, struct err *err);

/* Finalizes a plan and reads its workspace. Returns the status of cuDNN; the descriptor is NULL unless it is success. */
cudnnStatus_t plan_finalize(const struct planner *planner, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            int64_t count, const void *value, struct plan *ret_plan);

/* --- plans_cache.c --- */

/* Fills *ret_plan from the cache; false when there is no entry, or none that can be used. */
bool cache_load(const struct planner *planner, const struct plan_request *request, struct plan *ret_plan);
/* Writes it; a failure is only noted in the plan, as the cache saves time and nothing else. */
void cache_store(const struct planner *planner, const struct plan_request *request, struct plan *plan);

#endif
