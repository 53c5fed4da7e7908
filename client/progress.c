/* The progress display: see progress.h. */
#include "client/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/format.h"
#include "client/text.h"

/* A pipe gets a line about every 2 s; a little less, so that a loaded machine still keeps that. */
enum { LINE_MS = 1800 };
enum { LINE_SIZE = 1024, BAR_LEAST = 8, BAR_MOST = 40 };

void progress_state(struct progress *progress, const char *state, int64_t before) {
    if (strcmp(progress->state, state) != 0)
        progress->training = false;
    progress->changed = progress->changed || progress->before != before || strcmp(progress->state, state) != 0;
    progress->before = before;
    snprintf(progress->state, sizeof progress->state, "%s", state);
}

void progress_event(struct progress *progress, const json_t *data) {
    snprintf(progress->phase, sizeof progress->phase, "%s", field_text(data, "phase"));
    progress->epoch = field_int(data, "epoch");
    progress->epochs = field_int(data, "epochs");
    progress->step = field_int(data, "step");
    progress->steps = field_int(data, "steps");
    progress->loss = field_real(data, "loss");
    progress->images_per_second = field_real(data, "images_per_second");
    progress->seconds_left = field_real(data, "seconds_left");
    progress->training = true;
    progress->changed = true;
}

void progress_epoch_ended(struct progress *progress) {
    progress->training = false;
    progress->changed = true;
}

static void describe_waiting(const struct progress *progress, char text[LINE_SIZE]) {
    if (strcmp(progress->state, "queued") == 0 && progress->before > 0)
        snprintf(text, LINE_SIZE, "queued, %lld job%s before it", (long long)progress->before, progress->before == 1 ? "" : "s");
    else if (strcmp(progress->state, "queued") == 0)
        snprintf(text, LINE_SIZE, progress->before == 0 ? "queued, the next to start" : "queued");
    else if (strcmp(progress->state, "starting") == 0)
        snprintf(text, LINE_SIZE, "starting: the worker loads the data");
    else
        snprintf(text, LINE_SIZE, "%s", progress->state);
}

static void describe_training(const struct progress *progress, char left[LINE_SIZE], char right[LINE_SIZE]) {
    char loss[FORMAT_MAX], speed[FORMAT_MAX], clock[FORMAT_MAX], tail[64] = "";
    if (strcmp(format_clock(clock, progress->seconds_left), "-") != 0)
        snprintf(tail, sizeof tail, "  %s left", clock);
    snprintf(left, LINE_SIZE, "epoch %lld/%lld %s ", (long long)progress->epoch, (long long)progress->epochs, progress->phase);
    snprintf(right, LINE_SIZE, " %lld/%lld  loss %s  %s%s", (long long)progress->step, (long long)progress->steps,
             format_loss(loss, progress->loss), format_speed(speed, progress->images_per_second), tail);
}

/* "[=====>    ]" of a width with the brackets; nothing when there is no room for it. */
static void describe_bar(const struct progress *progress, int width, char bar[BAR_MOST + 1]) {
    bar[0] = '\0';
    if (width < BAR_LEAST)
        return;
    if (width > BAR_MOST)
        width = BAR_MOST;
    double share = progress->steps > 0 ? (double)progress->step / (double)progress->steps : 0;
    int filled = (int)((width - 2) * (share < 0 ? 0 : share > 1 ? 1 : share));
    for (int i = 0; i < width - 2; i++)
        bar[1 + i] = i < filled ? '=' : i == filled ? '>' : ' ';
    bar[0] = '[';
    bar[width - 1] = ']';
    bar[width] = '\0';
}

static void describe(const struct progress *progress, bool with_bar, char text[LINE_SIZE]) {
    char left[LINE_SIZE], right[LINE_SIZE], bar[BAR_MOST + 1] = "";
    if (!progress->training) {
        describe_waiting(progress, text);
        return;
    }
    describe_training(progress, left, right);
    if (with_bar)
        describe_bar(progress, progress->term->columns - 1 - (int)strlen(left) - (int)strlen(right), bar);
    snprintf(text, LINE_SIZE, "%.200s%s%.200s", left, bar, right);
}

static void put_clean_line(const char *text, int columns) {
    char *clean = text_clean(text, TEXT_LINE);
    if (clean == NULL)
        return; /* the next tick tries again */
    if (text_width(clean) > columns)
        text_put_fit(stdout, clean, columns);
    else
        fputs(clean, stdout);
    free(clean);
}

static void draw(struct progress *progress) {
    char text[LINE_SIZE];
    if (!progress->changed && progress->drawn)
        return;
    describe(progress, true, text);
    putchar('\r');
    put_clean_line(text, progress->term->columns - 1);
    fputs("\033[K", stdout); /* erase to the end of the line */
    progress->drawn = true;
    progress->changed = false;
}

/* That a job waits is said once for each place in the queue: nothing happens before the next. */
static void say(struct progress *progress, int64_t now_ms) {
    char text[LINE_SIZE];
    bool old = strcmp(progress->state, "queued") == 0 && !progress->changed;
    if (old || (progress->said_ms != 0 && now_ms - progress->said_ms < LINE_MS))
        return;
    describe(progress, false, text);
    put_clean_line(text, LINE_SIZE);
    putchar('\n');
    progress->changed = false;
    progress->said_ms = now_ms;
}

void progress_tick(struct progress *progress, int64_t now_ms) {
    if (progress->off || progress->state[0] == '\0')
        return;
    if (progress->term->tty)
        draw(progress);
    else
        say(progress, now_ms);
}

void progress_clear(struct progress *progress, int64_t now_ms) {
    if (progress->drawn)
        fputs("\r\033[K", stdout);
    progress->drawn = false;
    progress->said_ms = now_ms;
}
