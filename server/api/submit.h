/* What submitting a job has in common with showing its graph: a spec's plan, and whether this server can do it. */
#ifndef API_SUBMIT_H
#define API_SUBMIT_H

#include "common/spec.h"
#include "server/graph/graph.h"
#include "server/sched/sched.h"

struct plan {
    struct graph *graph;
    int images; /* training images used */
    int steps_per_epoch;
    int64_t memory_bytes;
};

/* Expands the model of a spec for its data set. Errors point into the spec. */
int plan_make(const struct spec *spec, struct plan *ret_plan, struct err *err);
void plan_done(struct plan *plan);

/* ERR_UNSUPPORTED when the probe has answered and no device has the data set, backend, precision or memory; says what there is.
 */
int offer_check(const struct sched *sched, const struct spec *spec, int64_t memory_bytes, struct err *err);

/* The same on what the probe said: devices as sched_devices, datasets as sched_datasets (NULL: not known yet). */
int offer_check_probe(const json_t *devices, const json_t *datasets, const struct spec *spec, int64_t memory_bytes,
                      struct err *err);

#endif
