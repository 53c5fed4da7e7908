/* What a job needs of a processor's memory, before any backend has seen it. */
#include "server/graph/gpu_private.h"

/* The arrangement of server/graph/gpu.h is near to that of backend onednn. What differs is counted here; tests/ops/test_memory.c
 * holds the sum to what the backend takes. */
enum {
    LANES = 16,              /* channels are padded to a vector of f32 */
    COPIES_F32 = 22,         /* bytes a parameter: weights as convolutions want them, in both plans */
    COPIES_BF16 = 8,         /* the same of narrow weights */
    THREAD_IMAGES = 8,       /* working memory of a thread: the largest output of one image, this often, in f32, */
    THREAD_BYTES = 2 << 20,  /* and this */
    PROCESS_BYTES = 16 << 20 /* tables, and all that is small */
};

/* Elements of one image of all values, or of the largest, with channels padded to a number of lanes. */
struct padded {
    int64_t all, largest;
};

static struct padded pad(const struct gpu_plan *plan, int lanes) {
    struct padded sizes = {0};
    for (int i = 1; i < plan->units_n - 1; i++) { /* the images are read as they are, and the softmax is not padded */
        struct graph_shape shape = plan->units[i].value.shape;
        int64_t count = (int64_t)shape.h * shape.w * gpu_round_up(shape.c, lanes);
        sizes.all += count;
        sizes.largest = count > sizes.largest ? count : sizes.largest;
    }
    return sizes;
}

/* One plan of the backend; some layers need their values once more, in f32 and in another order. */
static int64_t plan_bytes(const struct gpu_plan *plan) {
    struct padded there = pad(plan, GPU_LANES), here = pad(plan, LANES);
    double wider = there.all > 0 ? (double)here.all / (double)there.all : 1.0;
    bool bf16 = plan->options.precision == PRECISION_BF16;
    double more = (wider - 1.0) * (double)plan->regions[GPU_VALUES].bytes;
    return plan->arena_bytes + (int64_t)more + plan->regions[GPU_SCRATCH].bytes * (bf16 ? 2 : 1);
}

static int64_t working_bytes(const struct gpu_plan *plan, int threads) {
    return threads * (THREAD_BYTES + THREAD_IMAGES * pad(plan, LANES).largest * (int64_t)sizeof(float));
}

int graph_memory(const struct graph *graph, const struct spec *spec, int64_t *ret_bytes, struct err *err) {
    struct gpu_options train_options, evaluate_options;
    struct gpu_plan *train, *evaluate;
    gpu_options_of(spec, spec->batch_size, &train_options, &evaluate_options);
    if (gpu_plan_arrange(graph, &train_options, &train, err) < 0)
        return -1;
    if (gpu_plan_arrange(graph, &evaluate_options, &evaluate, err) < 0) {
        gpu_plan_free(train);
        return -1;
    }
    *ret_bytes = plan_bytes(train) + plan_bytes(evaluate) + working_bytes(train, spec->threads) + PROCESS_BYTES +
                 graph->parameters * (spec->precision == PRECISION_BF16 ? COPIES_BF16 : COPIES_F32);
    gpu_plan_free(train);
    gpu_plan_free(evaluate);
    return 0;
}
