/* Looking into a network: feature maps, filters, test images. A short worker answers; the request is suspended until then, and
 * the question is taken back when its connection ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/event.h"
#include "common/json.h"
#include "server/api/private.h"

enum { IMAGES_DEFAULT = 25 };

/* --- waiting --- */

static void unwatch(struct request *request) {
    request->inspection = NULL;
    loop_fd_remove(request->gone);
    request->gone = NULL;
}

void inspection_forget(struct request *request) {
    struct inspection *inspection = request->inspection;
    unwatch(request);
    if (inspection != NULL)
        sched_inspect_abandon(inspection);
}

static void end(struct request *request, const struct err *why) {
    inspection_forget(request);
    answer_problem(request, why, NULL);
    request_go_on(request);
}

void inspections_end(struct api *api, const struct err *err) {
    while (api->asking != NULL)
        end(api->asking, err);
}

static void connection_gone(void *arg, uint32_t events) {
    struct err why = {0};
    (void)events;
    err_set(&why, ERR_UNAVAILABLE, "the connection ended before the answer was there"); /* which nobody will read */
    end(arg, &why);
}

/* The worker names fields of the question; a GET has them in its query. */
static struct err in_terms_of_request(const struct request *request, const struct err *why) {
    static const char *const names[][2] = {
        {"/layers", "?layer"}, {"/layer", "?layer"}, {"/channels", "?channels"}, {"/image", "?image"}};
    struct err shown = *why;
    for (size_t i = 0; request->method == METHOD_GET && i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(why->pointer, names[i][0], strlen(names[i][0])) != 0)
            continue;
        snprintf(shown.pointer, sizeof shown.pointer, "%s", names[i][1]);
        break;
    }
    return shown;
}

static int pass_on(struct request *request, const char *line, size_t size, struct err *err) {
    struct text text = {0};
    text_add(&text, line, size > 0 && line[size - 1] == '\n' ? size - 1 : size);
    return answer_text(request, MHD_HTTP_OK, "application/json", &text, err);
}

static void answered(void *arg, const char *line, size_t size, const struct err *why) {
    struct request *request = arg;
    struct err failure = line == NULL ? in_terms_of_request(request, why) : (struct err){0};
    unwatch(request);
    if (line == NULL || request->answer_line(request, line, size, &failure) < 0)
        answer_problem(request, &failure, NULL);
    request_go_on(request);
}

static int watch(struct request *request, struct err *err) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    request->gone = loop_fd_add(request->api->options.loop, info->connect_fd, EPOLLRDHUP, connection_gone, request, err);
    return request->gone == NULL ? -1 : 0;
}

/* Asks about a job; run() suspends the request then. */
static int ask(struct request *request, const struct job *job, int epoch, json_t *steal_want, struct err *err) {
    struct sched_question question = {.job = job, .epoch = epoch, .steal_want = steal_want, .fn = answered, .arg = request};
    if (steal_want == NULL)
        return err_set(err, ERR_MEMORY, "cannot ask about job %s: out of memory", job->id);
    if (sched_inspect(request->api->options.sched, &question, &request->inspection, err) < 0)
        return -1;
    return watch(request, err);
}

/* --- whose weights --- */

static int find_epoch(const struct job *job, const char *text, const char *pointer, int *ret_epoch, struct err *err) {
    int64_t epoch = WEIGHTS_NEWEST;
    if (job->epochs_done == 0)
        return err_set(err, ERR_CONFLICT, "job %s has not finished an epoch yet; there is nothing to look into", job->id);
    if (text != NULL && strcmp(text, "best") == 0) {
        epoch = job->best_epoch;
        if (epoch == 0)
            return err_at(err, ERR_FIELD, pointer, "job %s has no best epoch: it has no validation set", job->id);
    } else if (text != NULL && strcmp(text, "last") != 0 && (!number_parse(text, &epoch) || epoch < 1 || epoch > INT32_MAX)) {
        return err_at(err, ERR_FIELD, pointer, "epoch is \"%.40s\"; it must be a number from 1, last or best", text);
    }
    *ret_epoch = (int)epoch;
    return 0;
}

int inspection_ask(struct request *request, const struct inspection_ask *question, struct err *err) {
    struct job job = {0};
    int epoch = WEIGHTS_NONE;
    if (request_job(request, &job, err) < 0 || find_epoch(&job, question->epoch, question->pointer, &epoch, err) < 0) {
        json_decref(question->steal_want);
        job_done(&job);
        return -1;
    }
    request->answer_line = question->answer;
    int failed = ask(request, &job, epoch, question->steal_want, err);
    job_done(&job);
    return failed;
}

/* The same, with the worker's line as the answer. */
static int ask_weights(struct request *request, const char *epoch_text, const char *pointer, json_t *steal_want,
                       struct err *err) {
    struct inspection_ask question = {.epoch = epoch_text, .pointer = pointer, .steal_want = steal_want, .answer = pass_on};
    return inspection_ask(request, &question, err);
}

/* --- the questions --- */

/* "conv1,pool1" as a list. */
static json_t *split(const char *text) {
    json_t *list = json_array();
    while (list != NULL) {
        size_t size = strcspn(text, ",");
        if (json_array_append_new(list, json_stringn(text, size)) < 0) {
            json_decref(list);
            return NULL;
        }
        if (text[size] == '\0')
            break;
        text += size + 1;
    }
    return list;
}

int handle_maps(struct request *request, struct err *err) {
    const char *layers = target_param(&request->target, "layer"), *channels = target_param(&request->target, "channels");
    int64_t image;
    if (target_number(&request->target, "image", 0, INT32_MAX, 0, &image, err) < 0)
        return -1;
    if (layers == NULL)
        return err_at(err, ERR_FIELD, "?layer", "layer is missing: the names of layers, separated by commas");
    json_t *want =
        json_pack("{s:{s:o, s:s?, s:I}}", "maps", "layers", split(layers), "channels", channels, "image", (json_int_t)image);
    return ask_weights(request, target_param(&request->target, "epoch"), "?epoch", want, err);
}

static int check_sent(const json_t *doc, struct err_list *errors) {
    static const char *const known[] = {"layers", "channels", "epoch", "pixels"};
    enum { KNOWN_N = sizeof known / sizeof known[0] };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)doc, key, value) {
        char pointer[160];
        const char *nearest = json_nearest(key, known, KNOWN_N);
        json_pointer(pointer, sizeof pointer, "", key);
        if (nearest == NULL)
            err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not known here");
        else if (strcmp(nearest, key) != 0)
            err_add(errors, ERR_UNKNOWN_FIELD, pointer, "is not known here; did you mean \"%s\"?", nearest);
    }
    if (!json_is_array(json_object_get(doc, "layers")))
        err_add(errors, ERR_FIELD, "/layers", "must be a list of names of layers");
    if (!json_is_array(json_object_get(doc, "pixels")))
        err_add(errors, ERR_FIELD, "/pixels", "must be an image: [C][H][W] or [H][W], whole numbers from 0 to 255");
    return errors->n > 0 ? -1 : 0;
}

static int ask_sent(struct request *request, const json_t *doc, struct err *err) {
    char number[24];
    const json_t *epoch = json_object_get(doc, "epoch");
    const char *text = json_string_value(epoch);
    json_t *channels = json_object_get(doc, "channels");
    if (!json_is_object(doc))
        return err_set(err, ERR_FIELD, "the body must be an object with \"layers\" and \"pixels\"");
    if (check_sent(doc, &request->errors) < 0)
        return -1;
    if (epoch != NULL && text == NULL) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(epoch)); /* no number: 0, which is refused */
        text = number;
    }
    json_t *want = json_pack("{s:{s:O, s:O?, s:O}}", "maps", "layers", json_object_get(doc, "layers"), "channels", channels,
                             "pixels", json_object_get(doc, "pixels"));
    return ask_weights(request, text, "/epoch", want, err);
}

int handle_maps_sent(struct request *request, struct err *err) {
    json_t *doc = json_parse(request->body != NULL ? request->body : "", request->body_size, err);
    int failed = doc == NULL ? -1 : ask_sent(request, doc, err);
    json_decref(doc);
    return failed;
}

int handle_filters(struct request *request, struct err *err) {
    json_t *want = json_pack("{s:{s:s?, s:s?}}", "filters", "layer", target_param(&request->target, "layer"), "channels",
                             target_param(&request->target, "channels"));
    return ask_weights(request, target_param(&request->target, "epoch"), "?epoch", want, err);
}

int handle_images(struct request *request, struct err *err) {
    int64_t first, n;
    struct job job = {0};
    if (target_number(&request->target, "first", 0, INT32_MAX, 0, &first, err) < 0 ||
        target_number(&request->target, "n", 1, EVENT_INSPECT_IMAGES_MAX, IMAGES_DEFAULT, &n, err) < 0 ||
        request_job(request, &job, err) < 0)
        return -1;
    json_t *want = json_pack("{s:{s:I, s:I}}", "images", "first", (json_int_t)first, "n", (json_int_t)n);
    request->answer_line = pass_on;
    int failed = ask(request, &job, WEIGHTS_NONE, want, err);
    job_done(&job);
    return failed;
}
