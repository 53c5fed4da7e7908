/* What the files of the memory plan share. gpu_plan.c, gpu_fuse.c, gpu_value.c, gpu_place.c and gpu_param.c are linked into a
 * compute module as well: they call nothing of the graph floor outside of themselves, and no JSON. */
#ifndef GRAPH_GPU_PRIVATE_H
#define GRAPH_GPU_PRIVATE_H

#include "server/graph/gpu.h"
#include "server/graph/private.h"

static inline int64_t gpu_round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/* --- gpu_fuse.c --- */

/* Makes plan->units (kind, nodes, inputs) and plan->unit_of. */
int gpu_fuse(struct gpu_plan *plan, const struct graph *graph, struct err *err);

/* --- gpu_plan.c --- */

/* gpu_plan_new, also of a network that no GPU trains: its memory can be told all the same. */
int gpu_plan_arrange(const struct graph *graph, const struct gpu_options *options, struct gpu_plan **ret_plan, struct err *err);

/* --- gpu_need.c --- */

/* The two plans of a job. */
void gpu_options_of(const struct spec *spec, int batch, struct gpu_options *ret_train, struct gpu_options *ret_evaluate);

/* --- gpu_value.c --- */

/* Whether a GPU can train the max pools. */
int gpu_pools_check(const struct gpu_plan *plan, const struct graph *graph, struct err *err);

/* Describes and places the units' values, gradients and what they save; offsets count from the start of their regions, whose
 * sizes it sets: VALUES, SAVED, SCRATCH, PARTIAL. */
int gpu_values_lay(struct gpu_plan *plan, const struct graph *graph, struct err *err);

/* --- gpu_place.c --- */

/* Memory that is needed from one step to another, both included. */
struct gpu_block {
    int64_t bytes; /* 0: takes no part */
    int first, last;
    bool kept;  /* what other kept blocks must leave alone at any step */
    int64_t at; /* the answer: a multiple of GPU_ALIGN */
};

/* Places blocks so that no two that are needed at the same step, or are both kept, overlap. *ret_bytes: where the last one ends.
 */
int gpu_place(struct gpu_block *blocks, int n, int64_t *ret_bytes, struct err *err);

/* --- gpu_param.c --- */

/* Makes plan->params and chunks_n, and sets the sizes of the regions from MASTER to GRADIENT. */
int gpu_params_lay(struct gpu_plan *plan, const struct graph *graph, struct err *err);

/* --- profiles/embed.py: the built-in profiles, sorted by name, and their JSON texts --- */

extern const struct gpu_profile gpu_builtin_profiles[];
extern const char *const gpu_builtin_texts[];
extern const size_t gpu_builtin_n;

#endif
