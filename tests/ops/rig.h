/* What the op tests and the golden tests share: opening a module, buffers between guards, a plan with its batch. */
#ifndef TESTS_OPS_RIG_H
#define TESTS_OPS_RIG_H

#include "server/backend/backend.h"

/* --- buffers between guards: bytes of 0xFF in front and behind (NaN as floats, -1 as labels), and inside until written --- */

struct buffer {
    unsigned char *memory; /* guard, data, guard; the data is aligned to a float and no better */
    size_t size_bytes;
};

struct buffer buffer_new(size_t count, size_t size);
void buffer_free(struct buffer *buffer);
float *buffer_floats(const struct buffer *buffer);
bool buffer_intact(const struct buffer *buffer);

/* --- findings of one test: the first one is kept in words, all are counted --- */

struct report {
    char first[640];
    int n;
};

void report_add(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- modules and plans --- */

/* An open module, or NULL and a finding. Modules stay loaded until exit. */
const struct residuum_backend *module_open(const char *path, struct report *report);

/* RESIDUUM_BUILD, or build/release */
const char *build_folder(void);

/* Opens every module of the build, but those that say they have no device here. Returns how many, at most max; a finding when one
 * cannot be opened or there is none. */
size_t modules_open(const struct residuum_backend **ret_modules, size_t max, struct report *report);

/* Whether the module offers a precision on this machine; a finding when its probe fails. */
bool module_offers(const struct residuum_backend *module, enum spec_precision precision, struct report *report);

struct rig {
    const struct residuum_backend *module;
    struct backend *backend;
    struct backend_plan *plan;
    const struct graph *graph;
    struct backend_plan_options options;
    struct report *report;
};

/* Opens a backend with RIG_THREADS and compiles the graph. Returns 0, or -1 and a finding. */
enum { RIG_THREADS = 2 };
int rig_init(struct rig *rig, const struct residuum_backend *module, const struct graph *graph,
             const struct backend_plan_options *options, struct report *report);
void rig_done(struct rig *rig);

/* A batch of guarded buffers, filled by its owner. */
struct batch {
    struct buffer images, labels, samples, others, shares;
    int n; /* images that the buffers hold */
    bool mixup;
    float smoothing;
};

struct batch batch_new(const struct graph *graph, int n);
void batch_free(struct batch *batch);
struct backend_batch batch_view(const struct batch *batch, int n);

/* Whether the plan has a tensor of a parameter. */
bool rig_has(const struct rig *rig, enum backend_tensor kind, int param);

/* The last step's norms of gradient, weight and update: RIG_STATISTICS floats of each parameter, in a new buffer. */
enum { RIG_STATISTICS = 3 };
struct buffer rig_statistics(struct rig *rig);

/* The calls of the door, with a finding when one fails or touches a guard. The getters return a new buffer. */
void rig_set(struct rig *rig, enum backend_tensor kind, int param, const float *values);
struct buffer rig_get(struct rig *rig, enum backend_tensor kind, int param);
struct buffer rig_activation(struct rig *rig, int node, int n);
struct backend_result rig_train(struct rig *rig, const struct batch *batch, int n, const struct backend_optimizer *optimizer);
struct backend_result rig_eval(struct rig *rig, const struct batch *batch, int n, struct buffer *ret_softmax);

#endif
