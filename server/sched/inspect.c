/* Questions about a job's network, each answered by a short worker of low priority beside whatever trains: at most two at once,
 * first come, first served. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/sched/private.h"

enum { RUNNING_MAX = 2, WAITING_MAX = 32, INSPECT_NICE = 19 };
static const char what[] = "the look into the network";

struct inspection {
    struct inspection *next; /* the order of asking */
    struct sched *sched;
    char *question;
    struct errand *errand; /* NULL: it waits for its turn */
    sched_inspect_fn *fn;
    void *arg;
};

static void inspection_free(struct inspection *inspection) {
    errand_free(inspection->errand);
    free(inspection->question);
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

static void start_waiting(struct sched *sched);

static void answered(void *arg, const char *answer, size_t size, const struct err *why) {
    struct inspection *inspection = arg;
    struct sched *sched = inspection->sched;
    struct err reason = *why;
    if (answer != NULL && message_check_inspection(answer, size, &reason) != 0)
        answer = NULL;
    finish(inspection, answer, size, &reason);
    start_waiting(sched);
}

static int start(struct inspection *inspection, struct err *err) {
    struct errand_options options = {.sched = inspection->sched,
                                     .what = what,
                                     .mode = "--inspect",
                                     .question = inspection->question,
                                     .nice = INSPECT_NICE,
                                     .answer_max = EVENT_INSPECT_LINE_MAX,
                                     .timeout_ms = inspection->sched->options.inspect_timeout_ms,
                                     .fn = answered,
                                     .arg = inspection};
    return errand_new(&options, &inspection->errand, err);
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

/* The worker's line (common/event.h). Caller frees; NULL and err on failure. */
static char *make_line(const struct sched *sched, const struct sched_question *question, struct err *err) {
    struct sched_weights weights = {0};
    const struct job *job = question->job;
    if (question->epoch != WEIGHTS_NONE && sched_weights_find(sched, job->id, question->epoch, &weights, err) != 0) {
        json_decref(question->steal_want);
        return NULL;
    }
    char *line = launch_line(json_pack("{s:i, s:i, s:s?, s:o, s:o}", "protocol", EVENT_PROTOCOL, "epoch", weights.epoch,
                                       "weights", weights.epoch > 0 ? weights.path : NULL, "spec",
                                       json_parse(job->spec, strlen(job->spec), NULL), "want", question->steal_want));
    if (line == NULL)
        err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    return line;
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

int sched_inspect(struct sched *sched, const struct sched_question *question, struct inspection **ret_inspection,
                  struct err *err) {
    if (check_room(sched, err) != 0) {
        json_decref(question->steal_want);
        return -1;
    }
    struct inspection *inspection = calloc(1, sizeof *inspection);
    char *line = make_line(sched, question, err);
    if (line == NULL || inspection == NULL) {
        free(line);
        free(inspection);
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    }
    *inspection = (struct inspection){.sched = sched, .question = line, .fn = question->fn, .arg = question->arg};
    if (enter(inspection, err) != 0) {
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
