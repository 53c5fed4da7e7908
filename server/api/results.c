/* What a job produced: epochs, log, graph. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/api/pick.h"
#include "server/api/private.h"
#include "server/api/submit.h"

enum { EPOCHS_MAX = 1000, EPOCHS_PAGE_BYTES = 4 * 1024 * 1024, LOG_MAX = 1024 * 1024, LOG_DEFAULT = 65536 };

/* --- epochs --- */

struct epochs {
    const char *job;
    const struct pick *pick; /* NULL: all of each epoch */
    struct text text;
    int n, limit, last;
    size_t read; /* bytes of what was stored */
    bool more, failed;
};

/* Epochs are stored as the JSON that is shown, without "job": its member is put in front. */
static void write_epoch(struct text *text, const char *job, const char *body) {
    text_printf(text, "{\"job\":\"%s\",", job);
    text_puts(text, body + 1);
}

/* Only the wanted parts, and the epoch's number. */
static int write_parts(struct epochs *epochs, int epoch, const char *body) {
    json_t *stored = json_parse(body, strlen(body), NULL), *parts = pick_from(epochs->pick, stored);
    char *text = parts != NULL && json_object_set_new(parts, "epoch", json_integer(epoch)) == 0 ? json_text(parts) : NULL;
    if (text != NULL)
        write_epoch(&epochs->text, epochs->job, text);
    free(text);
    json_decref(parts);
    json_decref(stored);
    return text != NULL ? 0 : -1;
}

static int add_epoch(void *arg, int epoch, const char *body) {
    struct epochs *epochs = arg;
    if (epochs->n == epochs->limit || epochs->read > EPOCHS_PAGE_BYTES) {
        epochs->more = true;
        return 1;
    }
    if (epochs->n > 0)
        text_puts(&epochs->text, ",");
    if (epochs->pick == NULL)
        write_epoch(&epochs->text, epochs->job, body);
    else
        epochs->failed = write_parts(epochs, epoch, body) != 0;
    epochs->read += strlen(body);
    epochs->n++;
    epochs->last = epoch;
    return epochs->failed;
}

static int list_epochs(struct request *request, struct epochs *epochs, int after, struct err *err) {
    text_puts(&epochs->text, "{\"items\":[");
    if (store_epoch_list(request->api->options.store, &request->api->viewer, epochs->job, after, epochs->limit + 1, add_epoch,
                         epochs, err) != 0)
        return -1;
    if (epochs->failed)
        return err_set(err, ERR_MEMORY, "cannot list epochs: out of memory");
    if (epochs->more)
        text_printf(&epochs->text, "],\"next\":%d}", epochs->last);
    else
        text_puts(&epochs->text, "],\"next\":null}");
    return answer_text(request, MHD_HTTP_OK, "application/json", &epochs->text, err);
}

int handle_epochs(struct request *request, struct err *err) {
    const char *fields = target_param(&request->target, "fields");
    int64_t after, limit;
    struct job job = {0};
    struct pick pick = {0};
    if (target_number(&request->target, "after", 0, INT32_MAX - 1, 0, &after, err) < 0 ||
        target_number(&request->target, "limit", 1, EPOCHS_MAX, EPOCHS_MAX, &limit, err) < 0 ||
        pick_parse(fields, &pick, err) < 0 || request_job(request, &job, err) < 0)
        return -1;
    struct epochs epochs = {.job = job.id, .limit = (int)limit, .pick = fields != NULL ? &pick : NULL};
    int failed = list_epochs(request, &epochs, (int)after, err);
    text_done(&epochs.text);
    job_done(&job);
    return failed;
}

int handle_epoch(struct request *request, struct err *err) {
    struct job job = {0};
    int64_t epoch = 0;
    if (request_job(request, &job, err) < 0)
        return -1;
    if (strcmp(request->args[1], "last") == 0)
        epoch = job.epochs_done;
    else if (!number_parse(request->args[1], &epoch) || epoch > INT32_MAX)
        epoch = 0;
    struct epochs found = {.job = job.id, .limit = 1};
    int failed = epoch < 1 ? 0
                           : store_epoch_list(request->api->options.store, &request->api->viewer, job.id, (int)epoch - 1, 1,
                                              add_epoch, &found, err);
    if (failed == 0 && (found.n == 0 || found.last != epoch))
        failed = err_set(err, ERR_NOT_FOUND, "job %s has no epoch \"%.20s\"; it has finished %d", job.id, request->args[1],
                         job.epochs_done);
    if (failed == 0)
        failed = answer_text(request, MHD_HTTP_OK, "application/json", &found.text, err);
    text_done(&found.text);
    job_done(&job);
    return failed;
}

/* --- log --- */

int handle_log(struct request *request, struct err *err) {
    int64_t limit;
    struct job job = {0};
    char *bytes = NULL;
    size_t size = 0;
    struct text text = {0};
    if (target_number(&request->target, "limit", 1, LOG_MAX, LOG_DEFAULT, &limit, err) < 0 || request_job(request, &job, err) < 0)
        return -1;
    int failed = sched_log(request->api->options.sched, job.id, (size_t)limit, &bytes, &size, err);
    if (failed == 0) {
        text_add(&text, bytes, size);
        failed = answer_text(request, MHD_HTTP_OK, "text/plain; charset=utf-8", &text, err);
    }
    free(bytes);
    job_done(&job);
    return failed;
}

/* --- graph --- */

static int answer_dot(struct request *request, const struct graph *graph, struct err *err) {
    struct text text = {0};
    char *dot = graph_to_dot(graph);
    if (dot == NULL)
        return err_set(err, ERR_MEMORY, "cannot draw the graph: out of memory");
    text_puts(&text, dot);
    free(dot);
    return answer_text(request, MHD_HTTP_OK, "text/vnd.graphviz; charset=utf-8", &text, err);
}

typedef json_t *graph_json_fn(const struct graph *graph);

static const struct graph_format {
    const char *name;
    graph_json_fn *json; /* NULL: DOT */
} graph_formats[] = {{"json", graph_to_json}, {"layers", layers_document}, {"dot", NULL}};

/* The first is the default. */
static const struct graph_format *graph_format(const struct request *request, struct err *err) {
    const char *name = target_param(&request->target, "format");
    for (size_t i = 0; i < sizeof graph_formats / sizeof graph_formats[0]; i++) {
        if (name == NULL || strcmp(name, graph_formats[i].name) == 0)
            return &graph_formats[i];
    }
    err_at(err, ERR_FIELD, "?format", "format is \"%.40s\"; it must be json, layers or dot", name);
    return NULL;
}

int handle_graph(struct request *request, struct err *err) {
    const struct graph_format *format = graph_format(request, err);
    struct job job = {0};
    struct spec spec = {0};
    struct plan plan = {0};
    if (format == NULL || request_job(request, &job, err) < 0)
        return -1;
    int failed = plan_of_text(request->api, &job, job.spec, &spec, &plan, err);
    if (failed == 0) {
        failed = format->json == NULL ? answer_dot(request, plan.graph, err)
                                      : answer_json(request, MHD_HTTP_OK, format->json(plan.graph), err);
        plan_done(&plan);
        spec_done(&spec);
    }
    job_done(&job);
    return failed;
}
