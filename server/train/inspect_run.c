/* A network on a backend, for one image at a time: see inspect.h. */
#include <stdlib.h>

#include "server/backend/backend.h"
#include "server/train/inspect.h"
#include "server/train/module.h"
#include "server/train/say.h"

/* On the processor, whatever the job trains on: a GPU may be another job's by now. */
static int compile(const struct inspect *inspect, const struct spec *spec, struct inspect_run *run, struct err *err) {
    struct backend_info info;
    if (module_choose(spec, MODULE_CPU, &run->api, &info, err) != 0)
        return -1;
    struct backend_options options = {.threads = 1, .device_id = info.device_id};
    struct backend_plan_options plan = {.batch = 1, .precision = spec->precision, .use = USE_INSPECT};
    if (run->api->open(&options, &run->backend, err) != 0)
        return -1;
    return run->api->compile(run->backend, inspect->graph, &plan, &run->plan, err);
}

/* What a GPU does, the processor does by any of its backends; tf32 is f32 there. */
static void move_to_cpu(struct spec *spec) {
    if (spec->backend == BACKEND_CUDNN)
        spec->backend = BACKEND_AUTO;
    if (spec->precision == PRECISION_TF32)
        spec->precision = PRECISION_F32;
}

/* What the job's own backend cannot do here, ref can. */
static int compile_anywhere(const struct inspect *inspect, struct inspect_run *run, struct err *err) {
    struct err reason = {0};
    struct spec plain = inspect->spec; /* what it owns stays the other's */
    move_to_cpu(&plain);
    if (compile(inspect, &plain, run, &reason) == 0)
        return 0;
    say("using ref instead: %s", reason.text);
    inspect_run_done(run);
    plain.backend = BACKEND_REF;
    plain.precision = PRECISION_F32;
    return compile(inspect, &plain, run, err);
}

static int set_weights(const struct inspect *inspect, const struct safetensors *weights, const struct inspect_run *run,
                       float *room, struct err *err) {
    for (int i = 0; i < inspect->graph->params_n; i++)
        if (inspect_weights_get(weights, &inspect->graph->params[i], room, err) != 0 ||
            run->api->set_tensor(run->plan, TENSOR_VALUE, i, room, err) != 0)
            return -1;
    return 0;
}

static size_t largest_param(const struct graph *graph) {
    size_t count = 1;
    for (int i = 0; i < graph->params_n; i++)
        if (graph->params[i].count > count)
            count = graph->params[i].count;
    return count;
}

int inspect_run_open(const struct inspect *inspect, const struct safetensors *weights, struct inspect_run *ret_run,
                     struct err *err) {
    struct inspect_run run = {0};
    float *room = malloc(largest_param(inspect->graph) * sizeof *room);
    int rc = room == NULL ? err_set(err, ERR_MEMORY, "out of memory for the weights") : compile_anywhere(inspect, &run, err);
    if (rc == 0)
        rc = set_weights(inspect, weights, &run, room, err);
    free(room);
    if (rc != 0) {
        inspect_run_done(&run);
        return -1;
    }
    *ret_run = run;
    return 0;
}

void inspect_run_done(struct inspect_run *run) {
    if (run->api != NULL) {
        run->api->plan_free(run->plan);
        run->api->close(run->backend);
    }
    *run = (struct inspect_run){0};
}
