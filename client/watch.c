/* The command watch: the epochs that are there, then the stream, then the result. */
#include "client/watch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/format.h"
#include "client/interrupt.h"
#include "client/problem.h"
#include "client/progress.h"
#include "client/report.h"
#include "client/results.h"
#include "client/stream.h"
#include "client/text.h"
#include "common/json.h"
#include "common/loop.h"

enum { EXIT_JOB = 1, EXIT_DELETED = 4, EXIT_INTERRUPTED = 130, POSITION_MS = 5000, POSITION_TIMEOUT_MS = 3000 };

struct watch {
    const struct client *client;
    const char *id;
    json_t *job;        /* as last heard of */
    json_t *last_epoch; /* NULL before the first */
    int64_t epochs_seen, epochs;
    struct progress progress;
    int64_t asked_ms; /* when the place in the queue was asked for */
    bool headed, ended;
    int code; /* why the stream was ended early, an exit code that is already explained */
};

static const char *state_of(const struct watch *watch) {
    return field_text(watch->job, "state");
}

static bool has_ended(const char *state) {
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0 ||
           strcmp(state, "deleted") == 0;
}

static int64_t before_it(const json_t *job) {
    const json_t *position = json_object_get(job, "position");
    return json_is_integer(position) ? json_integer_value(position) : -1;
}

/* --- printing --- */

/* {"event": ..., "id": ..., "data": as received} */
static void print_event(const char *type, const char *id, const char *data, size_t size) {
    bool number = id[0] != '\0' && strspn(id, "0123456789") == strlen(id);
    printf("{\"event\":\"%s\",\"id\":%s,\"data\":", type, number ? id : "null");
    text_put_json(stdout, data, size);
    puts("}");
}

static int print_own_event(const char *type, const json_t *data) {
    struct err err = {0};
    char *text = json_text(data);
    if (text == NULL) {
        err_set(&err, ERR_MEMORY, "out of memory while printing an event");
        return client_fail(&err);
    }
    print_event(type, "", text, strlen(text));
    free(text);
    return 0;
}

static void print_epoch(struct watch *watch, const json_t *epoch) {
    progress_clear(&watch->progress, clock_ms());
    progress_epoch_ended(&watch->progress);
    if (!watch->client->term.tty) {
        report_epoch_line(epoch, (int)watch->epochs);
        return;
    }
    if (!watch->headed)
        report_epoch_heading(&watch->client->term, epoch);
    watch->headed = true;
    report_epoch_row(epoch, (int)watch->epochs);
}

/* Counts an epoch; false when it was there before. */
static bool note_epoch(struct watch *watch, const json_t *epoch) {
    int64_t number = field_int(epoch, "epoch");
    if (number <= watch->epochs_seen)
        return false;
    watch->epochs_seen = number;
    json_decref(watch->last_epoch);
    watch->last_epoch = json_incref((json_t *)epoch);
    return true;
}

static int take_known_epoch(void *arg, const json_t *epoch) {
    struct watch *watch = arg;
    if (!note_epoch(watch, epoch))
        return 0;
    if (watch->client->json)
        return print_own_event("epoch", epoch);
    print_epoch(watch, epoch);
    return 0;
}

/* --- the job --- */

static void set_job(struct watch *watch, json_t *job) {
    json_decref(watch->job);
    watch->job = job;
    watch->ended = has_ended(state_of(watch));
    if (json_is_integer(json_object_get(job, "epochs")))
        watch->epochs = field_int(job, "epochs");
    progress_state(&watch->progress, state_of(watch), before_it(job));
}

static int fetch_job(struct watch *watch) {
    char path[128];
    json_t *job = NULL;
    snprintf(path, sizeof path, "/v1/jobs/%s", watch->id);
    int code = client_get(watch->client, path, &job);
    if (code == 0)
        set_job(watch, job);
    return code;
}

/* The place in the queue is not in the stream, since it changes by what happens to other jobs. Failures do not matter here: the
 * stream notices them too. */
static void refresh_position(struct watch *watch) {
    struct http_response response = {0};
    char path[128];
    int64_t now = clock_ms();
    if (watch->client->json || strcmp(state_of(watch), "queued") != 0 || now - watch->asked_ms < POSITION_MS)
        return;
    watch->asked_ms = now;
    snprintf(path, sizeof path, "/v1/jobs/%s", watch->id);
    struct http_request request = {.method = "GET", .path = path, .timeout_ms = POSITION_TIMEOUT_MS};
    if (http_send(watch->client->http, &request, &response, NULL) != 0)
        return;
    json_t *job = response.status == 200 ? json_parse(response.body, response.size, NULL) : NULL;
    if (strcmp(field_text(job, "state"), "queued") == 0)
        progress_state(&watch->progress, "queued", before_it(job));
    json_decref(job);
    http_response_done(&response);
}

/* --- the stream --- */

static int bad_event(struct watch *watch, const struct sse_event *event, const struct err *why) {
    struct err err = {0};
    progress_clear(&watch->progress, clock_ms());
    err_set(&err, ERR_PROTOCOL, "the event \"%.40s\" number %.40s is not a JSON object: %s", event->type, event->id, why->text);
    watch->code = client_fail(&err);
    return 1;
}

static void take_job_event(struct watch *watch, json_t *data) {
    if (strcmp(field_text(data, "state"), state_of(watch)) != 0)
        watch->asked_ms = 0; /* queued again: its place is news */
    set_job(watch, json_incref(data));
}

static int on_event(void *arg, const struct sse_event *event) {
    struct watch *watch = arg;
    struct err why = {0};
    json_t *data = json_parse(event->data, event->data_size, &why);
    if (!json_is_object(data)) {
        json_decref(data);
        return bad_event(watch, event, &why);
    }
    bool is_epoch = strcmp(event->type, "epoch") == 0, is_job = strcmp(event->type, "job") == 0;
    bool is_progress = strcmp(event->type, "progress") == 0;
    bool fresh = is_epoch ? note_epoch(watch, data) : is_job || is_progress;
    if (watch->client->json && fresh)
        print_event(event->type, event->id, event->data, event->data_size);
    else if (is_epoch && fresh)
        print_epoch(watch, data);
    if (is_job)
        take_job_event(watch, data);
    if (is_progress)
        progress_event(&watch->progress, data);
    json_decref(data);
    return watch->ended || term_flush() != 0;
}

static int on_tick(void *arg) {
    struct watch *watch = arg;
    refresh_position(watch);
    progress_tick(&watch->progress, clock_ms());
    return term_flush() != 0;
}

static void on_news(void *arg, enum stream_news news, const char *why) {
    struct watch *watch = arg;
    progress_clear(&watch->progress, clock_ms());
    term_flush();
    switch (news) {
    case STREAM_LOST:
        client_say(watch->client, "The connection to %s is lost (%s); trying again.", http_server(watch->client->http), why);
        break;
    case STREAM_BACK:
        client_say(watch->client, "The connection is back.");
        break;
    }
}

static int refused(const struct http_response *answer) {
    problem_print(stderr, answer);
    return problem_exit(answer);
}

static int interrupted(const struct watch *watch) {
    client_say(watch->client, "%s goes on without being watched; \"residuum watch %s\" follows it again.", watch->id, watch->id);
    return EXIT_INTERRUPTED;
}

/* Follows the events after the job's cursor until it ends. */
static int follow(struct watch *watch) {
    char path[160];
    snprintf(path, sizeof path, "/v1/events?job=%s&after=%lld", watch->id, (long long)field_int(watch->job, "cursor"));
    struct stream_options options = {.http = watch->client->http,
                                     .path = path,
                                     .silence_ms = STREAM_SILENCE_MS,
                                     .backoff_base_ms = STREAM_BACKOFF_BASE_MS,
                                     .backoff_cap_ms = STREAM_BACKOFF_CAP_MS,
                                     .on_event = on_event,
                                     .on_tick = on_tick,
                                     .on_news = on_news,
                                     .arg = watch};
    enum stream_end end = STREAM_DONE;
    struct http_response answer = {0};
    struct err err = {0};
    int rc = stream_run(&options, &end, &answer, &err);
    progress_clear(&watch->progress, clock_ms());
    term_flush();
    int code = watch->code;
    if (rc != 0)
        code = client_fail(&err);
    else if (end == STREAM_REFUSED)
        code = refused(&answer);
    else if (end == STREAM_INTERRUPTED)
        code = interrupted(watch);
    http_response_done(&answer);
    return code;
}

/* --- the end --- */

static void print_result(const struct watch *watch) {
    const struct term *term = &watch->client->term;
    json_t *body = NULL;
    char share[FORMAT_MAX];
    if (watch->last_epoch != NULL) {
        printf("%sTest accuracy %s%s after epoch %lld of %lld\n", term_paint(term, PAINT_BOLD),
               format_share(share, field_real(watch->last_epoch, "test.accuracy")), term_plain(term),
               (long long)watch->epochs_seen, (long long)watch->epochs);
        report_confusion(term, watch->last_epoch, results_class_names(watch->client, watch->job, &body));
    }
    printf("%s/#/jobs/%s\n", http_server(watch->client->http), watch->id);
    json_decref(body);
}

static int explain_end(const struct watch *watch) {
    const char *state = state_of(watch), *code = field_text(watch->job, "reason.code");
    const char *reason = field_text(watch->job, "reason.text");
    struct err err = {0};
    if (strcmp(state, "succeeded") == 0)
        return 0;
    if (strcmp(state, "deleted") == 0) {
        err_set(&err, ERR_NOT_FOUND, "%s was deleted", watch->id);
        return client_fail(&err);
    }
    if (reason[0] != '\0')
        err_set(&err, ERR_WORKER, "%s %s: %s (%s)", watch->id, strcmp(state, "failed") == 0 ? "failed" : "was cancelled", reason,
                code);
    else
        err_set(&err, ERR_WORKER, "%s %s", watch->id, strcmp(state, "failed") == 0 ? "failed" : "was cancelled");
    client_fail(&err);
    return EXIT_JOB;
}

static int finish(const struct watch *watch) {
    if (!watch->client->json && strcmp(state_of(watch), "deleted") != 0)
        print_result(watch);
    term_flush();
    return explain_end(watch);
}

static int run(struct watch *watch) {
    int code = fetch_job(watch);
    if (code == 0)
        code = results_epochs(watch->client, watch->id, 0, take_known_epoch, watch);
    if (code == 0 && watch->client->json)
        code = print_own_event("job", watch->job);
    if (code == 0 && term_flush() == 0 && !watch->ended)
        code = follow(watch);
    if (code == 0 && watch->ended)
        code = finish(watch);
    return interrupt_seen() && code != 0 ? EXIT_INTERRUPTED : code;
}

int watch_job(const struct client *client, const char *id) {
    struct watch watch = {.client = client, .id = id};
    watch.progress = (struct progress){.term = &client->term, .off = client->json || client->quiet, .before = -1};
    interrupt_catch();
    int code = run(&watch);
    json_decref(watch.job);
    json_decref(watch.last_epoch);
    return code;
}

int command_watch(struct client *client) {
    char *path = NULL;
    int code = client_job_path(client, "", &path);
    free(path);
    return code == 0 ? watch_job(client, client->args->argument[0]) : code;
}
