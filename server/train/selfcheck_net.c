/* The networks of a self-check, and plans that train them: see selfcheck_private.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/train/batch.h"
#include "server/train/selfcheck_private.h"

/* --- a network with its images --- */

static int read_spec(const char *text, struct spec *ret_spec, struct err *err) {
    struct spec_context context = spec_context_builtin(1, 1);
    struct err_list errors = {0};
    json_t *document = json_parse(text, strlen(text), err);
    if (document == NULL)
        return -1;
    int rc = spec_parse(document, &context, ret_spec, &errors);
    json_decref(document);
    if (rc != 0)
        return err_set(err, ERR_INTERNAL, "the self-check's own network is wrong at %s: %s", errors.items[0].pointer,
                       errors.items[0].text);
    return 0;
}

int lesson_images(struct data *ret_data, struct err *err) {
    struct spec spec;
    if (read_spec("{\"dataset\": \"shapes\", \"model\": \"resnet8\", \"train_limit\": 1024, \"test_limit\": 1}", &spec, err) != 0)
        return -1;
    int rc = data_load(&spec, ret_data, err);
    spec_done(&spec);
    return rc;
}

int lesson_init(struct lesson *lesson, const struct selfcheck *check, const char *spec, struct err *err) {
    *lesson = (struct lesson){.data = &check->data};
    if (read_spec(spec, &lesson->spec, err) != 0)
        return -1;
    struct graph_shape input = {lesson->data->channels, lesson->data->height, lesson->data->width};
    return graph_build(&lesson->spec.model, input, lesson->data->card->classes, &lesson->graph, err);
}

void lesson_done(struct lesson *lesson) {
    graph_free(lesson->graph);
    spec_done(&lesson->spec);
    *lesson = (struct lesson){0};
}

/* --- a plan --- */

static int allocate(struct pupil *pupil, struct err *err) {
    const struct lesson *lesson = pupil->lesson;
    size_t batch = (size_t)lesson->spec.batch_size;
    size_t image = (size_t)lesson->data->channels * (size_t)lesson->data->height * (size_t)lesson->data->width;
    pupil->samples = calloc(batch, sizeof *pupil->samples);
    pupil->labels = calloc(batch, sizeof *pupil->labels);
    pupil->others = calloc(batch, sizeof *pupil->others);
    pupil->shares = calloc(batch, sizeof *pupil->shares);
    pupil->images = pupil->from_device ? NULL : calloc(batch * image, sizeof *pupil->images);
    if (pupil->samples == NULL || pupil->labels == NULL || pupil->others == NULL || pupil->shares == NULL ||
        (pupil->images == NULL && !pupil->from_device))
        return err_set(err, ERR_MEMORY, "out of memory for batches of %zu images", batch);
    return tensors_init(&pupil->tensors, lesson->graph, &lesson->spec, err);
}

static int load_images(const struct pupil *pupil, struct err *err) {
    const struct data *data = pupil->lesson->data;
    struct backend_data set = {.n = data->train.n,
                               .channels = data->channels,
                               .height = data->height,
                               .width = data->width,
                               .pixels = data->train.pixels,
                               .mean = data->mean,
                               .deviation = data->deviation,
                               .normal = data->normal};
    return pupil->from_device ? pupil->api->load_data(pupil->backend, SET_TRAIN, &set, err) : 0;
}

static int set_values(const struct pupil *pupil, struct err *err) {
    const struct graph *graph = pupil->lesson->graph;
    for (int i = 0; i < graph->params_n; i++)
        graph_init(graph, i, pupil->lesson->spec.seed, pupil->tensors.floats + pupil->tensors.rows[i].at);
    return tensors_set(&pupil->tensors, TENSOR_VALUE, pupil->api, pupil->plan, TENSOR_VALUE, err);
}

int pupil_init(struct pupil *pupil, const struct selfcheck *check, const struct lesson *lesson,
               const struct pupil_options *options, struct err *err) {
    *pupil = (struct pupil){.lesson = lesson,
                            .api = options->truth ? check->truth_api : check->api,
                            .backend = options->truth ? check->truth : check->backend,
                            .from_device = options->from_device};
    struct backend_plan_options plan = {.batch = lesson->spec.batch_size,
                                        .precision = options->truth ? PRECISION_F32 : options->precision,
                                        .use = USE_TRAIN,
                                        .optimizer = lesson->spec.optimizer.kind,
                                        .average = lesson->spec.average_decay > 0,
                                        .steps = options->steps};
    if (allocate(pupil, err) != 0 || load_images(pupil, err) != 0 ||
        pupil->api->compile(pupil->backend, lesson->graph, &plan, &pupil->plan, err) != 0)
        return -1;
    return set_values(pupil, err);
}

void pupil_done(struct pupil *pupil) {
    if (pupil->api != NULL)
        pupil->api->plan_free(pupil->plan);
    tensors_done(&pupil->tensors);
    free(pupil->samples);
    free(pupil->images);
    free(pupil->labels);
    free(pupil->others);
    free(pupil->shares);
    *pupil = (struct pupil){0};
}

/* --- training --- */

static struct backend_batch next_batch(struct pupil *pupil, int step, const struct augment *augment) {
    const struct lesson *lesson = pupil->lesson;
    int n = lesson->spec.batch_size, limit = lesson->spec.train_limit, images = limit > 0 ? limit : lesson->data->train.n;
    for (int i = 0; i < n; i++)
        pupil->samples[i] = (uint32_t)((step * n + i) % images);
    const struct batch filled = {.n = n,
                                 .samples = pupil->samples,
                                 .images = pupil->images,
                                 .labels = pupil->labels,
                                 .others = pupil->others,
                                 .shares = pupil->shares};
    batch_fill(lesson->data, &lesson->data->train, augment, &filled);
    return batch_step(&lesson->spec, augment, &filled);
}

/* The learning rate changes with every step, as those of schedules do. */
static struct backend_optimizer next_update(const struct spec *spec, int step) {
    return batch_update(spec, spec->schedule.lr / (1 + 0.05 * (step % 8)), step + 1);
}

int pupil_train(struct pupil *pupil, int first, int n, double *ret_losses, struct err *err) {
    const struct spec *spec = &pupil->lesson->spec;
    struct augment augment = batch_augment(spec, 0);
    for (int step = first; step < first + n; step++) {
        struct backend_batch batch = next_batch(pupil, step, &augment);
        struct backend_optimizer optimizer = next_update(spec, step);
        struct backend_result result;
        if (pupil->api->train_step(pupil->plan, &batch, &optimizer, &result, err) != 0)
            return -1;
        if (!isfinite(result.loss_sum))
            return err_set(err, ERR_NOT_FINITE, "the loss of step %d is not finite", step + 1);
        ret_losses[step - first] = result.loss_sum / batch.n;
    }
    return 0;
}

/* --- state --- */

int pupil_take(struct pupil *pupil, struct err *err) {
    return tensors_get_all(&pupil->tensors, pupil->api, pupil->plan, err);
}

int pupil_give(struct pupil *pupil, const struct pupil *from, struct err *err) {
    return tensors_set_all(&from->tensors, pupil->api, pupil->plan, err);
}

bool pupil_equal(const struct pupil *a, const struct pupil *b) {
    return memcmp(a->tensors.floats, b->tensors.floats, a->tensors.floats_n * sizeof(float)) == 0;
}
