/* Steps as CUDA graphs: see core.h. */
#include <stdio.h>

#include "server/backend/cudnn/core.h"

/* Other threads may call CUDA meanwhile: only this one's calls are restricted. */
static int record(struct backend_plan *plan, enum pass pass, enum source source, CUgraph *ret_graph, struct err *err) {
    struct backend *backend = plan->backend;
    struct gpu_driver *driver = &backend->driver;
    if (core_check(backend, driver->cuStreamBeginCapture(backend->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                   "begin to capture a step", err) != 0)
        return -1;
    int failed = step_enqueue(plan, pass, source, err);
    /* Ends the capture in any case; after a failure the driver says that there is no graph. */
    CUgraph graph = NULL;
    CUresult result = driver->cuStreamEndCapture(backend->stream, &graph);
    if (failed == 0)
        failed = core_check(backend, result, "capture a step", err);
    if (failed != 0 && graph != NULL)
        (void)driver->cuGraphDestroy(graph);
    *ret_graph = graph;
    return failed;
}

static int capture(struct backend_plan *plan, enum pass pass, enum source source, CUgraphExec *ret_graph, struct err *err) {
    struct backend *backend = plan->backend;
    CUgraph graph;
    if (record(plan, pass, source, &graph, err) != 0)
        return -1;
    int failed =
        core_check(backend, backend->driver.cuGraphInstantiateWithFlags(ret_graph, graph, 0), "prepare a captured step", err);
    (void)backend->driver.cuGraphDestroy(graph);
    return failed;
}

static void try_capture(struct backend_plan *plan, enum pass pass, enum source source) {
    struct captured_step *step = &plan->captured[pass][source];
    struct err err = {0};
    if (capture(plan, pass, source, &step->graph, &err) == 0) {
        step->state = CAPTURE_DONE;
        return;
    }
    plan->options.eager = true;
    fprintf(stderr, "steps are launched one kernel at a time, as they could not be captured: %s\n", err.text);
}

int capture_run(struct backend_plan *plan, enum pass pass, enum source source, struct err *err) {
    struct backend *backend = plan->backend;
    struct captured_step *step = &plan->captured[pass][source];
    if (step->state == CAPTURE_WARM && !plan->options.eager)
        try_capture(plan, pass, source);
    if (step->state == CAPTURE_DONE)
        return core_check(backend, backend->driver.cuGraphLaunch(step->graph, backend->stream), "run a captured step", err);
    if (step_enqueue(plan, pass, source, err) != 0)
        return -1;
    if (step->state == CAPTURE_COLD)
        step->state = CAPTURE_WARM;
    return 0;
}

void capture_done(struct backend_plan *plan) {
    for (int pass = 0; pass < PASSES_N; pass++)
        for (int source = 0; source < SOURCES_N; source++)
            if (plan->captured[pass][source].state == CAPTURE_DONE)
                (void)plan->backend->driver.cuGraphExecDestroy(plan->captured[pass][source].graph);
}
