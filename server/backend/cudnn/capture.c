/* Steps as CUDA graphs: see core.h. */
#include <stdio.h>

#include "server/backend/cudnn/core.h"

static struct captured_step *captured(struct backend_plan *plan, struct step_kind kind) {
    return &plan->captured[((int)kind.pass * SOURCES_N + (int)kind.source) * SIZES_N + (int)kind.size];
}

/* Other threads may call CUDA meanwhile: only this one's calls are restricted. */
static int record(struct backend_plan *plan, struct step_kind kind, CUgraph *ret_graph, struct err *err) {
    struct backend *backend = plan->backend;
    struct gpu_driver *driver = &backend->driver;
    if (core_check(backend, driver->cuStreamBeginCapture(backend->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                   "begin to capture a step", err) != 0)
        return -1;
    int failed = step_enqueue(plan, kind, err);
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

static int capture(struct backend_plan *plan, struct step_kind kind, CUgraphExec *ret_graph, struct err *err) {
    struct backend *backend = plan->backend;
    CUgraph graph;
    if (record(plan, kind, &graph, err) != 0)
        return -1;
    int failed =
        core_check(backend, backend->driver.cuGraphInstantiateWithFlags(ret_graph, graph, 0), "prepare a captured step", err);
    (void)backend->driver.cuGraphDestroy(graph);
    return failed;
}

static int try_capture(struct backend_plan *plan, struct step_kind kind, struct err *err) {
    struct captured_step *step = captured(plan, kind);
    struct err reason = {0};
    if (capture(plan, kind, &step->graph, &reason) == 0) {
        step->state = CAPTURE_DONE;
        return 0;
    }
    if (plan->options.steps == STEPS_CAPTURED)
        return err_set(err, reason.code, "%s", reason.text);
    plan->options.steps = STEPS_EAGER;
    fprintf(stderr, "steps are launched one kernel at a time, as they could not be captured: %s\n", reason.text);
    return 0;
}

int capture_run(struct backend_plan *plan, struct step_kind kind, struct err *err) {
    struct backend *backend = plan->backend;
    struct captured_step *step = captured(plan, kind);
    if (step->state == CAPTURE_WARM && plan->options.steps != STEPS_EAGER && try_capture(plan, kind, err) != 0)
        return -1;
    if (step->state == CAPTURE_DONE)
        return core_check(backend, backend->driver.cuGraphLaunch(step->graph, backend->stream), "run a captured step", err);
    if (step_enqueue(plan, kind, err) != 0)
        return -1;
    if (step->state == CAPTURE_COLD)
        step->state = CAPTURE_WARM;
    return 0;
}

void capture_done(struct backend_plan *plan) {
    for (int i = 0; i < STEP_KINDS; i++)
        if (plan->captured[i].state == CAPTURE_DONE)
            (void)plan->backend->driver.cuGraphExecDestroy(plan->captured[i].graph);
}
