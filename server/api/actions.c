/* What a person does to a job: cancel, retry, delete; and to a device: put it back into use. */
#include "server/api/private.h"

static int answer_written(struct request *request, unsigned status, struct job *job, struct err *err) {
    request->wrote = true;
    int failed = answer_job(request, status, job, err);
    job_done(job);
    return failed;
}

int handle_cancel(struct request *request, struct err *err) {
    struct job job = {0};
    if (sched_cancel(request->api->options.sched, &request->api->viewer, request->args[0], &job, err) < 0)
        return -1;
    return answer_written(request, MHD_HTTP_OK, &job, err);
}

int handle_retry(struct request *request, struct err *err) {
    struct job job = {0};
    if (sched_retry(request->api->options.sched, &request->api->viewer, request->args[0], &job, err) < 0)
        return -1;
    return answer_written(request, MHD_HTTP_ACCEPTED, &job, err);
}

int handle_delete(struct request *request, struct err *err) {
    if (sched_delete(request->api->options.sched, &request->api->viewer, request->args[0], err) < 0)
        return -1;
    request->wrote = true;
    return answer_response(request, MHD_HTTP_NO_CONTENT, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), err);
}

/* Nothing is stored, as a restart would do the same. */
int handle_device_resume(struct request *request, struct err *err) {
    json_t *device;
    if (sched_device_resume(request->api->options.sched, request->args[0], &device, err) < 0)
        return -1;
    return answer_json(request, MHD_HTTP_OK, device, err);
}
