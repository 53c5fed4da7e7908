/* The real cuDNN beside a driver without a device (null_cuda.c), for tests that plan and never run. */
#ifndef TESTS_PLAN_RIG_H
#define TESTS_PLAN_RIG_H

#include "server/backend/cudnn/plans.h"
#include "server/graph/gpu.h"
#include "server/graph/graph.h"

enum { PLAN_RIG_BATCH = 128 };

/* Fills the functions of cuDNN, no others. False: ret_reason says why cuDNN cannot be had. */
bool plan_rig_open(struct gpu_driver *ret_driver, char *ret_reason, size_t size);

/* The same in a test of cmocka, which is skipped, with the reason, where cuDNN cannot be had. */
struct gpu_driver plan_rig_need(void);

/* A planner for a built-in profile, with its workspace; cache may be NULL. Ends the test when there is none. */
struct planner *plan_rig_planner(const struct gpu_driver *driver, const char *profile, const char *cache);

/* A preset on 32x32 images of ten classes, and how it lies on a GPU when it trains at PLAN_RIG_BATCH. */
struct plan_rig_net {
    struct graph *graph;
    struct gpu_plan *gpu;
};
struct plan_rig_net plan_rig_net(const char *preset, enum spec_precision precision);
void plan_rig_net_done(struct plan_rig_net *net);

/* Calls visit for every key that a training step asks for: each convolution and linear layer forward, its weights' gradient, its
 * input's where that is wanted; batch norms forward and back. */
struct plan_rig_visitor {
    void (*conv)(void *arg, const struct conv_key *key); /* may be NULL */
    void (*norm)(void *arg, const struct norm_key *key); /* may be NULL */
    void *arg;
};
void plan_rig_walk(const struct plan_rig_net *net, const struct plan_rig_visitor *visitor);

#endif
