/* Events: marks in streams that other streams and the host wait for. */
#include <time.h>

#include "tests/gpu/double/double.h"

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void run(const struct op *op) {
    op->event->done_ms = now_ms();
}

static CUresult create(CUevent *ret_event, unsigned int flags) {
    (void)flags;
    CUresult result = call_begin("cuEventCreate", CALL_PLAIN);
    if (result != CUDA_SUCCESS)
        return call_end("cuEventCreate", result);
    *ret_event = object_new(OBJECT_EVENT, sizeof **ret_event);
    return CUDA_SUCCESS;
}

static CUresult destroy(CUevent event) {
    CUresult result = call_begin("cuEventDestroy", CALL_CLEANUP);
    object_destroy(event, OBJECT_EVENT, "cuEventDestroy");
    return result;
}

static CUresult record(CUevent event, CUstream stream) {
    CUresult result = call_begin("cuEventRecord", CALL_PLAIN);
    object_check(event, OBJECT_EVENT, "cuEventRecord");
    object_check(stream, OBJECT_STREAM, "cuEventRecord");
    struct op op = op_new("cuEventRecord", run);
    op.event = event;
    if (result == CUDA_SUCCESS)
        result = op_submit(&op, stream);
    if (result != CUDA_SUCCESS)
        return call_end("cuEventRecord", result);
    event->recorded = true;
    event->done_ms = -1;
    event->capture = stream->capture;
    event->clock = stream->capture != NULL ? stream->captured : stream->clock;
    return CUDA_SUCCESS;
}

/* A stream that waits for an event of a capture joins the capture. */
CUresult event_wait(CUstream stream, CUevent event) {
    CUresult result = call_begin("cuStreamWaitEvent", CALL_PLAIN);
    object_check(event, OBJECT_EVENT, "cuStreamWaitEvent");
    object_check(stream, OBJECT_STREAM, "cuStreamWaitEvent");
    if (result != CUDA_SUCCESS)
        return call_end("cuStreamWaitEvent", result);
    if (!event->recorded)
        violation("cuStreamWaitEvent: the event was never recorded, so nothing is waited for");
    if (event->capture != NULL && event->capture != state()->capture)
        violation("cuStreamWaitEvent: the event was recorded in a capture that is over");
    if (stream->capture != event->capture && stream->capture != NULL) {
        stream->capture->invalidated = true;
        return call_end("cuStreamWaitEvent", CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
    if (event->capture != NULL && stream->capture == NULL) {
        stream->capture = event->capture;
        stream->captured = (struct clock){0};
    }
    clock_merge(event->capture != NULL ? &stream->captured : &stream->clock, &event->clock);
    return CUDA_SUCCESS;
}

static CUresult elapsed(float *ret_ms, CUevent start, CUevent end) {
    CUresult result = call_begin("cuEventElapsedTime", CALL_PLAIN);
    object_check(start, OBJECT_EVENT, "cuEventElapsedTime");
    object_check(end, OBJECT_EVENT, "cuEventElapsedTime");
    if (result == CUDA_SUCCESS && (!start->recorded || !end->recorded))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS && (start->done_ms < 0 || end->done_ms < 0))
        result = CUDA_ERROR_NOT_READY;
    if (result == CUDA_SUCCESS)
        *ret_ms = (float)(end->done_ms - start->done_ms);
    return call_end("cuEventElapsedTime", result);
}

void event_fill(struct gpu_driver *driver) {
    driver->cuEventCreate = create;
    driver->cuEventDestroy = destroy;
    driver->cuEventRecord = record;
    driver->cuEventElapsedTime = elapsed;
}
