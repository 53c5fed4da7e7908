/* POST /v1/jobs: text -> JSON -> checked spec -> graph -> what this server offers -> a queued job, or only the findings (dry
 * run). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "server/api/private.h"
#include "server/api/submit.h"

int plan_make(const struct spec *spec, const struct spec_context *context, struct plan *ret_plan, struct err *err) {
    const struct dataset_card *card = context->find_dataset(context->arg, spec->dataset);
    if (card == NULL)
        return err_at(err, ERR_FIELD, "/dataset", "there is no data set \"%s\"", spec->dataset);
    struct graph_shape input = {card->channels, card->height + 2 * spec->pad, card->width + 2 * spec->pad};
    struct graph *graph;
    if (graph_build(&spec->model, input, card->classes, &graph, err) < 0) {
        if (err->code == ERR_SHAPE && err->pointer[0] == '\0')
            snprintf(err->pointer, sizeof err->pointer, "/model");
        return -1;
    }
    int limit = spec->train_limit, all = card->train_images, images = limit > 0 && limit < all ? limit : all;
    *ret_plan = (struct plan){.graph = graph, .images = images - spec_validation_images(spec->validation_fraction, images)};
    if (graph_memory(graph, spec, &ret_plan->memory_bytes, err) < 0) {
        plan_done(ret_plan);
        return -1;
    }
    ret_plan->image = input;
    ret_plan->all_images =
        images + (spec->test_limit > 0 && spec->test_limit < card->test_images ? spec->test_limit : card->test_images);
    ret_plan->steps_per_epoch = (ret_plan->images + spec->batch_size - 1) / spec->batch_size;
    return 0;
}

void plan_done(struct plan *plan) {
    graph_free(plan->graph);
    plan->graph = NULL;
}

int plan_of_text(struct api *api, const struct job *job, const char *text, struct spec *ret_spec, struct plan *ret_plan,
                 struct err *err) {
    enum { ANY_THREADS = 65536 };
    struct card_search search = {.api = api, .job_dataset = job->dataset};
    struct spec_context context = card_context(&search, 1, ANY_THREADS);
    struct err_list errors = {0};
    struct spec spec = {0};
    struct err cause = {0};
    json_t *doc = json_parse(text, strlen(text), &cause);
    int failed = doc == NULL ? -1 : spec_parse(doc, &context, &spec, &errors);
    json_decref(doc);
    failed = failed == 0 ? plan_make(&spec, &context, ret_plan, &cause) : failed;
    card_search_done(&search);
    if (failed == 0) {
        *ret_spec = spec;
        return 0;
    }
    spec_done(&spec);
    return err_set(err, ERR_INTERNAL, "the stored spec of job %s cannot be expanded any more: %s", job->id,
                   errors.n > 0 ? errors.items[0].text : cause.text);
}

/* What was submitted. */
struct submission {
    struct spec spec;
    struct plan plan;
    char dataset[JOB_ID_MAX]; /* the imported data set that the spec names; "" */
};

static void submission_done(struct submission *submission) {
    plan_done(&submission->plan);
    spec_done(&submission->spec);
}

static int check_spec(struct request *request, bool anywhere, const struct spec_context *context, struct submission *submission,
                      const char *dataset, struct err *err) {
    struct spec *spec = &submission->spec;
    struct plan *plan = &submission->plan;
    if (plan_make(spec, context, plan, err) < 0 || (!anywhere && offer_check(request->api->options.sched, spec, plan, err) < 0))
        return -1;
    return from_check(request->api, spec, dataset, err);
}

/* All that can be wrong with a body, in the order in which a person would look for it; anywhere: whatever this server offers. */
static int read_spec(struct request *request, bool anywhere, struct submission *ret, struct err *err) {
    json_t *doc = json_parse(request->body != NULL ? request->body : "", request->body_size, err);
    if (doc == NULL)
        return -1;
    int threads = sched_threads(request->api->options.sched);
    struct card_search search = {.api = request->api};
    struct spec_context context = card_context(&search, threads, threads);
    *ret = (struct submission){0};
    int failed = spec_parse(doc, &context, &ret->spec, &request->errors);
    json_decref(doc);
    if (failed < 0)
        card_explain(&search, &request->errors);
    else
        failed = check_spec(request, anywhere, &context, ret, search.found, err);
    memcpy(ret->dataset, search.found, sizeof ret->dataset);
    card_search_done(&search);
    if (failed < 0)
        submission_done(ret);
    return failed;
}

/* What a dry run found; NULL when out of memory. */
static json_t *dry_run_json(const struct spec *spec, const struct plan *plan, bool layers) {
    json_t *found = json_pack("{s:o,s:o,s:I,s:I,s:I,s:i}", "spec", spec_to_json(spec), "graph", graph_to_json(plan->graph),
                              "parameters", (json_int_t)plan->graph->parameters, "flops", (json_int_t)plan->graph->flops,
                              "memory_bytes", (json_int_t)plan->memory_bytes, "steps_per_epoch", plan->steps_per_epoch);
    if (found != NULL && layers && json_object_set_new(found, "layers", layers_document(plan->graph)) != 0) {
        json_decref(found);
        return NULL;
    }
    return found;
}

/* The same with what a GPU would have to do: the one that is asked for, one of ours or another; else the one that would take the
 * job, if any would. */
static int add_gpu(struct request *request, const struct spec *spec, const struct plan *plan, json_t *found, struct err *err) {
    json_t *answer = NULL, *state = sched_devices(request->api->options.sched), *devices = json_object_get(state, "items");
    const char *asked = target_param(&request->target, "gpu"), *gpu = asked != NULL ? asked : room_gpu(devices, spec, plan);
    int failed = gpu != NULL ? room_answer(devices, gpu, spec, plan, &answer, err) : 0;
    json_decref(state);
    if (answer != NULL && json_object_set_new(found, "gpu", answer) != 0)
        failed = err_set(err, ERR_MEMORY, "cannot plan for a GPU: out of memory");
    return failed;
}

static int answer_dry_run(struct request *request, const struct spec *spec, const struct plan *plan, struct err *err) {
    json_t *found = dry_run_json(spec, plan, target_param(&request->target, "format") != NULL);
    if (found == NULL || add_gpu(request, spec, plan, found, err) == 0)
        return answer_json(request, MHD_HTTP_OK, found, err);
    json_decref(found);
    return -1;
}

/* The Idempotency-Key of the request, checked; *ret_key is NULL without one. */
static int read_key(const struct request *request, const char **ret_key, struct err *err) {
    const char *key = request_header(request, "Idempotency-Key");
    *ret_key = key;
    if (key == NULL)
        return 0;
    size_t size = strlen(key);
    for (const char *c = key; *c != '\0'; c++) {
        if (*c < '!' || *c > '~')
            size = 0;
    }
    if (size >= 1 && size <= 255)
        return 0;
    return err_at(err, ERR_REQUEST, "Idempotency-Key", "the Idempotency-Key must be 1 to 255 visible ASCII characters");
}

static int replay(struct request *request, const char *id, struct err *err) {
    struct job job = {0};
    struct err gone = {0};
    if (store_job_get(request->api->options.store, &request->api->viewer, id, &job, &gone) < 0) {
        if (gone.code != ERR_NOT_FOUND)
            return err_set(err, gone.code, "%s", gone.text);
        return err_at(err, ERR_CONFLICT, "Idempotency-Key",
                      "the job that this Idempotency-Key queued was deleted; use another key");
    }
    int failed = answer_job(request, MHD_HTTP_OK, &job, err);
    job_done(&job);
    return failed < 0 ? -1 : answer_header(request, "Idempotent-Replayed", "true", err);
}

/* The job and its key stand in the same savepoint, so there is never one without the other. */
static int queue(struct request *request, const struct submission *submission, const char *key, const char *digest,
                 struct err *err) {
    const struct spec *spec = &submission->spec;
    const char *dataset = submission->dataset;
    struct sched_initial initial;
    bool starts_from = spec->from.job[0] != '\0';
    if (starts_from && from_initial(request->api, spec, &initial, err) < 0)
        return -1;
    json_t *doc = spec_to_json(spec);
    char *text = doc == NULL ? NULL : json_text(doc);
    json_decref(doc);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "cannot queue the job: out of memory");
    struct queue_entry entry = {.new = {.spec = text, .epochs = spec->epochs, .dataset = dataset[0] != '\0' ? dataset : NULL},
                                .initial = starts_from ? &initial : NULL,
                                .key = key,
                                .digest = digest};
    int failed = queue_job(request, &entry, err);
    free(text);
    return failed;
}

static int submit(struct request *request, struct err *err) {
    struct api *api = request->api;
    const char *key;
    char digest[65], known[JOB_ID_MAX] = "";
    struct submission submission;
    if (read_key(request, &key, err) < 0)
        return -1;
    sha256_hex(request->body != NULL ? request->body : "", request->body_size, digest);
    if (key != NULL && store_idempotency_get(api->options.store, &api->viewer, key, digest, known, err) < 0)
        return -1;
    if (known[0] != '\0')
        return replay(request, known, err);
    if (read_spec(request, false, &submission, err) < 0)
        return -1;
    int failed = queue(request, &submission, key, digest, err);
    submission_done(&submission);
    return failed;
}

static int dry_run(struct request *request, struct err *err) {
    struct submission submission;
    if (read_spec(request, target_param(&request->target, "gpu") != NULL, &submission, err) < 0)
        return -1;
    int failed = answer_dry_run(request, &submission.spec, &submission.plan, err);
    submission_done(&submission);
    return failed;
}

int handle_submit(struct request *request, struct err *err) {
    const char *dry = target_param(&request->target, "dry_run"), *format = target_param(&request->target, "format");
    bool is_dry = dry != NULL && strcmp(dry, "true") == 0;
    if (dry != NULL && !is_dry && strcmp(dry, "false") != 0)
        return err_at(err, ERR_FIELD, "?dry_run", "dry_run is \"%.40s\"; it must be true or false", dry);
    if (format != NULL && (!is_dry || strcmp(format, "layers") != 0))
        return err_at(err, ERR_FIELD, "?format", "format is \"%.40s\"; it can only be layers, and of a dry run", format);
    if (target_param(&request->target, "gpu") != NULL && !is_dry)
        return err_at(err, ERR_FIELD, "?gpu", "a GPU can only be named in a dry run: add dry_run=true");
    return is_dry ? dry_run(request, err) : submit(request, err);
}
