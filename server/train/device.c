/* A job's device: the data on it, how it is, and the end of an attempt on one that failed. See private.h. */
#include <math.h>
#include <unistd.h>

#include "common/json.h"
#include "server/train/private.h"
#include "server/train/say.h"

/* --- the end --- */

void device_failed(struct emit *emit, const struct err *err) {
    emit_error(emit, err);
    _exit(WORKER_EXIT_DEVICE);
}

/* --- what does not end --- */

/* On the watchdog's thread. The trainer's is in what does not end, so its state can be read and its events are not written
 * meanwhile. */
static void stuck(void *arg, enum watchdog_step step, double limit_s) {
    static const char *const names[] = {[WATCHDOG_PREPARE] = "the preparation of the network",
                                        [WATCHDOG_COPY] = "a copy to or from the device",
                                        [WATCHDOG_TRAIN] = "a step of the training",
                                        [WATCHDOG_EVALUATE] = "a step of the evaluation"};
    struct trainer *t = arg;
    struct err err = {0};
    err_set(&err, ERR_DEVICE,
            "%s in epoch %d has not ended within %g s on %s (%s): the device or its driver hangs; look into the kernel's log for "
            "a line with NVRM: Xid",
            names[step], t->state.epoch + 1, limit_s, t->info.device, t->info.device_id);
    device_failed(t->emit, &err);
}

/* What is set in the environment is for tests. A backward pass computes twice as much as a forward pass. */
int device_watch(struct trainer *t, struct err *err) {
    const double prepare_s = 600, copy_s = 120;
    double flops = (double)t->graph->flops;
    struct watchdog_options options = {
        .least_s = {[WATCHDOG_PREPARE] = clock_duration("RESIDUUM_STUCK_PREPARE_MS", prepare_s),
                    [WATCHDOG_COPY] = clock_duration("RESIDUUM_STUCK_COPY_MS", copy_s),
                    [WATCHDOG_TRAIN] = clock_duration("RESIDUUM_STUCK_MS", pace_first_limit(3 * flops * t->batch)),
                    [WATCHDOG_EVALUATE] = clock_duration("RESIDUUM_STUCK_MS", pace_first_limit(flops * t->evaluator_batch))},
        .stuck = stuck,
        .arg = t};
    return t->info.compute > 0 ? watchdog_start(&options, &t->watchdog, err) : 0;
}

/* --- data --- */

static int load_set(const struct trainer *t, enum backend_set name, const struct image_set *set, struct err *err) {
    const struct data *data = &t->data;
    struct backend_data images = {.n = set->n,
                                  .channels = data->channels,
                                  .height = data->height,
                                  .width = data->width,
                                  .pixels = set->pixels,
                                  .mean = data->mean,
                                  .deviation = data->deviation,
                                  .normal = data->normal};
    if (set->n == 0)
        return 0;
    watchdog_begin(t->watchdog, WATCHDOG_COPY);
    int rc = t->api->load_data(t->backend, name, &images, err);
    watchdog_end(t->watchdog);
    return rc;
}

int device_load(const struct trainer *t, struct err *err) {
    if (!device_has_data(t))
        return 0;
    if (load_set(t, SET_TRAIN, &t->data.train, err) != 0 || load_set(t, SET_VALIDATION, &t->data.validation, err) != 0)
        return -1;
    return load_set(t, SET_TEST, &t->data.test, err);
}

bool device_has_data(const struct trainer *t) {
    return t->api->load_data != NULL;
}

/* --- tensors --- */

int device_get_all(const struct trainer *t, struct err *err) {
    watchdog_begin(t->watchdog, WATCHDOG_COPY);
    int rc = tensors_get_all(&t->tensors, t->api, t->plan, err);
    watchdog_end(t->watchdog);
    return rc;
}

int device_set_all(const struct trainer *t, struct err *err) {
    watchdog_begin(t->watchdog, WATCHDOG_COPY);
    int rc = tensors_set_all(&t->tensors, t->api, t->plan, err);
    watchdog_end(t->watchdog);
    return rc;
}

/* --- how it is --- */

/* Used between two readings: by the counter or, where there is none or it began anew, by the mean of the power. */
static double joules(const struct reading *from, const struct reading *to) {
    double counted = to->now.energy_j - from->now.energy_j;
    if (from->now.energy_j >= 0 && counted >= 0)
        return counted;
    if (from->now.power_w >= 0 && to->now.power_w >= 0)
        return (from->now.power_w + to->now.power_w) / 2 * (to->at - from->at);
    return NAN;
}

/* What the driver does not tell costs no job: only a device that reports a fault of its own does. */
static int not_told(struct trainer *t, const struct err *reason, struct err *err) {
    if (reason->code == ERR_DEVICE) {
        *err = *reason;
        return -1;
    }
    if (!t->gauge.complained)
        say("the device does not tell how it is: %s", reason->text);
    t->gauge = (struct gauge){.complained = true};
    t->state.energy_j = NAN;
    return 0;
}

int device_read(struct trainer *t, struct err *err) {
    struct gauge *gauge = &t->gauge;
    struct reading next;
    struct err reason = {0};
    if (t->api->telemetry == NULL)
        return 0;
    watchdog_begin(t->watchdog, WATCHDOG_COPY);
    int rc = t->api->telemetry(t->backend, &next.now, &reason);
    watchdog_end(t->watchdog);
    if (rc != 0)
        return not_told(t, &reason, err);
    next.at = clock_seconds();
    if (gauge->told)
        t->state.energy_j += joules(&gauge->last, &next);
    gauge->last = next;
    gauge->told = true;
    return 0;
}

static json_t *told(double value) {
    return value >= 0 ? json_number_or_null(value) : json_null();
}

json_t *device_json(const struct trainer *t) {
    const struct backend_telemetry *now = &t->gauge.last.now;
    if (!t->gauge.told)
        return json_null();
    json_t *memory = now->memory_used_bytes >= 0 ? json_integer((json_int_t)now->memory_used_bytes) : json_null();
    return json_pack("{s:o, s:o, s:o, s:o}", "temperature_c", told(now->temperature_c), "utilization", told(now->utilization),
                     "power_w", told(now->power_w), "memory_used_bytes", memory);
}

json_t *device_epoch_json(const struct trainer *t) {
    json_t *device = device_json(t);
    if (json_is_object(device) && json_object_set_new(device, "energy_j", json_number_or_null(t->state.energy_j)) != 0) {
        json_decref(device);
        return NULL;
    }
    return device;
}
