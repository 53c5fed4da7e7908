/* Asks a worker what devices and data sets there are. It may crash, hang or lie: then the reason is kept, and it is asked again
 * after a pause that doubles each time; so it is when a backend did not tell its devices. */
#include <stdlib.h>

#include "common/log.h"
#include "server/sched/private.h"

enum { ANSWER_MAX = 256 << 10, PAUSE_FIRST_MS = 5000, PAUSE_MAX_MS = 300000 };

struct probe {
    struct sched *sched;
    struct errand *errand;    /* NULL: none runs */
    struct loop_timer *timer; /* the pause */
    int64_t pause_ms;
    json_t *devices, *datasets; /* of the last good answer */
    struct err reason;
};

/* A list of objects as one object, each under its "name". */
static json_t *by_name(const json_t *list) {
    json_t *item, *object = json_object();
    size_t i;
    json_array_foreach(list, i, item) {
        json_t *card = json_copy(item);
        json_object_del(card, "name");
        json_object_set_new(object, json_string_value(json_object_get(item, "name")), card);
    }
    return object;
}

/* After the pause it is asked again. */
static void pause_probe(struct probe *probe) {
    loop_timer_arm(probe->timer, probe->pause_ms);
    probe->pause_ms = probe->pause_ms * 2 < PAUSE_MAX_MS ? probe->pause_ms * 2 : PAUSE_MAX_MS;
}

static size_t count_offers(const json_t *devices) {
    const json_t *device;
    size_t i, n = 0;
    json_array_foreach(devices, i, device) n += json_array_size(json_object_get(device, "backends"));
    return n;
}

static void keep(struct probe *probe, const json_t *answer) {
    json_decref(probe->devices);
    json_decref(probe->datasets);
    probe->devices = json_incref(json_object_get(answer, "devices"));
    probe->datasets = by_name(json_object_get(answer, "datasets"));
    devices_found(probe->sched); /* jobs may be waiting for it */
}

/* What was known already is not given up for an answer that lacks something. */
static void take(struct probe *probe, const json_t *answer) {
    bool complete = json_is_true(json_object_get(answer, "complete"));
    probe->reason = (struct err){0};
    log_line("info", "probe-answered", "complete", complete ? "yes" : "no", (char *)NULL);
    if (complete || count_offers(json_object_get(answer, "devices")) >= count_offers(probe->devices))
        keep(probe, answer);
    if (!complete)
        pause_probe(probe);
}

static void failed(struct probe *probe, const struct err *why) {
    probe->reason = *why;
    log_line("warning", "probe-failed", "reason", why->text, (char *)NULL);
    pause_probe(probe);
}

static void answered(void *arg, const char *text, size_t size, const struct err *why) {
    struct probe *probe = arg;
    struct err reason = *why;
    json_t *answer = text != NULL ? message_parse_probe(text, size, &reason) : NULL;
    errand_free(probe->errand);
    probe->errand = NULL;
    if (answer != NULL)
        take(probe, answer);
    else
        failed(probe, &reason);
    json_decref(answer);
}

static void start(void *arg) {
    struct probe *probe = arg;
    struct err why = {0};
    struct errand_options options = {.sched = probe->sched,
                                     .what = "the probe of the devices",
                                     .args = (const char *const[]){"--probe", NULL},
                                     .nice = WORKER_NICE,
                                     .answer_max = ANSWER_MAX,
                                     .timeout_ms = probe->sched->options.probe_timeout_ms,
                                     .fn = answered,
                                     .arg = probe};
    if (errand_new(&options, &probe->errand, &why) != 0)
        failed(probe, &why);
}

int probe_new(struct sched *sched, struct probe **ret_probe, struct err *err) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting the probe");
    *probe = (struct probe){.sched = sched, .pause_ms = PAUSE_FIRST_MS};
    probe->timer = loop_timer_add(sched->options.loop, start, probe, err);
    if (probe->timer == NULL) {
        free(probe);
        return -1;
    }
    loop_timer_arm(probe->timer, 0); /* in the loop's first turn: the daemon is ready before it */
    *ret_probe = probe;
    return 0;
}

void probe_free(struct probe *probe) {
    if (probe == NULL)
        return;
    errand_free(probe->errand);
    loop_timer_remove(probe->timer);
    json_decref(probe->devices);
    json_decref(probe->datasets);
    free(probe);
}

const json_t *probe_devices(const struct probe *probe) {
    return probe->devices;
}

const json_t *probe_datasets(const struct probe *probe) {
    return probe->datasets;
}

bool probe_failed(const struct probe *probe) {
    return probe->errand == NULL && probe->reason.code != ERR_NONE;
}

const char *probe_reason(const struct probe *probe) {
    return probe->reason.text;
}
