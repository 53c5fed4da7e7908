/* The event stream with its reconnections: see stream.h. */
#include "client/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/backoff.h"
#include "client/buffer.h"
#include "client/interrupt.h"
#include "common/loop.h"

enum { TICK_MS = 200, PROBLEM_MAX = 256 * 1024 };

/* How one connection ended. */
enum outcome {
    OUTCOME_GOING, /* it has not */
    OUTCOME_LOST,  /* try again */
    OUTCOME_DONE,
    OUTCOME_INTERRUPTED,
    OUTCOME_REFUSED,
    OUTCOME_BROKEN /* err is set */
};

struct stream {
    const struct stream_options *options;
    struct sse *sse;
    CURLM *multi;
    CURL *handle; /* of the connection, NULL between two */
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    int64_t last_byte_ms;
    int attempt; /* failures since the stream last flowed */
    bool in_outage;
    bool described;
    struct http_response answer; /* described by the first byte of a body */
    struct buffer problem;       /* the body when the status is not 200 */
    enum outcome outcome;
    struct err *err;
};

/* --- what arrives --- */

static enum outcome broken(struct stream *stream, enum err_code code, const char *text) {
    err_set(stream->err, code, "%s", text);
    return OUTCOME_BROKEN;
}

static void describe(struct stream *stream) {
    http_describe(stream->handle, &stream->answer);
    stream->described = true;
}

static enum outcome take_events(struct stream *stream, const char *bytes, size_t n) {
    if (strcmp(stream->answer.type, "text/event-stream") != 0) {
        err_set(stream->err, ERR_PROTOCOL, "%s%s answers with \"%s\" instead of an event stream; is it a residuum server?",
                http_server(stream->options->http), stream->options->path, stream->answer.type);
        return OUTCOME_BROKEN;
    }
    stream->attempt = 0;
    if (stream->in_outage && stream->options->on_news != NULL)
        stream->options->on_news(stream->options->arg, STREAM_BACK, "");
    stream->in_outage = false;
    int result = sse_feed(stream->sse, bytes, n, stream->err);
    if (result < 0)
        return OUTCOME_BROKEN;
    return result > 0 ? OUTCOME_DONE : OUTCOME_GOING;
}

static enum outcome take_problem(struct stream *stream, const char *bytes, size_t n) {
    switch (buffer_add(&stream->problem, bytes, n, PROBLEM_MAX)) {
    case BUFFER_MEMORY:
        return broken(stream, ERR_MEMORY, "out of memory while reading the answer of the event stream");
    case BUFFER_LIMIT: /* what is there already is more than anybody reads */
    case BUFFER_OK:
        break;
    }
    return OUTCOME_GOING;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg) {
    struct stream *stream = arg;
    stream->last_byte_ms = clock_ms();
    if (!stream->described)
        describe(stream);
    if (stream->answer.status == 200)
        stream->outcome = take_events(stream, bytes, size * n);
    else
        stream->outcome = take_problem(stream, bytes, size * n);
    return stream->outcome == OUTCOME_GOING ? size * n : CURL_WRITEFUNC_ERROR;
}

/* --- one connection --- */

static bool add_header(struct stream *stream, const char *line) {
    struct curl_slist *longer = curl_slist_append(stream->headers, line);
    if (longer != NULL)
        stream->headers = longer;
    return longer != NULL;
}

static bool add_last_id(struct stream *stream) {
    const char *id = sse_last_id(stream->sse);
    if (id[0] == '\0')
        return true;
    char *line = NULL;
    if (asprintf(&line, "Last-Event-ID: %s", id) < 0)
        return false;
    bool fine = add_header(stream, line);
    free(line);
    return fine;
}

static void close_connection(struct stream *stream) {
    if (stream->handle != NULL) {
        curl_multi_remove_handle(stream->multi, stream->handle);
        curl_easy_cleanup(stream->handle);
    }
    stream->handle = NULL;
    curl_slist_free_all(stream->headers);
    stream->headers = NULL;
}

static bool open_connection(struct stream *stream) {
    stream->outcome = OUTCOME_GOING;
    stream->described = false;
    stream->answer = (struct http_response){0};
    buffer_clear(&stream->problem);
    sse_restart(stream->sse);
    stream->last_byte_ms = clock_ms();
    stream->handle = http_handle(stream->options->http, stream->options->path, stream->error);
    if (stream->handle == NULL || !add_header(stream, "Accept: text/event-stream") ||
        !add_header(stream, "Cache-Control: no-store") || !add_last_id(stream))
        return false;
    curl_easy_setopt(stream->handle, CURLOPT_HTTPHEADER, stream->headers);
    curl_easy_setopt(stream->handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(stream->handle, CURLOPT_WRITEDATA, stream);
    return curl_multi_add_handle(stream->multi, stream->handle) == CURLM_OK;
}

static CURLcode transfer_result(struct stream *stream) {
    int left = 0;
    CURLMsg *message = curl_multi_info_read(stream->multi, &left);
    return message != NULL && message->msg == CURLMSG_DONE ? message->data.result : CURLE_OK;
}

static void say_why_lost(struct stream *stream, CURLcode code) {
    long status = stream->answer.status;
    if (status != 0 && status != 200)
        snprintf(stream->error, sizeof stream->error, "it answered with status %ld", status);
    else if (stream->error[0] == '\0')
        snprintf(stream->error, sizeof stream->error, "%s",
                 code == CURLE_OK ? "the server ended the stream" : curl_easy_strerror(code));
}

/* The transfer ended by itself: a final answer, or something to try again. */
static enum outcome judge_end(struct stream *stream) {
    CURLcode code = transfer_result(stream);
    if (stream->outcome != OUTCOME_GOING)
        return stream->outcome;
    if (interrupt_seen()) /* then it was our own progress callback that ended it */
        return OUTCOME_INTERRUPTED;
    if (code == CURLE_OUT_OF_MEMORY)
        return broken(stream, ERR_MEMORY, "out of memory while reading the event stream");
    if (!stream->described)
        describe(stream);
    long status = stream->answer.status;
    if (status == 0 || status == 200 || http_try_later(status) || status == 408 || status == 500) {
        say_why_lost(stream, code);
        return OUTCOME_LOST;
    }
    return OUTCOME_REFUSED;
}

/* What is to be asked between two reads. */
static enum outcome look_around(struct stream *stream) {
    const struct stream_options *options = stream->options;
    if (interrupt_seen())
        return OUTCOME_INTERRUPTED;
    if (options->on_tick != NULL && options->on_tick(options->arg) != 0)
        return OUTCOME_DONE;
    return OUTCOME_GOING;
}

static enum outcome transfer(struct stream *stream) {
    for (;;) {
        int running = 0;
        if (curl_multi_perform(stream->multi, &running) != CURLM_OK)
            return broken(stream, ERR_MEMORY, "libcurl could not go on reading the event stream; most likely memory ran out");
        if (running == 0)
            return judge_end(stream);
        enum outcome outcome = look_around(stream);
        if (outcome != OUTCOME_GOING)
            return outcome;
        if (clock_ms() - stream->last_byte_ms > stream->options->silence_ms) {
            snprintf(stream->error, sizeof stream->error, "no sign of life for %.0f s",
                     (double)stream->options->silence_ms / 1000);
            return OUTCOME_LOST;
        }
        curl_multi_poll(stream->multi, NULL, 0, TICK_MS, NULL);
    }
}

/* --- the whole --- */

static enum outcome wait_before_next(struct stream *stream) {
    const struct stream_options *options = stream->options;
    int64_t asked_ms = sse_retry_ms(stream->sse);
    int64_t base_ms = asked_ms > 0 ? asked_ms : options->backoff_base_ms;
    int64_t end = clock_ms() + backoff_next_ms(stream->attempt++, base_ms, options->backoff_cap_ms, stream->answer.retry_after_s);
    for (int64_t left; (left = end - clock_ms()) > 0;) {
        enum outcome outcome = look_around(stream);
        if (outcome != OUTCOME_GOING)
            return outcome;
        interrupt_wait_ms(left < TICK_MS ? left : TICK_MS);
    }
    return look_around(stream);
}

static void report_loss(struct stream *stream) {
    if (!stream->in_outage && stream->options->on_news != NULL)
        stream->options->on_news(stream->options->arg, STREAM_LOST, stream->error);
    stream->in_outage = true;
}

static enum outcome run(struct stream *stream) {
    for (;;) {
        enum outcome outcome = open_connection(stream)
                                   ? transfer(stream)
                                   : broken(stream, ERR_MEMORY, "out of memory while connecting to the event stream");
        close_connection(stream);
        if (outcome != OUTCOME_LOST)
            return outcome;
        report_loss(stream);
        outcome = wait_before_next(stream);
        if (outcome != OUTCOME_GOING)
            return outcome;
    }
}

/* Hands the final answer over, its body included. */
static void give_answer(struct stream *stream, struct http_response *ret_answer) {
    *ret_answer = stream->answer;
    ret_answer->body = stream->problem.data;
    ret_answer->size = stream->problem.size;
    stream->problem = (struct buffer){0};
}

static int conclude(struct stream *stream, enum outcome outcome, enum stream_end *ret_end, struct http_response *ret_answer) {
    switch (outcome) {
    case OUTCOME_DONE:
        *ret_end = STREAM_DONE;
        return 0;
    case OUTCOME_INTERRUPTED:
        *ret_end = STREAM_INTERRUPTED;
        return 0;
    case OUTCOME_REFUSED:
        *ret_end = STREAM_REFUSED;
        give_answer(stream, ret_answer);
        return 0;
    case OUTCOME_GOING:
    case OUTCOME_LOST:
    case OUTCOME_BROKEN:
        break;
    }
    return -1;
}

int stream_run(const struct stream_options *options, enum stream_end *ret_end, struct http_response *ret_answer,
               struct err *err) {
    struct stream stream = {.options = options, .err = err};
    int rc = -1;
    stream.sse = sse_new(options->on_event, options->arg);
    stream.multi = curl_multi_init();
    if (stream.sse == NULL || stream.multi == NULL || buffer_add(&stream.problem, "", 0, 1) != BUFFER_OK)
        err_set(err, ERR_MEMORY, "out of memory while preparing the event stream");
    else
        rc = conclude(&stream, run(&stream), ret_end, ret_answer);
    buffer_done(&stream.problem);
    curl_multi_cleanup(stream.multi);
    sse_free(stream.sse);
    return rc;
}
