/* The table of a job's fields; reading and writing walk it. See spec.h. */
#include "common/spec.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"

enum kind { KIND_TEXT, KIND_INT, KIND_SEED, KIND_REAL, KIND_BOOL, KIND_CHOICE, KIND_INTS };

static const char *const precisions[] = {[PRECISION_F32] = "f32", [PRECISION_BF16] = "bf16", NULL};
static const char *const backends[] = {
    [BACKEND_AUTO] = "auto", [BACKEND_REF] = "ref", [BACKEND_ONEDNN] = "onednn", [BACKEND_CUDNN] = "cudnn", NULL};
static const char *const norms[] = {[NORM_NONE] = "none", [NORM_BATCH] = "batch", [NORM_GROUP] = "group", NULL};
static const char *const inits[] = {
    [INIT_HE_NORMAL] = "he_normal",           [INIT_HE_UNIFORM] = "he_uniform", [INIT_XAVIER_NORMAL] = "xavier_normal",
    [INIT_XAVIER_UNIFORM] = "xavier_uniform", [INIT_NORMAL] = "normal",         NULL};
static const char *const shortcuts[] = {[SHORTCUT_A] = "A", [SHORTCUT_B] = "B", NULL};
static const char *const activations[] = {[ACTIVATION_RELU] = "relu",
                                          [ACTIVATION_LEAKY_RELU] = "leaky_relu",
                                          [ACTIVATION_ELU] = "elu",
                                          [ACTIVATION_GELU] = "gelu",
                                          [ACTIVATION_SILU] = "silu",
                                          [ACTIVATION_SIGMOID] = "sigmoid",
                                          [ACTIVATION_TANH] = "tanh",
                                          [ACTIVATION_IDENTITY] = "identity",
                                          NULL};
static const char *const schedules[] = {
    [SCHEDULE_CONSTANT] = "constant", [SCHEDULE_STEP] = "step",           [SCHEDULE_MULTI_STEP] = "multi_step",
    [SCHEDULE_COSINE] = "cosine",     [SCHEDULE_ONE_CYCLE] = "one_cycle", NULL};
static const char *const optimizers[] = {
    [OPTIMIZER_SGD] = "sgd", [OPTIMIZER_ADAM] = "adam", [OPTIMIZER_ADAMW] = "adamw", [OPTIMIZER_RMSPROP] = "rmsprop", NULL};
static const char *const selections[] = {[SELECTION_ACCURACY] = "accuracy", [SELECTION_LOSS] = "loss", NULL};

const char *spec_precision_name(enum spec_precision value) {
    return precisions[value];
}
const char *spec_backend_name(enum spec_backend value) {
    return backends[value];
}
const char *spec_activation_name(enum spec_activation value) {
    return activations[value];
}
const char *spec_norm_name(enum spec_norm value) {
    return norms[value];
}
const char *spec_init_name(enum spec_init value) {
    return inits[value];
}
const char *spec_shortcut_name(enum spec_shortcut value) {
    return shortcuts[value];
}
const char *spec_schedule_name(enum spec_schedule value) {
    return schedules[value];
}
const char *spec_optimizer_name(enum spec_optimizer value) {
    return optimizers[value];
}

/* A field. min and max bound numbers and a text's length in bytes; kinds is the set of kinds of its section (schedule or
 * optimizer) that use it; 0: all. */
struct row {
    const char *section, *key;
    enum kind kind;
    size_t offset;
    double min, max, initial;
    const char *const *choices;
    unsigned kinds;
    bool required;
};

#define AT(member) offsetof(struct spec, member)
#define ON(kind) (1u << SCHEDULE_##kind)
#define WARM (ON(CONSTANT) | ON(STEP) | ON(MULTI_STEP) | ON(COSINE))
#define BY(kind) (1u << OPTIMIZER_##kind)
#define ADAPTIVE (BY(ADAM) | BY(ADAMW) | BY(RMSPROP))

/* The order is the order of the canonical document. pad, threads, crop and flip take their initial value from the data set and
 * the context. */
static const struct row rows[] = {
    {"", "name", KIND_TEXT, AT(name), .min = 0, .max = 80},
    {"", "dataset", KIND_TEXT, AT(dataset), .min = 1, .max = 32, .required = true},
    {"", "pad", KIND_INT, AT(pad), .max = 32},
    {"model", "preset", KIND_TEXT, AT(model.preset), .min = 1, .max = 31, .required = true},
    {"model", "width", KIND_REAL, AT(model.width), .min = 0.125, .max = 8, .initial = 1},
    {"model", "norm", KIND_CHOICE, AT(model.norm), .initial = NORM_BATCH, .choices = norms},
    {"model", "init", KIND_CHOICE, AT(model.init), .initial = INIT_HE_NORMAL, .choices = inits},
    {"model", "activation", KIND_CHOICE, AT(model.activation), .initial = ACTIVATION_RELU, .choices = activations},
    {"model", "shortcut", KIND_CHOICE, AT(model.shortcut), .initial = SHORTCUT_A, .choices = shortcuts},
    {"", "epochs", KIND_INT, AT(epochs), .min = 1, .max = 10000, .initial = 5},
    {"", "batch_size", KIND_INT, AT(batch_size), .min = 1, .max = 4096, .initial = 128},
    {"", "seed", KIND_SEED, AT(seed), .max = 9007199254740991.0, .initial = 1},
    {"", "precision", KIND_CHOICE, AT(precision), .initial = PRECISION_F32, .choices = precisions},
    {"", "backend", KIND_CHOICE, AT(backend), .initial = BACKEND_AUTO, .choices = backends},
    {"", "threads", KIND_INT, AT(threads), .min = 1, .max = 4096},
    {"optimizer", "kind", KIND_CHOICE, AT(optimizer.kind), .initial = OPTIMIZER_SGD, .choices = optimizers},
    {"optimizer", "momentum", KIND_REAL, AT(optimizer.momentum), .max = 0.9999, .initial = 0.9, .kinds = BY(SGD) | BY(RMSPROP)},
    {"optimizer", "nesterov", KIND_BOOL, AT(optimizer.nesterov), .initial = false, .kinds = BY(SGD)},
    {"optimizer", "weight_decay", KIND_REAL, AT(optimizer.weight_decay), .max = 1, .initial = 1e-4},
    {"optimizer", "decay_norm_bias", KIND_BOOL, AT(optimizer.decay_norm_bias), .initial = true},
    {"optimizer", "beta1", KIND_REAL, AT(optimizer.beta1), .max = 0.9999, .initial = 0.9, .kinds = BY(ADAM) | BY(ADAMW)},
    {"optimizer", "beta2", KIND_REAL, AT(optimizer.beta2), .max = 0.999999, .initial = 0.999, .kinds = BY(ADAM) | BY(ADAMW)},
    {"optimizer", "alpha", KIND_REAL, AT(optimizer.alpha), .max = 0.999999, .initial = 0.99, .kinds = BY(RMSPROP)},
    {"optimizer", "epsilon", KIND_REAL, AT(optimizer.epsilon), .min = 1e-16, .max = 1, .initial = 1e-8, .kinds = ADAPTIVE},
    {"optimizer", "clip_norm", KIND_REAL, AT(optimizer.clip_norm), .max = 1e6},
    {"schedule", "kind", KIND_CHOICE, AT(schedule.kind), .initial = SCHEDULE_ONE_CYCLE, .choices = schedules},
    {"schedule", "lr", KIND_REAL, AT(schedule.lr), .min = 1e-12, .max = 1e6, .initial = 0.1},
    {"schedule", "warmup_epochs", KIND_REAL, AT(schedule.warmup_epochs), .max = 10000, .kinds = WARM},
    {"schedule", "step_epochs", KIND_INT, AT(schedule.step_epochs), .min = 1, .max = 10000, .initial = 2, .kinds = ON(STEP)},
    {"schedule", "gamma", KIND_REAL, AT(schedule.gamma), .min = 1e-6, .max = 1, .initial = 0.1,
     .kinds = ON(STEP) | ON(MULTI_STEP)},
    {"schedule", "milestones", KIND_INTS, AT(schedule.milestones), .min = 1, .max = 10000, .kinds = ON(MULTI_STEP)},
    {"schedule", "min_lr", KIND_REAL, AT(schedule.min_lr), .max = 1e6, .kinds = ON(COSINE)},
    {"schedule", "warmup_fraction", KIND_REAL, AT(schedule.warmup_fraction), .max = 1, .initial = 0.3, .kinds = ON(ONE_CYCLE)},
    {"schedule", "div_factor", KIND_REAL, AT(schedule.div_factor), .min = 1, .max = 1e9, .initial = 25, .kinds = ON(ONE_CYCLE)},
    {"schedule", "final_div_factor", KIND_REAL, AT(schedule.final_div_factor), .min = 1, .max = 1e9, .initial = 1e4,
     .kinds = ON(ONE_CYCLE)},
    {"augment", "crop", KIND_INT, AT(augment.crop), .max = 32},
    {"augment", "flip", KIND_BOOL, AT(augment.flip), .initial = false},
    {"augment", "rotation", KIND_REAL, AT(augment.rotation), .max = 45},
    {"augment", "brightness", KIND_REAL, AT(augment.brightness), .max = 1},
    {"augment", "contrast", KIND_REAL, AT(augment.contrast), .max = 1},
    {"augment", "cutout", KIND_INT, AT(augment.cutout), .max = 224},
    {"augment", "mixup", KIND_REAL, AT(augment.mixup), .max = 10},
    {"", "label_smoothing", KIND_REAL, AT(label_smoothing), .max = 0.9},
    {"", "average_decay", KIND_REAL, AT(average_decay), .max = 0.999999},
    {"", "validation_fraction", KIND_REAL, AT(validation_fraction), .max = 0.5},
    {"selection", "metric", KIND_CHOICE, AT(selection.metric), .initial = SELECTION_ACCURACY, .choices = selections},
    {"selection", "patience", KIND_INT, AT(selection.patience), .max = 10000},
    {"selection", "min_delta", KIND_REAL, AT(selection.min_delta), .max = 1e6},
    {"", "keep_every", KIND_INT, AT(keep_every), .max = 10000},
    {"from", "job", KIND_TEXT, AT(from.job), .min = 1, .max = 31},
    {"from", "epoch", KIND_INT, AT(from.epoch), .max = 10000},
    {"from", "resume", KIND_BOOL, AT(from.resume), .initial = false},
    {"", "train_limit", KIND_INT, AT(train_limit), .max = 100000000},
    {"", "test_limit", KIND_INT, AT(test_limit), .max = 100000000},
};
enum { ROWS_N = sizeof rows / sizeof rows[0] };

static const char *const sections[] = {"model", "optimizer", "schedule", "augment", "selection", "from"};
enum { SECTIONS_N = sizeof sections / sizeof sections[0] };

/* What is being read: the spec so far, and where errors go. */
struct reading {
    const struct spec_context *context;
    struct spec *spec;
    struct err_list *errors;
};

static void *field(struct spec *spec, const struct row *row) {
    return (char *)spec + row->offset;
}

static const void *field_const(const struct spec *spec, const struct row *row) {
    return (const char *)spec + row->offset;
}

static void row_pointer(const struct row *row, char *ret_pointer, size_t size) {
    snprintf(ret_pointer, size, "%s%s/%s", row->section[0] != '\0' ? "/" : "", row->section, row->key);
}

static void set_number(struct spec *spec, const struct row *row, double value) {
    void *at = field(spec, row);
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_INTS:
        break;
    case KIND_INT:
    case KIND_CHOICE: /* enums of this table are int-sized */
        *(int *)at = (int)value;
        break;
    case KIND_SEED:
        *(uint64_t *)at = (uint64_t)value;
        break;
    case KIND_REAL:
        *(double *)at = value;
        break;
    case KIND_BOOL:
        *(bool *)at = value != 0;
        break;
    }
}

static const char *type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",      [JSON_FALSE] = "false",     [JSON_NULL] = "null"};
    return names[json_typeof(value)];
}

static void read_text(struct reading *r, const struct row *row, const char *pointer, const json_t *value) {
    if (!json_is_string(value)) {
        err_add(r->errors, ERR_FIELD, pointer, "must be a string, not %s", type_name(value));
        return;
    }
    size_t length = json_string_length(value);
    const char *text = json_string_value(value);
    if (length < (size_t)row->min || length > (size_t)row->max) {
        err_add(r->errors, ERR_FIELD, pointer, "has %zu bytes; %g to %g are possible", length, row->min, row->max);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            err_add(r->errors, ERR_FIELD, pointer, "holds the control character %d; text without control characters is expected",
                    text[i]);
            return;
        }
    }
    memcpy(field(r->spec, row), text, length + 1);
}

static void read_number(struct reading *r, const struct row *row, const char *pointer, const json_t *value) {
    bool whole = row->kind != KIND_REAL;
    if (!json_is_number(value)) {
        err_add(r->errors, ERR_FIELD, pointer, "must be a %snumber, not %s", whole ? "whole " : "", type_name(value));
        return;
    }
    double number = json_number_value(value);
    /* Beyond 2^53 a double no longer tells neighbours apart; the bounds are all below, so the comparison is exact. */
    if (number < row->min || number > row->max || !isfinite(number))
        err_add(r->errors, ERR_FIELD, pointer, "is %.17g; %.17g to %.17g are possible", number, row->min, row->max);
    else if (whole && number != floor(number))
        err_add(r->errors, ERR_FIELD, pointer, "is %.17g; a whole number is expected", number);
    else
        set_number(r->spec, row, number);
}

static void list_choices(const char *const *choices, char *ret_text, size_t size) {
    size_t used = 0;
    ret_text[0] = '\0';
    for (size_t i = 0; choices[i] != NULL && used < size; i++)
        used += (size_t)snprintf(ret_text + used, size - used, "%s\"%s\"", i == 0 ? "" : ", ", choices[i]);
}

static void read_choice(struct reading *r, const struct row *row, const char *pointer, const json_t *value) {
    char known[200];
    list_choices(row->choices, known, sizeof known);
    if (!json_is_string(value)) {
        err_add(r->errors, ERR_FIELD, pointer, "must be one of %s, not %s", known, type_name(value));
        return;
    }
    for (int i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(row->choices[i], json_string_value(value)) == 0) {
            set_number(r->spec, row, i);
            return;
        }
    }
    err_add(r->errors, ERR_FIELD, pointer, "is \"%.40s\"; possible are %s", json_string_value(value), known);
}

/* A rising list of whole numbers. */
static void read_ints(struct reading *r, const struct row *row, const char *pointer, const json_t *value) {
    struct spec_list list = {0};
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n < 1 || n > SPEC_LIST_MAX) {
        err_add(r->errors, ERR_FIELD, pointer, "must be a list of 1 to %d whole numbers", SPEC_LIST_MAX);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(value, i);
        double number = json_number_value(item), low = list.n > 0 ? list.values[list.n - 1] + 1 : row->min;
        if (!json_is_integer(item) || number < low || number > row->max) {
            err_add(r->errors, ERR_FIELD, pointer,
                    "has at place %zu no whole number from %.17g to %.17g; each must be above the one "
                    "before",
                    i, low, row->max);
            return;
        }
        list.values[list.n++] = (int)number;
    }
    memcpy(field(r->spec, row), &list, sizeof list);
}

static void read_value(struct reading *r, const struct row *row, const json_t *value) {
    char pointer[96];
    row_pointer(row, pointer, sizeof pointer);
    switch (row->kind) {
    case KIND_TEXT:
        read_text(r, row, pointer, value);
        break;
    case KIND_INT:
    case KIND_SEED:
    case KIND_REAL:
        read_number(r, row, pointer, value);
        break;
    case KIND_BOOL:
        if (json_is_boolean(value))
            set_number(r->spec, row, json_is_true(value));
        else
            err_add(r->errors, ERR_FIELD, pointer, "must be true or false, not %s", type_name(value));
        break;
    case KIND_CHOICE:
        read_choice(r, row, pointer, value);
        break;
    case KIND_INTS:
        read_ints(r, row, pointer, value);
        break;
    }
}

static const struct row *find_row(const char *section, const char *key) {
    for (int i = 0; i < ROWS_N; i++)
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

static bool is_section(const char *key) {
    for (int i = 0; i < SECTIONS_N; i++)
        if (strcmp(sections[i], key) == 0)
            return true;
    return false;
}

/* Keys of an object that no row knows, each with the nearest known one. */
static void report_unknown(struct reading *r, const char *section, const json_t *object) {
    const char *known[ROWS_N + SECTIONS_N];
    size_t n = 0;
    for (int i = 0; i < ROWS_N; i++)
        if (strcmp(rows[i].section, section) == 0)
            known[n++] = rows[i].key;
    if (section[0] == '\0')
        for (int i = 0; i < SECTIONS_N; i++)
            known[n++] = sections[i];
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (find_row(section, key) != NULL || (section[0] == '\0' && is_section(key)))
            continue;
        char parent[32], pointer[160];
        snprintf(parent, sizeof parent, "%s%s", section[0] != '\0' ? "/" : "", section);
        json_pointer(pointer, sizeof pointer, parent, key);
        const char *nearest = json_nearest(key, known, n);
        if (nearest != NULL)
            err_add(r->errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field; did you mean \"%s\"?", nearest);
        else
            err_add(r->errors, ERR_UNKNOWN_FIELD, pointer, "is not a known field");
    }
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
            read_value(r, row, value);
    }
}

/* The object of a section; NULL when it is absent or was wrong. "model" may be a preset's name. */
static void read_nested(struct reading *r, const char *section, const json_t *doc) {
    const json_t *value = json_object_get(doc, section);
    char pointer[32];
    snprintf(pointer, sizeof pointer, "/%s", section);
    bool is_model = strcmp(section, "model") == 0;
    if (value == NULL && is_model) {
        err_add(r->errors, ERR_FIELD, pointer, "is missing; a preset's name such as \"resnet20\", or an object, is expected");
    } else if (is_model && json_is_string(value)) {
        read_value(r, find_row("model", "preset"), value);
    } else if (value != NULL && !json_is_object(value)) {
        err_add(r->errors, ERR_FIELD, pointer, "must be an object%s, not %s", is_model ? " or a preset's name" : "",
                type_name(value));
    } else {
        read_section(r, section, value);
    }
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
                schedule ? spec_schedule_name(r->spec->schedule.kind) : spec_optimizer_name(r->spec->optimizer.kind));
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

static void check_selection(struct reading *r, const json_t *doc) {
    const struct spec *s = r->spec;
    if (s->selection.patience > 0 && s->validation_fraction == 0)
        err_add(r->errors, ERR_FIELD, "/selection/patience",
                "needs a validation set to look at; set \"validation_fraction\", for example to 0.1");
    if (s->schedule.kind == SCHEDULE_MULTI_STEP && s->schedule.milestones.n == 0)
        err_add(r->errors, ERR_FIELD, "/schedule/milestones", "is missing; the schedule \"multi_step\" needs a list of epochs");
    if (json_object_get(doc, "from") != NULL && s->from.job[0] == '\0')
        err_add(r->errors, ERR_FIELD, "/from/job", "is missing");
    if (s->from.resume && s->from.epoch != 0)
        err_add(r->errors, ERR_FIELD, "/from/epoch", "cannot be chosen with \"resume\", which goes on after the last epoch");
}

static void check_together(struct reading *r, const json_t *doc) {
    const struct spec *s = r->spec;
    check_kinds(r, doc);
    check_selection(r, doc);
    if (s->optimizer.nesterov && s->optimizer.momentum == 0)
        err_add(r->errors, ERR_FIELD, "/optimizer/nesterov", "needs a momentum above 0; \"momentum\" is 0");
    if (s->schedule.kind == SCHEDULE_COSINE && s->schedule.min_lr > s->schedule.lr)
        err_add(r->errors, ERR_FIELD, "/schedule/min_lr", "is %g, above \"lr\", which is %g", s->schedule.min_lr, s->schedule.lr);
    if (s->schedule.kind != SCHEDULE_ONE_CYCLE && s->schedule.warmup_epochs > s->epochs)
        err_add(r->errors, ERR_FIELD, "/schedule/warmup_epochs", "is %g, more than the job's %d epochs",
                s->schedule.warmup_epochs, s->epochs);
}

static void check_limits(struct reading *r, const struct dataset_card *card) {
    const struct spec *s = r->spec;
    if (s->train_limit > card->train_images)
        err_add(r->errors, ERR_FIELD, "/train_limit", "is %d; \"%s\" has %d training images", s->train_limit, card->name,
                card->train_images);
    if (s->test_limit > card->test_images)
        err_add(r->errors, ERR_FIELD, "/test_limit", "is %d; \"%s\" has %d test images", s->test_limit, card->name,
                card->test_images);
    int images = s->train_limit > 0 ? s->train_limit : card->train_images;
    if (s->batch_size > images && s->train_limit <= card->train_images)
        err_add(r->errors, ERR_FIELD, "/batch_size", "is %d, more than the %d training images used", s->batch_size, images);
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
        err_add(r->errors, ERR_FIELD, "/dataset", "there is no data set \"%.40s\"; GET /v1/datasets lists them", name);
    return NULL;
}

static void set_defaults(struct reading *r, const struct dataset_card *card) {
    for (int i = 0; i < ROWS_N; i++)
        set_number(r->spec, &rows[i], rows[i].initial);
    r->spec->threads = r->context->threads_default;
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
        return err_add(errors, ERR_FIELD, "", "a job must be a JSON object, not %s", type_name(doc));
    size_t before = errors->n + errors->dropped;
    const struct dataset_card *card = read_dataset(&r, doc);
    set_defaults(&r, card);
    read_section(&r, "", doc);
    for (int i = 0; i < SECTIONS_N; i++)
        read_nested(&r, sections[i], doc);
    if (spec.threads > context->threads_max)
        err_add(errors, ERR_FIELD, "/threads", "is %d; this machine has %d", spec.threads, context->threads_max);
    if (errors->n + errors->dropped == before) {
        set_optimizer_defaults(&r, doc);
        check_together(&r, doc);
        check_limits(&r, card);
    }
    if (errors->n + errors->dropped != before)
        return -1;
    *ret_spec = spec;
    return 0;
}

void spec_done(struct spec *spec) {
    json_decref(spec->model.layers);
    spec->model.layers = NULL;
}

static json_t *list_json(const struct spec_list *list) {
    json_t *array = json_array();
    for (int i = 0; i < list->n && array != NULL; i++)
        if (json_array_append_new(array, json_integer(list->values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *row_json(const struct spec *spec, const struct row *row) {
    const void *at = field_const(spec, row);
    switch (row->kind) {
    case KIND_TEXT:
        return json_string(at);
    case KIND_INT:
        return json_integer(*(const int *)at);
    case KIND_SEED:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case KIND_REAL:
        return json_real(*(const double *)at);
    case KIND_BOOL:
        return json_boolean(*(const bool *)at);
    case KIND_CHOICE:
        return json_string(row->choices[*(const int *)at]);
    case KIND_INTS:
        return list_json(at);
    }
    return NULL;
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
        if (parent == NULL || json_object_set_new(parent, row->key, row_json(spec, row)) != 0) {
            json_decref(doc);
            return NULL;
        }
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
