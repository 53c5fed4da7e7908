/* What a worker says: each line is checked, then becomes rows of the store. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/sched/private.h"

/* A worker may send progress once a second; what comes faster is dropped, and a flood is a fault. */
enum { PROGRESS_EVERY_MS = 900, FLOOD_WINDOW_MS = 1000, FLOOD_LINES = 200 };

void attempt_write_failed(struct attempt *attempt, const struct err *why) {
    if (why->code == ERR_CONFLICT || why->code == ERR_NOT_FOUND)
        attempt_fault(attempt, why); /* somebody else's attempt is current: this worker must go */
    else
        attempt_stop(attempt, STOP_STORAGE);
}

static int fault(struct attempt *attempt, const struct err *why) {
    attempt_fault(attempt, why);
    return -1;
}

/* Writes through the store; text is freed. */
static int hear_hello(struct attempt *attempt, const struct message *message, struct err *err) {
    struct store *store = attempt->sched->options.store;
    const char *device = json_string_value(json_object_get(message->fields, "device_id"));
    if (attempt->greeted)
        return err_set(err, ERR_PROTOCOL, "the worker said \"hello\" twice");
    if (strcmp(device, attempt->job.device) != 0)
        return err_set(err, ERR_PROTOCOL, "the worker trains on device %s; the job was given %s", device, attempt->job.device);
    char *text = json_text(message->fields);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while hearing a worker");
    int rc = store_job_hello(store, attempt->job.id, attempt->job.attempt, text, err);
    free(text);
    if (rc == 0)
        rc = store_job_move(store, attempt->job.id, JOB_STARTING, attempt->job.attempt, JOB_RUNNING, NULL, NULL, err);
    attempt->greeted = true;
    return rc;
}

/* What the store keeps of an epoch beside its text; strings are borrowed. */
static struct epoch_new epoch_of(const struct message *message, const char *text) {
    return (struct epoch_new){.epoch = message->epoch,
                              .body = text,
                              .test_accuracy =
                                  json_number_value(json_object_get(json_object_get(message->fields, "test"), "accuracy")),
                              .best = json_is_true(json_object_get(message->fields, "best")),
                              .weights_sha256 = json_string_value(json_object_get(message->fields, "weights_sha256")),
                              .exported_sha256 = json_string_value(json_object_get(message->fields, "exported_sha256"))};
}

static int hear_epoch(struct attempt *attempt, const struct message *message, struct err *err) {
    bool is_new = false;
    if (message->epoch > attempt->job.epochs_done + 1 || message->epoch > attempt->job.epochs)
        return err_set(err, ERR_PROTOCOL, "the worker sent epoch %d while %d of %d are known", message->epoch,
                       attempt->job.epochs_done, attempt->job.epochs);
    char *text = json_text(message->fields);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while hearing a worker");
    struct epoch_new new = epoch_of(message, text);
    int rc = store_epoch_add(attempt->sched->options.store, attempt->job.id, attempt->job.attempt, &new, &is_new, err);
    free(text);
    if (rc != 0 || !is_new)
        return rc;
    attempt->job.epochs_done = message->epoch;
    return attempt_verify_epoch(attempt, message->epoch, new.weights_sha256, err);
}

static int check_rate(struct attempt *attempt, int64_t now_ms, struct err *err) {
    if (now_ms - attempt->window_ms >= FLOOD_WINDOW_MS) {
        attempt->window_ms = now_ms;
        attempt->window_lines = 0;
    }
    if (++attempt->window_lines > FLOOD_LINES)
        return err_set(err, ERR_PROTOCOL, "the worker sent more than %d progress lines within a second; one is allowed",
                       FLOOD_LINES);
    return 0;
}

/* How the device is, until it is told again. */
static void keep_telemetry(struct attempt *attempt, const struct message *message) {
    json_t *gpu = json_object_get(message->fields, "gpu");
    json_decref(attempt->telemetry);
    attempt->telemetry = json_is_object(gpu) ? json_incref(gpu) : NULL;
}

static int hear_progress(struct attempt *attempt, const struct message *message, struct err *err) {
    int64_t now_ms = clock_ms();
    if (message->epochs != attempt->job.epochs || message->epoch > message->epochs)
        return err_set(err, ERR_PROTOCOL, "the worker is in epoch %d of %d; the job has %d", message->epoch, message->epochs,
                       attempt->job.epochs);
    if (check_rate(attempt, now_ms, err) != 0)
        return -1;
    keep_telemetry(attempt, message);
    if (attempt->progress_ms != 0 && now_ms - attempt->progress_ms < PROGRESS_EVERY_MS)
        return 0;
    attempt->progress_ms = now_ms;
    json_t *body = json_pack("{s:s}", "job", attempt->job.id);
    char *text = body != NULL && json_object_update(body, message->fields) == 0 ? json_text(body) : NULL;
    json_decref(body);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while hearing a worker");
    int rc = store_event_add(attempt->sched->options.store, attempt->job.id, "progress", text, err);
    free(text);
    return rc;
}

static int hear_done(struct attempt *attempt, const struct message *message, struct err *err) {
    if (message->epochs != attempt->job.epochs_done || (!message->stopped_early && message->epochs != attempt->job.epochs))
        return err_set(err, ERR_PROTOCOL, "the worker says \"done\" after %d epochs; %d of %d are known", message->epochs,
                       attempt->job.epochs_done, attempt->job.epochs);
    attempt->finished = true;
    attempt->stopped_early = message->stopped_early;
    attempt->best_epoch = message->best_epoch;
    return 0;
}

static int hear_message(struct attempt *attempt, const struct message *message, struct err *err) {
    if (attempt->finished || attempt->said.code != ERR_NONE)
        return err_set(err, ERR_PROTOCOL, "the worker went on after its last line");
    if (!attempt->greeted && message->type != EVENT_HELLO && message->type != EVENT_ERROR)
        return err_set(err, ERR_PROTOCOL, "the worker's first line was neither \"hello\" nor \"error\"");
    switch (message->type) {
    case EVENT_HELLO:
        return hear_hello(attempt, message, err);
    case EVENT_PROGRESS:
        return hear_progress(attempt, message, err);
    case EVENT_EPOCH:
        return hear_epoch(attempt, message, err);
    case EVENT_CHECKPOINT:
        return 0; /* the worker's own affair; that it lives is all we need */
    case EVENT_DONE:
        return hear_done(attempt, message, err);
    case EVENT_ERROR:
        attempt->said = message->said;
        return 0;
    }
    return 0;
}

int attempt_hear(void *arg, const char *line, size_t size) {
    struct attempt *attempt = arg;
    struct message message;
    struct err why = {0};
    if (attempt->fault.code != ERR_NONE || attempt->stop == STOP_STORAGE)
        return 0; /* what comes after a fault or a lost write is not believed */
    attempt->sched->counters.events_received++;
    if (message_parse(line, size, ++attempt->seq, &message, &why) != 0)
        return fault(attempt, &why);
    int rc = hear_message(attempt, &message, &why);
    message_done(&message);
    attempt->wrote = true;
    if (!attempt->stop_sent)
        loop_timer_arm(attempt->timer, attempt->sched->options.silence_ms);
    if (rc == 0)
        return 0;
    if (why.code == ERR_PROTOCOL)
        return fault(attempt, &why);
    attempt_write_failed(attempt, &why);
    return 0;
}

void attempt_hear_oversize(void *arg) {
    struct attempt *attempt = arg;
    struct err why = {0};
    err_set(&why, ERR_PROTOCOL, "a line of the worker has more than %d bytes", EVENT_LINE_MAX);
    attempt_fault(attempt, &why);
}
