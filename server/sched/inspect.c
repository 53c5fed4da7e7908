/* Questions about a job's network, each answered by a short worker of low priority beside whatever trains: at most two at once,
 * first come, first served. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/sched/private.h"

enum { RUNNING_MAX = 2, WAITING_MAX = 32, TRIES_MAX = 5, INSPECT_NICE = 19 };
static const char what[] = "the look into the network";

struct inspection {
    struct inspection *next; /* the order of asking */
    struct sched *sched;
    char job[JOB_ID_MAX];
    int asked_epoch, epoch; /* as asked; whose weights the worker was given */
    int tries;
    json_t *line;          /* the worker's line, as far as it does not depend on the epoch */
    struct errand *errand; /* NULL: it waits for its turn */
    sched_inspect_fn *fn;
    void *arg;
};

static void inspection_free(struct inspection *inspection) {
    errand_free(inspection->errand);
    json_decref(inspection->line);
    free(inspection);
}

static void leave_list(struct inspection *inspection) {
    struct inspection **link = &inspection->sched->inspections;
    while (*link != inspection)
        link = &(*link)->next;
    *link = inspection->next;
}

static int count(const struct sched *sched, bool running) {
    int n = 0;
    for (const struct inspection *each = sched->inspections; each != NULL; each = each->next)
        n += (each->errand != NULL) == running;
    return n;
}

static void finish(struct inspection *inspection, const char *answer, size_t size, const struct err *why) {
    leave_list(inspection);
    inspection->fn(inspection->arg, answer, size, why);
    inspection_free(inspection);
}

/* Names the weights, as they are now, in the worker's line. */
static int add_weights(struct inspection *inspection, struct err *err) {
    struct sched_weights weights = {0};
    bool needed = inspection->asked_epoch != WEIGHTS_NONE;
    if (needed && sched_weights_find(inspection->sched, inspection->job, inspection->asked_epoch, &weights, err) != 0)
        return -1;
    inspection->epoch = weights.epoch;
    json_t *path = needed ? json_string(weights.path) : json_null();
    if (json_object_set_new(inspection->line, "epoch", json_integer(weights.epoch)) != 0 ||
        json_object_set_new(inspection->line, "weights", path) != 0)
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    return 0;
}

static void answered(void *arg, const char *answer, size_t size, const struct err *why);

static int start(struct inspection *inspection, struct err *err) {
    if (add_weights(inspection, err) != 0)
        return -1;
    char *question = launch_line(json_incref(inspection->line));
    if (question == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    struct errand_options options = {.sched = inspection->sched,
                                     .what = what,
                                     .args = (const char *const[]){"--inspect", NULL},
                                     .question = question,
                                     .nice = INSPECT_NICE,
                                     .answer_max = EVENT_INSPECT_LINE_MAX,
                                     .timeout_ms = inspection->sched->options.inspect_timeout_ms,
                                     .fn = answered,
                                     .arg = inspection};
    inspection->tries++;
    int rc = errand_new(&options, &inspection->errand, err);
    free(question);
    return rc;
}

static void start_waiting(struct sched *sched);

/* A job that trains on removes older weights: a worker may find its file gone. Then it is asked about the one that has taken its
 * place, or the answer says which there are. Returns whether it runs again. */
static bool again(struct inspection *inspection, struct err *why) {
    struct err reason = {0};
    struct sched_weights weights;
    if (why->code != ERR_NOT_FOUND || inspection->asked_epoch == WEIGHTS_NONE || inspection->tries == TRIES_MAX)
        return false;
    int rc = sched_weights_find(inspection->sched, inspection->job, inspection->asked_epoch, &weights, &reason);
    if (rc == 0 && weights.epoch == inspection->epoch)
        return false;
    errand_free(inspection->errand);
    inspection->errand = NULL;
    if (rc == 0 && start(inspection, &reason) == 0)
        return true;
    *why = reason;
    return false;
}

static void answered(void *arg, const char *answer, size_t size, const struct err *why) {
    struct inspection *inspection = arg;
    struct sched *sched = inspection->sched;
    struct err reason = *why;
    if (answer != NULL && message_check_inspection(answer, size, &reason) != 0)
        answer = NULL;
    if (answer == NULL && again(inspection, &reason))
        return;
    finish(inspection, answer, size, &reason);
    start_waiting(sched);
}

static struct inspection *first_waiting(const struct sched *sched) {
    struct inspection *each = sched->inspections;
    while (each != NULL && each->errand != NULL)
        each = each->next;
    return each;
}

static void start_waiting(struct sched *sched) {
    struct inspection *next;
    while (!sched->draining && count(sched, true) < RUNNING_MAX && (next = first_waiting(sched)) != NULL) {
        struct err why = {0};
        if (start(next, &why) != 0)
            finish(next, NULL, 0, &why);
    }
}

static void append(struct inspection *inspection) {
    struct inspection **link = &inspection->sched->inspections;
    while (*link != NULL)
        link = &(*link)->next;
    *link = inspection;
}

/* Takes its place: a worker, where fewer than two run, else in the queue. */
static int enter(struct inspection *inspection, struct err *err) {
    bool now = count(inspection->sched, true) < RUNNING_MAX;
    if (now && start(inspection, err) != 0)
        return -1;
    append(inspection);
    return 0;
}

static int check_room(const struct sched *sched, struct err *err) {
    if (sched->draining)
        return err_set(err, ERR_UNAVAILABLE, "the server is shutting down; try again when it is back");
    if (count(sched, false) >= WAITING_MAX)
        return err_set(err, ERR_LIMIT, "%d questions about networks are waiting already; try again in some seconds", WAITING_MAX);
    return 0;
}

static json_t *make_line(const struct sched *sched, const struct sched_question *question) {
    const char *spec = question->job->spec;
    return json_pack("{s:i, s:o, s:o, s:o}", "protocol", EVENT_PROTOCOL, "dataset", launch_dataset(sched, question->job), "spec",
                     json_parse(spec, strlen(spec), NULL), "want", question->steal_want);
}

int sched_inspect(struct sched *sched, const struct sched_question *question, struct inspection **ret_inspection,
                  struct err *err) {
    struct inspection *inspection = calloc(1, sizeof *inspection);
    json_t *line = make_line(sched, question);
    if (line == NULL || inspection == NULL) {
        json_decref(line);
        free(inspection);
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    }
    *inspection = (struct inspection){
        .sched = sched, .asked_epoch = question->epoch, .line = line, .fn = question->fn, .arg = question->arg};
    snprintf(inspection->job, sizeof inspection->job, "%s", question->job->id);
    if (check_room(sched, err) != 0 || add_weights(inspection, err) != 0 || enter(inspection, err) != 0) {
        inspection_free(inspection);
        return -1;
    }
    *ret_inspection = inspection;
    return 0;
}

void sched_inspect_abandon(struct inspection *inspection) {
    struct sched *sched = inspection->sched;
    leave_list(inspection);
    inspection_free(inspection);
    start_waiting(sched);
}

void inspections_drain(struct sched *sched) {
    struct err why = {0};
    err_set(&why, ERR_UNAVAILABLE, "the server is shutting down; try again when it is back");
    while (sched->inspections != NULL)
        finish(sched->inspections, NULL, 0, &why);
}

void inspections_free(struct sched *sched) {
    while (sched->inspections != NULL) {
        struct inspection *inspection = sched->inspections;
        sched->inspections = inspection->next;
        inspection_free(inspection);
    }
}
