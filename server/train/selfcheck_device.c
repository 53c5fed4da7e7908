/* Items of the self-check about the device as a whole: too large a network, memory that comes back, a minute of work, speed. */
#include <stdio.h>
#include <string.h>

#include "server/train/clock.h"
#include "server/train/selfcheck_private.h"

static const char small[] = "{\"dataset\": \"shapes\", \"batch_size\": 32, \"seed\": 1, "
                            "\"model\": {\"preset\": \"resnet8\", \"width\": 0.5}}";
static const char large[] = "{\"dataset\": \"shapes\", \"batch_size\": 128, \"seed\": 1, "
                            "\"model\": {\"preset\": \"resnet18\"}}";

/* --- a network that does not fit --- */

/* Bytes of a training plan; frees it. */
static int plan_bytes(const struct selfcheck *check, const struct graph *graph, int batch, int64_t *ret_bytes, struct err *err) {
    struct backend_plan_options options = {.batch = batch, .precision = PRECISION_F32, .use = USE_TRAIN};
    struct backend_plan *plan;
    if (check->api->compile(check->backend, graph, &options, &plan, err) != 0)
        return -1;
    *ret_bytes = check->api->memory(plan);
    check->api->plan_free(plan);
    return 0;
}

/* The batch with which a network needs twice the device's memory. */
static int too_many_images(const struct selfcheck *check, const struct graph *graph, int *ret_batch, struct err *err) {
    int64_t of_one, of_nine;
    if (plan_bytes(check, graph, 1, &of_one, err) != 0 || plan_bytes(check, graph, 9, &of_nine, err) != 0)
        return -1;
    int64_t image = (of_nine - of_one) / 8;
    *ret_batch = (int)(2 * check->info.memory_bytes / (image > 0 ? image : 1));
    return 0;
}

static int ask_too_much(const struct selfcheck *check, const struct lesson *lesson, struct backend_check *item, struct err *err) {
    int batch;
    int64_t bytes;
    struct err reason = {0};
    if (too_many_images(check, lesson->graph, &batch, err) != 0)
        return -1;
    item_passes(item, plan_bytes(check, lesson->graph, batch, &bytes, &reason) != 0 && reason.code == ERR_MEMORY);
    snprintf(item->text, sizeof item->text, "a batch of %d images, twice the memory, %s: %.150s", batch,
             item->passed ? "was refused, and then a smaller one trained" : "was not refused for its memory",
             reason.code != ERR_NONE ? reason.text : "it was compiled");
    return 0;
}

static int train_some(const struct selfcheck *check, const struct lesson *lesson, struct err *err) {
    struct pupil pupil;
    double losses[2];
    int rc = pupil_init(&pupil, check, lesson, &(struct pupil_options){.precision = PRECISION_F32}, err);
    if (rc == 0)
        rc = pupil_train(&pupil, 0, 2, losses, err);
    pupil_done(&pupil);
    return rc;
}

int check_too_large(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct lesson lesson;
    (void)precision;
    int rc = lesson_init(&lesson, check, small, err);
    if (rc == 0)
        rc = ask_too_much(check, &lesson, item, err);
    if (rc == 0 && item->passed)
        rc = train_some(check, &lesson, err);
    lesson_done(&lesson);
    return rc;
}

/* --- memory that comes back --- */

static int memory_used(const struct selfcheck *check, int64_t *ret_bytes, struct err *err) {
    struct backend_telemetry now = {.memory_used_bytes = -1};
    if (check->api->telemetry != NULL && check->api->telemetry(check->backend, &now, err) != 0)
        return -1;
    *ret_bytes = now.memory_used_bytes;
    return 0;
}

/* Networks come and go; of what a device holds afterwards, none may be theirs. Its libraries keep what the first one took. */
int check_given_back(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    enum { MIB = 1 << 20 };
    const int rounds = check->brief ? 2 : 10;
    struct lesson lesson;
    int64_t before = -1, after = -1;
    (void)precision;
    int rc = lesson_init(&lesson, check, small, err);
    for (int i = 0; rc == 0 && i <= rounds; i++) {
        rc = train_some(check, &lesson, err);
        if (rc == 0 && i == 0)
            rc = memory_used(check, &before, err);
    }
    if (rc == 0)
        rc = memory_used(check, &after, err);
    lesson_done(&lesson);
    if (rc != 0)
        return -1;
    item->skipped = before < 0 || after < 0;
    if (!item->skipped)
        item_at_most(item, (double)(after - before) / MIB, 16);
    snprintf(item->text, sizeof item->text,
             item->skipped ? "the driver does not tell how much memory is used"
                           : "MiB more in use after %d networks than after one; other programs on the device count, too",
             rounds + 1);
    return 0;
}

/* --- a minute of work --- */

static bool is_known(double value) {
    return value >= 0;
}

static void tell_soak(struct backend_check *item, double steps, double seconds, const struct backend_telemetry *before,
                      const struct backend_telemetry *after) {
    int n = snprintf(item->text, sizeof item->text, "%.0f steps in %.0f s without an error", steps, seconds);
    if (is_known(before->temperature_c) && is_known(after->temperature_c))
        n += snprintf(item->text + n, sizeof item->text - (size_t)n, "; from %.0f to %.0f degrees Celsius", before->temperature_c,
                      after->temperature_c);
    if (is_known(after->power_w))
        n += snprintf(item->text + n, sizeof item->text - (size_t)n, "; %.0f W at the end", after->power_w);
    if (is_known(before->energy_j) && is_known(after->energy_j))
        snprintf(item->text + n, sizeof item->text - (size_t)n, "; %.0f J used", after->energy_j - before->energy_j);
}

static int ask(const struct selfcheck *check, struct backend_telemetry *ret_telemetry, struct err *err) {
    *ret_telemetry = (struct backend_telemetry){-1, -1, -1, -1, -1, -1};
    return check->api->telemetry == NULL ? 0 : check->api->telemetry(check->backend, ret_telemetry, err);
}

static int soak(const struct selfcheck *check, struct pupil *pupil, struct backend_check *item, struct err *err) {
    enum { SECONDS = 60, ROUND = 8 };
    struct backend_telemetry before, after;
    double began = clock_seconds(), losses[ROUND];
    int step = 0;
    if (ask(check, &before, err) != 0)
        return -1;
    for (; clock_seconds() < began + SECONDS; step += ROUND)
        if (pupil_train(pupil, step, ROUND, losses, err) != 0)
            return -1;
    if (ask(check, &after, err) != 0)
        return -1;
    item_passes(item, true);
    tell_soak(item, step, clock_seconds() - began, &before, &after);
    return 0;
}

int check_soak(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct lesson lesson;
    struct pupil pupil = {0};
    struct pupil_options options = {.precision = precision, .from_device = check->api->load_data != NULL};
    int rc = lesson_init(&lesson, check, large, err);
    if (rc == 0)
        rc = pupil_init(&pupil, check, &lesson, &options, err);
    if (rc == 0)
        rc = soak(check, &pupil, item, err);
    pupil_done(&pupil);
    lesson_done(&lesson);
    return rc;
}

/* --- speed: a figure, no limit --- */

struct speed {
    double images_per_second, device_share; /* share of the time that the device computed; negative: not known */
};

static int measure(const struct selfcheck *check, struct pupil *pupil, int steps, struct speed *ret_speed, struct err *err) {
    enum { WARM = 5 };
    struct backend_telemetry now;
    double loss, busy = 0, seconds = 0;
    for (int step = 0; step < WARM + steps; step++) {
        double began = clock_seconds();
        if (pupil_train(pupil, step, 1, &loss, err) != 0)
            return -1;
        if (step < WARM)
            continue;
        seconds += clock_seconds() - began;
        if (ask(check, &now, err) != 0)
            return -1;
        busy = is_known(now.step_s) && busy >= 0 ? busy + now.step_s : -1;
    }
    *ret_speed = (struct speed){steps * pupil->lesson->spec.batch_size / seconds, busy >= 0 ? busy / seconds : -1};
    return 0;
}

int check_speed(struct selfcheck *check, enum spec_precision precision, struct backend_check *item, struct err *err) {
    struct lesson lesson;
    struct pupil pupil = {0};
    struct pupil_options options = {.precision = precision, .from_device = check->api->load_data != NULL};
    struct speed speed = {0};
    int rc = lesson_init(&lesson, check, check->brief ? small : large, err);
    if (rc == 0)
        rc = pupil_init(&pupil, check, &lesson, &options, err);
    if (rc == 0)
        rc = measure(check, &pupil, check->brief ? 10 : 100, &speed, err);
    if (rc == 0) {
        item_passes(item, true);
        item->measured = speed.images_per_second;
        int n = snprintf(item->text, sizeof item->text, "images/s, training %s in batches of %d", lesson.graph->title,
                         lesson.spec.batch_size);
        if (is_known(speed.device_share))
            snprintf(item->text + n, sizeof item->text - (size_t)n, "; the device computed %.0f %% of the time",
                     100 * speed.device_share);
    }
    pupil_done(&pupil);
    lesson_done(&lesson);
    return rc;
}
