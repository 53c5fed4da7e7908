/* The table of a job's fields, all but those of "model"; reading and writing walk it. See spec.h. */
#include "common/spec.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/choices.h"
#include "common/json.h"
#include "common/row.h"
#include "common/spec_model.h"

#define AT(member) offsetof(struct spec, member)
#define ON(kind) (1u << SCHEDULE_##kind)
#define WARM (ON(CONSTANT) | ON(STEP) | ON(MULTI_STEP) | ON(COSINE))
#define BY(kind) (1u << OPTIMIZER_##kind)
#define ADAPTIVE (BY(ADAM) | BY(ADAMW) | BY(RMSPROP))

/* The order is the order of the canonical document. pad, threads, crop and flip take their initial value from the data set and
 * the context; a text's, "auto" of device, is no number. */
static const struct row rows[] = {
    {"", "name", ROW_TEXT, AT(name), .min = 0, .max = 80},
    {"", "dataset", ROW_TEXT, AT(dataset), .min = 1, .max = 32, .required = true},
    {"", "pad", ROW_INT, AT(pad), .max = 32},
    {"", "epochs", ROW_INT, AT(epochs), .min = 1, .max = 10000, .initial = 5},
    {"", "batch_size", ROW_INT, AT(batch_size), .min = 1, .max = SPEC_BATCH_MAX, .initial = 128},
    {"", "seed", ROW_SEED, AT(seed), .max = 9007199254740991.0, .initial = 1},
    {"", "precision", ROW_CHOICE, AT(precision), .initial = PRECISION_F32, .choices = choices_precision},
    {"", "deterministic", ROW_BOOL, AT(deterministic), .initial = true},
    {"", "backend", ROW_CHOICE, AT(backend), .initial = BACKEND_AUTO, .choices = choices_backend},
    {"", "device", ROW_TEXT, AT(device), .min = 1, .max = 63},
    {"", "threads", ROW_INT, AT(threads), .min = 1, .max = 4096},
    {"optimizer", "kind", ROW_CHOICE, AT(optimizer.kind), .initial = OPTIMIZER_SGD, .choices = choices_optimizer},
    {"optimizer", "momentum", ROW_REAL, AT(optimizer.momentum), .max = 0.9999, .initial = 0.9, .kinds = BY(SGD) | BY(RMSPROP)},
    {"optimizer", "nesterov", ROW_BOOL, AT(optimizer.nesterov), .initial = false, .kinds = BY(SGD)},
    {"optimizer", "weight_decay", ROW_REAL, AT(optimizer.weight_decay), .max = 1, .initial = 1e-4},
    {"optimizer", "decay_norm_bias", ROW_BOOL, AT(optimizer.decay_norm_bias), .initial = true},
    {"optimizer", "beta1", ROW_REAL, AT(optimizer.beta1), .max = 0.9999, .initial = 0.9, .kinds = BY(ADAM) | BY(ADAMW)},
    {"optimizer", "beta2", ROW_REAL, AT(optimizer.beta2), .max = 0.999999, .initial = 0.999, .kinds = BY(ADAM) | BY(ADAMW)},
    {"optimizer", "alpha", ROW_REAL, AT(optimizer.alpha), .max = 0.999999, .initial = 0.99, .kinds = BY(RMSPROP)},
    {"optimizer", "epsilon", ROW_REAL, AT(optimizer.epsilon), .min = 1e-16, .max = 1, .initial = 1e-8, .kinds = ADAPTIVE},
    {"optimizer", "clip_norm", ROW_REAL, AT(optimizer.clip_norm), .max = 1e6},
    {"schedule", "kind", ROW_CHOICE, AT(schedule.kind), .initial = SCHEDULE_ONE_CYCLE, .choices = choices_schedule},
    {"schedule", "lr", ROW_REAL, AT(schedule.lr), .min = 1e-12, .max = 1e6, .initial = 0.1},
    {"schedule", "warmup_epochs", ROW_REAL, AT(schedule.warmup_epochs), .max = 10000, .kinds = WARM},
    {"schedule", "step_epochs", ROW_INT, AT(schedule.step_epochs), .min = 1, .max = 10000, .initial = 2, .kinds = ON(STEP)},
    {"schedule", "gamma", ROW_REAL, AT(schedule.gamma), .min = 1e-6, .max = 1, .initial = 0.1,
     .kinds = ON(STEP) | ON(MULTI_STEP)},
    {"schedule", "milestones", ROW_RISING, AT(schedule.milestones), .min = 1, .max = 10000, .kinds = ON(MULTI_STEP)},
    {"schedule", "min_lr", ROW_REAL, AT(schedule.min_lr), .max = 1e6, .kinds = ON(COSINE)},
    {"schedule", "warmup_fraction", ROW_REAL, AT(schedule.warmup_fraction), .max = 1, .initial = 0.3, .kinds = ON(ONE_CYCLE)},
    {"schedule", "div_factor", ROW_REAL, AT(schedule.div_factor), .min = 1, .max = 1e9, .initial = 25, .kinds = ON(ONE_CYCLE)},
    {"schedule", "final_div_factor", ROW_REAL, AT(schedule.final_div_factor), .min = 1, .max = 1e9, .initial = 1e4,
     .kinds = ON(ONE_CYCLE)},
    {"augment", "crop", ROW_INT, AT(augment.crop), .max = 32},
    {"augment", "flip", ROW_BOOL, AT(augment.flip), .initial = false},
    {"augment", "rotation", ROW_REAL, AT(augment.rotation), .max = 45},
    {"augment", "brightness", ROW_REAL, AT(augment.brightness), .max = 1},
    {"augment", "contrast", ROW_REAL, AT(augment.contrast), .max = 1},
    {"augment", "cutout", ROW_INT, AT(augment.cutout), .max = 224},
    {"augment", "mixup", ROW_REAL, AT(augment.mixup), .max = 10},
    {"", "label_smoothing", ROW_REAL, AT(label_smoothing), .max = 0.9},
    {"", "average_decay", ROW_REAL, AT(average_decay), .max = 0.999999},
    {"", "validation_fraction", ROW_REAL, AT(validation_fraction), .max = 0.5},
    {"selection", "metric", ROW_CHOICE, AT(selection.metric), .initial = SELECTION_ACCURACY, .choices = choices_selection},
    {"selection", "patience", ROW_INT, AT(selection.patience), .max = 10000},
    {"selection", "min_delta", ROW_REAL, AT(selection.min_delta), .max = 1e6},
    {"", "keep_every", ROW_INT, AT(keep_every), .max = 10000},
    {"from", "job", ROW_TEXT, AT(from.job), .min = 1, .max = 31},
    {"from", "epoch", ROW_INT, AT(from.epoch), .max = 10000},
    {"from", "resume", ROW_BOOL, AT(from.resume), .initial = false},
    {"", "train_limit", ROW_INT, AT(train_limit), .max = 100000000},
    {"", "test_limit", ROW_INT, AT(test_limit), .max = 100000000},
};
enum { ROWS_N = sizeof rows / sizeof rows[0] };

/* Objects of rows; "model" is another table, in spec_model.c. */
static const char *const sections[] = {"optimizer", "schedule", "augment", "selection", "from"};
static const char *const examples[] = {"{\"kind\": \"adam\"}", "{\"kind\": \"cosine\"}", "{\"crop\": 4, \"flip\": true}",
                                       "{\"patience\": 5}", "{\"job\": \"job_...\"}"};
enum { SECTIONS_N = sizeof sections / sizeof sections[0] };
_Static_assert(sizeof examples / sizeof examples[0] == SECTIONS_N, "one example a section");

/* What is being read: the spec so far, and where errors go. */
struct reading {
    const struct spec_context *context;
    struct spec *spec;
    struct err_list *errors;
};

static void row_pointer(const struct row *row, char *ret_pointer, size_t size) {
    snprintf(ret_pointer, size, "%s%s/%s", row->section[0] != '\0' ? "/" : "", row->section, row->key);
}

static void add_place(const char *section, const char *key, char *places, size_t size) {
    size_t used = strlen(places);
    snprintf(places + used, size - used, "%s%s%s/%s", used > 0 ? " or " : "", section[0] != '\0' ? "/" : "", section, key);
}

void spec_places(const char *key, char *ret_places, size_t size) {
    ret_places[0] = '\0';
    for (int i = 0; i < ROWS_N; i++)
        if (strcmp(rows[i].key, key) == 0)
            add_place(rows[i].section, key, ret_places, size);
    for (int i = 0; i < SECTIONS_N; i++)
        if (strcmp(sections[i], key) == 0)
            add_place("", key, ret_places, size);
    if (strcmp(key, "model") == 0)
        add_place("", key, ret_places, size);
    if (spec_model_has(key))
        add_place("model", key, ret_places, size);
}

/* Keys of an object that no row knows. The outermost object also holds the sections. */
static void report_unknown(struct reading *r, const char *section, const json_t *object) {
    const char *known[ROWS_N + SECTIONS_N + 1];
    size_t n = 0;
    for (int i = 0; i < ROWS_N; i++)
        if (strcmp(rows[i].section, section) == 0)
            known[n++] = rows[i].key;
    bool outermost = section[0] == '\0';
    for (int i = 0; i < SECTIONS_N && outermost; i++)
        known[n++] = sections[i];
    if (outermost)
        known[n++] = "model";
    char parent[32];
    snprintf(parent, sizeof parent, "%s%s", outermost ? "" : "/", section);
    row_report_unknown(object, parent, known, n, spec_places, r->errors);
}

/* Reads the fields of one section. object may be NULL: nothing was given. */
static void read_section(struct reading *r, const char *section, const json_t *object) {
    if (object != NULL)
        report_unknown(r, section, object);
    for (int i = 0; i < ROWS_N; i++) {
        const struct row *row = &rows[i];
        if (strcmp(row->section, section) != 0)
            continue;
        const json_t *value = object == NULL ? NULL : json_object_get(object, row->key);
        char pointer[96];
        row_pointer(row, pointer, sizeof pointer);
        if (value == NULL && row->required)
            err_add(r->errors, ERR_FIELD, pointer, "is missing");
        else if (value != NULL)
            row_read(row, r->spec, pointer, value, r->errors);
    }
}

/* The row of a section that has a choice of that name; NULL: none has. */
static const struct row *row_of_choice(const char *section, const char *name) {
    for (int i = 0; i < ROWS_N; i++)
        for (int k = 0; strcmp(rows[i].section, section) == 0 && rows[i].choices != NULL && rows[i].choices[k] != NULL; k++)
            if (strcmp(rows[i].choices[k], name) == 0)
                return &rows[i];
    return NULL;
}

/* A section that is no object: says which one was probably meant. */
static void refuse_section(struct reading *r, int section, const char *pointer, const json_t *value) {
    const struct row *row = json_is_string(value) ? row_of_choice(sections[section], json_string_value(value)) : NULL;
    if (row != NULL)
        err_add(r->errors, ERR_FIELD, pointer, "must be an object such as {\"%s\": \"%s\"}, not a string", row->key,
                json_string_value(value));
    else
        err_add(r->errors, ERR_FIELD, pointer, "must be an object such as %s, not %s", examples[section], row_type_name(value));
}

/* Reads the object of a section, if it is there. */
static void read_nested(struct reading *r, int section, const json_t *doc) {
    const json_t *value = json_object_get(doc, sections[section]);
    char pointer[32];
    snprintf(pointer, sizeof pointer, "/%s", sections[section]);
    if (value != NULL && !json_is_object(value))
        refuse_section(r, section, pointer, value);
    else
        read_section(r, sections[section], value);
}

/* The kind chosen in a section whose fields depend on one, as a bit; all bits elsewhere. */
static unsigned chosen_kind(const struct spec *spec, const char *section) {
    if (strcmp(section, "schedule") == 0)
        return 1u << spec->schedule.kind;
    return strcmp(section, "optimizer") == 0 ? 1u << spec->optimizer.kind : ~0u;
}

static bool is_used(const struct spec *spec, const struct row *row) {
    return row->kinds == 0 || (row->kinds & chosen_kind(spec, row->section)) != 0;
}

/* A field that the chosen kind does not use is a misunderstanding, not a detail. */
static void check_kinds(struct reading *r, const json_t *doc) {
    for (int i = 0; i < ROWS_N; i++) {
        const struct row *row = &rows[i];
        const json_t *object = json_object_get(doc, row->section);
        if (is_used(r->spec, row) || json_object_get(object, row->key) == NULL)
            continue;
        char pointer[96];
        row_pointer(row, pointer, sizeof pointer);
        bool schedule = strcmp(row->section, "schedule") == 0;
        err_add(r->errors, ERR_FIELD, pointer, "is not used by the %s \"%s\"; remove it or choose another \"kind\"", row->section,
                schedule ? choices_schedule[r->spec->schedule.kind] : choices_optimizer[r->spec->optimizer.kind]);
    }
}

static bool given(const json_t *doc, const char *section, const char *key) {
    return json_object_get(json_object_get(doc, section), key) != NULL;
}

/* Defaults that depend on the optimizer: those of torch.optim, but 1e-4 where SGD has no weight decay there. */
static void set_optimizer_defaults(struct reading *r, const json_t *doc) {
    struct spec *s = r->spec;
    if (s->optimizer.kind == OPTIMIZER_SGD)
        return;
    if (!given(doc, "schedule", "lr"))
        s->schedule.lr = 0.001;
    if (!given(doc, "optimizer", "momentum"))
        s->optimizer.momentum = 0;
    if (!given(doc, "optimizer", "weight_decay"))
        s->optimizer.weight_decay = s->optimizer.kind == OPTIMIZER_ADAMW ? 0.01 : 0;
}

/* Milestones that no epoch begins after would change nothing. */
static void check_milestones(struct reading *r) {
    const struct spec_list *milestones = &r->spec->schedule.milestones;
    if (r->spec->schedule.kind != SCHEDULE_MULTI_STEP)
        return;
    if (milestones->n == 0)
        err_add(r->errors, ERR_FIELD, "/schedule/milestones", "is missing; the schedule \"multi_step\" needs a list of epochs");
    else if (milestones->values[milestones->n - 1] >= r->spec->epochs)
        err_add(r->errors, ERR_FIELD, "/schedule/milestones",
                "has %d, which has no effect in a job of %d epochs: a milestone must be below \"epochs\"",
                milestones->values[milestones->n - 1], r->spec->epochs);
}

static void check_selection(struct reading *r, const json_t *doc) {
    const struct spec *s = r->spec;
    if (s->selection.patience > 0 && s->validation_fraction == 0)
        err_add(r->errors, ERR_FIELD, "/selection/patience",
                "needs a validation set to look at; set \"validation_fraction\", for example to 0.1");
    if (json_object_get(doc, "from") != NULL && s->from.job[0] == '\0')
        err_add(r->errors, ERR_FIELD, "/from/job", "is missing");
    if (s->from.resume && s->from.epoch != 0)
        err_add(r->errors, ERR_FIELD, "/from/epoch", "cannot be chosen with \"resume\", which goes on after the last epoch");
}

static void check_together(struct reading *r, const json_t *doc) {
    const struct spec *s = r->spec;
    check_kinds(r, doc);
    check_selection(r, doc);
    check_milestones(r);
    if (s->optimizer.nesterov && s->optimizer.momentum == 0)
        err_add(r->errors, ERR_FIELD, "/optimizer/nesterov", "needs a momentum above 0; \"momentum\" is 0");
    if (s->schedule.kind == SCHEDULE_COSINE && s->schedule.min_lr > s->schedule.lr)
        err_add(r->errors, ERR_FIELD, "/schedule/min_lr", "is %g, above \"lr\", which is %g", s->schedule.min_lr, s->schedule.lr);
    if (s->schedule.kind != SCHEDULE_ONE_CYCLE && s->schedule.warmup_epochs > s->epochs)
        err_add(r->errors, ERR_FIELD, "/schedule/warmup_epochs", "is %g, more than the job's %d epochs",
                s->schedule.warmup_epochs, s->epochs);
}

int spec_validation_images(double fraction, int images) {
    return (int)lround(fraction * images);
}

/* images: the training images, validation among them. */
static void check_images(struct reading *r, int images) {
    const struct spec *s = r->spec;
    int left = images - spec_validation_images(s->validation_fraction, images);
    if (s->validation_fraction > 0 && (left == images || left == 0))
        err_add(r->errors, ERR_FIELD, "/validation_fraction",
                "is %g: of %d training images that takes %s for validation; choose another fraction or more images",
                s->validation_fraction, images, left == 0 ? "all" : "none");
    else if (s->batch_size > left)
        err_add(r->errors, ERR_FIELD, "/batch_size", "is %d, more than the %d training images used", s->batch_size, left);
}

static void check_limits(struct reading *r, const struct dataset_card *card) {
    const struct spec *s = r->spec;
    if (s->train_limit > card->train_images)
        err_add(r->errors, ERR_FIELD, "/train_limit", "is %d; \"%s\" has %d training images", s->train_limit, card->name,
                card->train_images);
    if (s->test_limit > card->test_images)
        err_add(r->errors, ERR_FIELD, "/test_limit", "is %d; \"%s\" has %d test images", s->test_limit, card->name,
                card->test_images);
    if (s->train_limit <= card->train_images)
        check_images(r, s->train_limit > 0 ? s->train_limit : card->train_images);
}

static const struct dataset_card *read_dataset(struct reading *r, const json_t *doc) {
    const json_t *value = json_object_get(doc, "dataset");
    if (!json_is_string(value))
        return NULL; /* said when the section is read */
    const char *name = json_string_value(value);
    const struct dataset_card *card = r->context->find_dataset(r->context->arg, name);
    if (card != NULL)
        return card;
    const char *nearest = json_nearest(name, r->context->dataset_names, r->context->dataset_names_n);
    if (nearest != NULL)
        err_add(r->errors, ERR_FIELD, "/dataset", "there is no data set \"%.40s\"; did you mean \"%s\"?", name, nearest);
    else
        err_add(r->errors, ERR_FIELD, "/dataset",
                "there is no data set \"%.40s\"; `residuum datasets` or GET /v1/datasets lists them", name);
    return NULL;
}

static void set_defaults(struct reading *r, const struct dataset_card *card) {
    for (int i = 0; i < ROWS_N; i++)
        row_set(&rows[i], r->spec, rows[i].initial);
    r->spec->threads = r->context->threads_default;
    snprintf(r->spec->device, sizeof r->spec->device, "auto");
    if (card != NULL) {
        r->spec->pad = card->default_pad;
        r->spec->augment.crop = card->default_crop;
        r->spec->augment.flip = card->default_flip != 0;
    }
}

int spec_parse(const json_t *doc, const struct spec_context *context, struct spec *ret_spec, struct err_list *errors) {
    struct spec spec = {0};
    struct reading r = {context, &spec, errors};
    if (!json_is_object(doc))
        return err_add(errors, ERR_FIELD, "", "must be a JSON object, not %s", row_type_name(doc));
    size_t before = errors->n + errors->dropped;
    const struct dataset_card *card = read_dataset(&r, doc);
    set_defaults(&r, card);
    read_section(&r, "", doc);
    spec_model_read(json_object_get(doc, "model"), &spec.model, errors);
    for (int i = 0; i < SECTIONS_N; i++)
        read_nested(&r, i, doc);
    if (spec.threads > context->threads_max)
        err_add(errors, ERR_FIELD, "/threads", "is %d; this machine has %d", spec.threads, context->threads_max);
    if (errors->n + errors->dropped == before) {
        set_optimizer_defaults(&r, doc);
        check_together(&r, doc);
        check_limits(&r, card);
    }
    if (errors->n + errors->dropped != before) {
        spec_done(&spec);
        return -1;
    }
    *ret_spec = spec;
    return 0;
}

void spec_done(struct spec *spec) {
    json_decref(spec->model.layers);
    spec->model.layers = NULL;
}

/* The object that a row belongs to, made when it is not there yet. Borrowed. */
static json_t *row_parent(json_t *doc, const struct row *row) {
    if (row->section[0] == '\0')
        return doc;
    json_t *parent = json_object_get(doc, row->section);
    if (parent == NULL) {
        parent = json_object();
        if (json_object_set_new(doc, row->section, parent) != 0)
            return NULL;
    }
    return parent;
}

json_t *spec_to_json(const struct spec *spec) {
    json_t *doc = json_object();
    for (int i = 0; i < ROWS_N && doc != NULL; i++) {
        const struct row *row = &rows[i];
        if (!is_used(spec, row) || (strcmp(row->section, "from") == 0 && spec->from.job[0] == '\0'))
            continue;
        json_t *parent = row_parent(doc, row);
        if (parent == NULL || json_object_set_new(parent, row->key, row_write(row, spec)) != 0) {
            json_decref(doc);
            return NULL;
        }
    }
    if (json_object_set_new(doc, "model", spec_model_json(&spec->model)) != 0) {
        json_decref(doc);
        return NULL;
    }
    return doc;
}

static const struct dataset_card *find_builtin(void *arg, const char *name) {
    (void)arg;
    return dataset_find(name);
}

struct spec_context spec_context_builtin(int threads_default, int threads_max) {
    static const char *const names[] = {"fashion-mnist", "shapes"};
    return (struct spec_context){.threads_default = threads_default,
                                 .threads_max = threads_max,
                                 .find_dataset = find_builtin,
                                 .dataset_names = names,
                                 .dataset_names_n = sizeof names / sizeof names[0]};
}
