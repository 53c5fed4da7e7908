/* Stream capture and graphs: what is captured is kept with its arguments, and queued again by every launch. */
#include <stdlib.h>

#include "tests/gpu/double/double.h"

struct CUgraph_st {
    struct object object;
    struct op *ops;
};

struct CUgraphExec_st {
    struct object object;
    struct op *ops;
};

static void ops_free(struct op *op) {
    for (struct op *next; op != NULL; op = next) {
        next = op->next;
        free(op);
    }
}

static struct op *ops_copy(const struct op *op) {
    struct op *head = NULL, **link = &head;
    for (; op != NULL; op = op->next) {
        *link = must_allocate(sizeof **link);
        **link = *op;
        (*link)->next = NULL;
        link = &(*link)->next;
    }
    return head;
}

/* --- capture --- */

bool capture_refuses(void) {
    struct capture *capture = state()->capture;
    if (capture == NULL || !pthread_equal(capture->thread, pthread_self()))
        return false;
    capture->invalidated = true;
    return true;
}

CUresult capture_add(struct capture *capture, const struct op *op, CUstream stream) {
    if (capture->invalidated)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    struct op *copy = must_allocate(sizeof *copy);
    *copy = *op;
    copy->next = NULL;
    copy->stream = stream;
    stream->captured.at[stream->slot] = ++capture->numbers.at[stream->slot];
    copy->clock = stream->captured;
    race_check(copy, capture->head);
    *(capture->tail != NULL ? &capture->tail->next : &capture->head) = copy;
    capture->tail = copy;
    return CUDA_SUCCESS;
}

static CUresult begin(CUstream stream, CUstreamCaptureMode mode) {
    CUresult result = call_begin("cuStreamBeginCapture", CALL_PLAIN);
    object_check(stream, OBJECT_STREAM, "cuStreamBeginCapture");
    if (result != CUDA_SUCCESS)
        return call_end("cuStreamBeginCapture", result);
    if (mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        violation("cuStreamBeginCapture: other threads may call the driver, so the mode must be thread-local");
    if (state()->capture != NULL)
        violation("cuStreamBeginCapture: a capture is going on");
    struct capture *capture = must_allocate(sizeof *capture);
    *capture = (struct capture){.thread = pthread_self(), .origin = stream};
    stream->capture = state()->capture = capture;
    stream->captured = (struct clock){0};
    return CUDA_SUCCESS;
}

/* Ends the capture for all of its streams. */
static void leave(struct capture *capture) {
    for (int i = 0; i < STREAMS_MAX; i++)
        if (state()->streams[i] != NULL && state()->streams[i]->capture == capture)
            state()->streams[i]->capture = NULL;
    state()->capture = NULL;
}

static CUresult finish(const struct capture *capture, CUstream stream) {
    if (capture->invalidated || fault_capture())
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    for (int i = 0; i < STREAMS_MAX; i++)
        if (stream->captured.at[i] < capture->numbers.at[i])
            return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    return CUDA_SUCCESS;
}

static CUresult end(CUstream stream, CUgraph *ret_graph) {
    CUresult result = call_begin("cuStreamEndCapture", CALL_PLAIN);
    object_check(stream, OBJECT_STREAM, "cuStreamEndCapture");
    struct capture *capture = stream->capture;
    if (result != CUDA_SUCCESS)
        return call_end("cuStreamEndCapture", result);
    if (capture == NULL || capture->origin != stream)
        violation("cuStreamEndCapture: no capture began in this stream");
    if (!pthread_equal(capture->thread, pthread_self()))
        return call_end("cuStreamEndCapture", CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    result = finish(capture, stream);
    *ret_graph = NULL;
    if (result == CUDA_SUCCESS) {
        *ret_graph = object_new(OBJECT_GRAPH, sizeof **ret_graph);
        (*ret_graph)->ops = capture->head;
    } else {
        ops_free(capture->head);
    }
    leave(capture);
    free(capture);
    return call_end("cuStreamEndCapture", result);
}

/* --- graphs --- */

static CUresult instantiate(CUgraphExec *ret_exec, CUgraph graph, unsigned long long flags) {
    (void)flags;
    CUresult result = call_begin("cuGraphInstantiate", CALL_SYNC);
    object_check(graph, OBJECT_GRAPH, "cuGraphInstantiate");
    if (result != CUDA_SUCCESS)
        return call_end("cuGraphInstantiate", result);
    *ret_exec = object_new(OBJECT_EXEC, sizeof **ret_exec);
    (*ret_exec)->ops = ops_copy(graph->ops);
    return CUDA_SUCCESS;
}

/* The order of capture is one of those that are allowed; what has no order was checked then. */
static CUresult launch(CUgraphExec exec, CUstream stream) {
    CUresult result = call_begin("cuGraphLaunch", CALL_PLAIN);
    object_check(exec, OBJECT_EXEC, "cuGraphLaunch");
    object_check(stream, OBJECT_STREAM, "cuGraphLaunch");
    for (const struct op *op = exec->ops; op != NULL && result == CUDA_SUCCESS; op = op->next)
        result = op_submit(op, stream);
    return call_end("cuGraphLaunch", result);
}

static CUresult exec_destroy(CUgraphExec exec) {
    CUresult result = call_begin("cuGraphExecDestroy", CALL_CLEANUP);
    object_destroy(exec, OBJECT_EXEC, "cuGraphExecDestroy");
    ops_free(exec->ops);
    return result;
}

static CUresult destroy(CUgraph graph) {
    CUresult result = call_begin("cuGraphDestroy", CALL_CLEANUP);
    object_destroy(graph, OBJECT_GRAPH, "cuGraphDestroy");
    ops_free(graph->ops);
    return result;
}

void graph_fill(struct gpu_driver *driver) {
    driver->cuStreamBeginCapture = begin;
    driver->cuStreamEndCapture = end;
    driver->cuGraphInstantiateWithFlags = instantiate;
    driver->cuGraphLaunch = launch;
    driver->cuGraphExecDestroy = exec_destroy;
    driver->cuGraphDestroy = destroy;
}
