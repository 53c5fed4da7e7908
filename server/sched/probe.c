/* Asks a worker what devices and data sets there are. It may crash, hang or lie: then the reason is kept, and it is asked again
 * after a pause that doubles each time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/log.h"
#include "server/sched/private.h"

enum { ANSWER_MAX = 256 << 10, COMPLAINT_MAX = 400, PAUSE_FIRST_MS = 5000, PAUSE_MAX_MS = 300000 };

struct probe {
    struct sched *sched;
    struct proc proc;
    struct pump *out, *err;
    struct loop_fd *exit_watch;
    struct loop_timer *timer; /* while it runs: its time limit; else: the pause */
    char *text;
    size_t used;
    char complaint[COMPLAINT_MAX]; /* the end of what it wrote to standard error */
    size_t complaint_used;
    bool running, timed_out, oversize;
    int64_t pause_ms;
    json_t *devices, *datasets; /* of the last good answer */
    struct err reason;
};

static int heard(void *arg, const char *data, size_t size) {
    struct probe *probe = arg;
    char *larger = probe->used + size <= ANSWER_MAX ? realloc(probe->text, probe->used + size) : NULL;
    if (larger == NULL) {
        probe->oversize = true;
        return -1;
    }
    memcpy(larger + probe->used, data, size);
    probe->text = larger;
    probe->used += size;
    return 0;
}

static int complained(void *arg, const char *data, size_t size) {
    struct probe *probe = arg;
    size_t room = sizeof probe->complaint - 1;
    if (size > room) {
        data += size - room;
        size = room;
    }
    size_t keep = probe->complaint_used + size <= room ? probe->complaint_used : room - size;
    memmove(probe->complaint, probe->complaint + probe->complaint_used - keep, keep);
    memcpy(probe->complaint + keep, data, size);
    probe->complaint_used = keep + size;
    probe->complaint[probe->complaint_used] = '\0';
    return 0;
}

static void stop_reading(struct probe *probe) {
    loop_fd_remove(probe->exit_watch);
    probe->exit_watch = NULL;
    pump_free(probe->out);
    pump_free(probe->err);
    probe->out = probe->err = NULL;
    proc_done(&probe->proc);
    free(probe->text);
    probe->text = NULL;
    probe->used = 0;
    probe->running = false;
}

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

static void settle(struct probe *probe, json_t *answer, const struct err *why) {
    stop_reading(probe);
    if (answer != NULL) {
        json_decref(probe->devices);
        json_decref(probe->datasets);
        probe->devices = json_incref(json_object_get(answer, "devices"));
        probe->datasets = by_name(json_object_get(answer, "datasets"));
        json_decref(answer);
        probe->reason = (struct err){0};
        log_line("info", "probe-answered", (char *)NULL);
        loop_timer_disarm(probe->timer);
        loop_again(probe->sched->options.loop); /* jobs may be waiting for it */
        return;
    }
    probe->reason = *why;
    log_line("warning", "probe-failed", "reason", why->text, (char *)NULL);
    loop_timer_arm(probe->timer, probe->pause_ms);
    probe->pause_ms = probe->pause_ms * 2 < PAUSE_MAX_MS ? probe->pause_ms * 2 : PAUSE_MAX_MS;
}

static void explain(const struct probe *probe, const struct proc_end *end, struct err *ret_why) {
    char text[96];
    proc_describe(end, text, sizeof text);
    const char *said = probe->complaint;
    if (probe->timed_out)
        err_set(ret_why, ERR_WORKER, "the probe of the devices did not answer within %lld ms and was killed",
                (long long)probe->sched->options.probe_timeout_ms);
    else if (probe->oversize)
        err_set(ret_why, ERR_PROTOCOL, "the probe of the devices answered with more than %d bytes", ANSWER_MAX);
    else
        err_set(ret_why, ERR_WORKER, "the probe of the devices ended: %s%s%.300s", text, said[0] != '\0' ? "; it said: " : "",
                said);
}

static void ended(void *arg, uint32_t epoll_events) {
    struct probe *probe = arg;
    struct proc_end end;
    (void)epoll_events;
    proc_kill(&probe->proc); /* whatever it started */
    if (!proc_reap(&probe->proc, &end))
        return;
    pump_drain(probe->out);
    pump_drain(probe->err);
    struct err why = {0};
    json_t *answer = NULL;
    if (probe->timed_out || probe->oversize || end.by_signal || end.code != 0)
        explain(probe, &end, &why);
    else
        answer = message_parse_probe(probe->text != NULL ? probe->text : "", probe->used, &why);
    settle(probe, answer, &why);
}

static int watch(struct probe *probe, struct err *err) {
    struct loop *loop = probe->sched->options.loop;
    struct pump_options out = {.loop = loop, .fd = probe->proc.out, .fn = heard, .arg = probe};
    struct pump_options complaints = {.loop = loop, .fd = probe->proc.err, .fn = complained, .arg = probe};
    probe->out = pump_new(&out, err);
    probe->err = probe->out != NULL ? pump_new(&complaints, err) : NULL;
    probe->exit_watch = probe->err != NULL ? loop_fd_add(loop, probe->proc.pidfd, EPOLLIN, ended, probe, err) : NULL;
    return probe->exit_watch != NULL ? 0 : -1;
}

static void start(struct probe *probe) {
    struct err why = {0};
    probe->timed_out = probe->oversize = false;
    probe->complaint_used = 0;
    probe->complaint[0] = '\0';
    if (launch_worker(probe->sched, NULL, &probe->proc, &why) != 0 || watch(probe, &why) != 0) {
        settle(probe, NULL, &why);
        return;
    }
    proc_close_in(&probe->proc);
    probe->running = true;
    loop_timer_arm(probe->timer, probe->sched->options.probe_timeout_ms);
}

static void timer(void *arg) {
    struct probe *probe = arg;
    if (!probe->running) {
        start(probe);
        return;
    }
    probe->timed_out = true;
    proc_kill(&probe->proc);
}

int probe_new(struct sched *sched, struct probe **ret_probe, struct err *err) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting the probe");
    *probe = (struct probe){.sched = sched, .proc = PROC_NONE, .pause_ms = PAUSE_FIRST_MS};
    probe->timer = loop_timer_add(sched->options.loop, timer, probe, err);
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
    stop_reading(probe);
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
    return !probe->running && probe->reason.code != ERR_NONE;
}

const char *probe_reason(const struct probe *probe) {
    return probe->reason.text;
}
