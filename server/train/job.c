/* From the daemon's line to an exit code: see job.h. */
#include "server/train/job.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/json.h"
#include "server/train/input.h"
#include "server/train/lock.h"
#include "server/train/say.h"
#include "server/train/stop.h"
#include "server/train/trainer.h"

enum { LOCK_WAIT_MS = 30000 };

static int unpack(struct job *job, json_t **ret_spec, json_t **ret_dataset, struct err *err) {
    int protocol;
    json_error_t error;
    if (json_unpack_ex(job->document, &error, 0, "{s:i, s:s, s:i, s:s, s:s, s:i, s:o, s?o}", "protocol", &protocol, "job",
                       &job->id, "attempt", &job->attempt, "device", &job->device, "dir", &job->dir, "epochs_known",
                       &job->epochs_known, "spec", ret_spec, "dataset", ret_dataset) != 0)
        return err_set(err, ERR_REQUEST, "the job's line is not as common/event.h says: %s", error.text);
    if (protocol != EVENT_PROTOCOL)
        return err_set(err, ERR_REQUEST, "the job's line speaks protocol %d, this worker %d: install both from one version",
                       protocol, EVENT_PROTOCOL);
    if (job->dir[0] != '/' || job->epochs_known < 0)
        return err_set(err, ERR_REQUEST, "the job's line needs an absolute \"dir\" and \"epochs_known\" of 0 or more");
    return 0;
}

static int parse_document(struct job *job, struct err *err) {
    json_t *spec, *dataset = NULL, *canonical;
    if (unpack(job, &spec, &dataset, err) != 0 || imported_open(dataset, &job->imported, err) != 0 ||
        input_spec(spec, imported_card(job->imported), &job->spec, err) != 0)
        return -1;
    canonical = spec_to_json(&job->spec);
    job->spec_text = canonical == NULL ? NULL : json_text(canonical);
    json_decref(canonical);
    if (job->spec_text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while reading the job's spec");
    return 0;
}

int job_parse(const char *line, size_t size, struct job *ret_job, struct err *err) {
    struct job job = {.document = json_parse(line, size, err)};
    if (job.document == NULL)
        return -1;
    if (parse_document(&job, err) != 0) {
        job_done(&job);
        return -1;
    }
    *ret_job = job;
    return 0;
}

void job_done(struct job *job) {
    json_decref(job->document);
    imported_free(job->imported);
    spec_done(&job->spec);
    free(job->spec_text);
    *job = (struct job){0};
}

enum worker_exit job_exit_of(enum err_code code) {
    bool retry = code == ERR_MEMORY || code == ERR_IO || code == ERR_FULL || code == ERR_BACKEND;
    return retry ? WORKER_EXIT_RETRY : WORKER_EXIT_FAILED;
}

static enum worker_exit fail(struct emit *emit, const struct err *err) {
    emit_error(emit, err);
    return job_exit_of(err->code);
}

static enum worker_exit train_locked(const struct job *job, struct emit *emit) {
    struct err err = {0};
    switch (trainer_run(job, emit, &err)) {
    case TRAINER_DONE:
        return WORKER_EXIT_DONE;
    case TRAINER_STOPPED:
        return WORKER_EXIT_STOPPED;
    case TRAINER_FAILED:
        break;
    }
    return fail(emit, &err);
}

static enum worker_exit run(const struct job *job, struct emit *emit) {
    struct err err = {0};
    int lock_fd;
    say("job %s, attempt %d: %s on %s, %d epochs, %s, on the device %s", job->id, job->attempt,
        job->spec.model.layers != NULL ? "own layers" : job->spec.model.preset, job->spec.dataset, job->spec.epochs,
        spec_precision_name(job->spec.precision), job->device);
    switch (lock_take(job->dir, LOCK_WAIT_MS, &lock_fd, &err)) {
    case LOCK_TAKEN:
        break;
    case LOCK_BUSY:
        say("an older attempt still holds %s/lock after %d s", job->dir, LOCK_WAIT_MS / 1000);
        return WORKER_EXIT_BUSY;
    case LOCK_STOPPED:
        say("stopped before the start");
        return WORKER_EXIT_STOPPED;
    case LOCK_FAILED:
        return fail(emit, &err);
    }
    enum worker_exit code = train_locked(job, emit);
    close(lock_fd);
    return code;
}

enum worker_exit job_run(int events_fd) {
    struct emit emit = {.fd = events_fd};
    struct err err = {0};
    struct job job;
    char *line = malloc(EVENT_LINE_MAX);
    if (line == NULL)
        return WORKER_EXIT_RETRY;
    ssize_t size = input_line(line, EVENT_LINE_MAX);
    int rc = size > 0 ? job_parse(line, (size_t)size, &job, &err)
                      : err_set(&err, ERR_REQUEST, "standard input holds no line of at most %d bytes with a job", EVENT_LINE_MAX);
    free(line);
    if (size < 0)
        return WORKER_EXIT_STOPPED;
    if (rc != 0) {
        enum worker_exit code = fail(&emit, &err);
        return code == WORKER_EXIT_RETRY ? code : WORKER_EXIT_USAGE;
    }
    enum worker_exit code = run(&job, &emit);
    job_done(&job);
    return code;
}
