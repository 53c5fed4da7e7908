/* The table of a preset's options; reading and writing of "model", where they are set for all of it and by overrides. */
#include "common/spec_model.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/choices.h"
#include "common/json.h"
#include "common/row.h"

#define AT(member) offsetof(struct spec_options, member)

/* The order is the order of the canonical document. */
static const struct row options[] = {
    [OPTION_WIDTH] = {"", "width", ROW_REAL, AT(width), .min = 0.125, .max = 8},
    [OPTION_DEPTH] = {"", "depth", ROW_COUNTS, AT(depth), .min = 0, .max = 1000},
    [OPTION_NORM] = {"", "norm", ROW_CHOICE, AT(norm), .choices = choices_norm},
    [OPTION_NORM_GROUPS] = {"", "norm_groups", ROW_INT, AT(norm_groups), .min = 1, .max = 4096},
    [OPTION_INIT] = {"", "init", ROW_CHOICE, AT(init), .choices = choices_init},
    [OPTION_INIT_SIGMA] = {"", "init_sigma", ROW_REAL, AT(init_sigma), .min = 1e-9, .max = 100},
    [OPTION_ACTIVATION] = {"", "activation", ROW_CHOICE, AT(activation), .choices = choices_activation},
    [OPTION_RESIDUAL] = {"", "residual", ROW_BOOL, AT(residual)},
    [OPTION_SHORTCUT] = {"", "shortcut", ROW_CHOICE, AT(shortcut), .choices = choices_shortcut},
    [OPTION_PREACTIVATION] = {"", "preactivation", ROW_BOOL, AT(preactivation)},
    [OPTION_ZERO_INIT] = {"", "zero_init", ROW_BOOL, AT(zero_init)},
    [OPTION_KERNEL] = {"", "kernel", ROW_INT, AT(kernel), .min = 1, .max = 31},
    [OPTION_DOWNSAMPLING] = {"", "downsampling", ROW_CHOICE, AT(downsampling), .choices = choices_downsampling},
    [OPTION_DROPOUT] = {"", "dropout", ROW_REAL, AT(dropout), .max = 0.95},
    [OPTION_BLOCK_DROPOUT] = {"", "block_dropout", ROW_REAL, AT(block_dropout), .max = 0.95},
    [OPTION_STEM_KERNEL] = {"", "stem_kernel", ROW_INT, AT(stem_kernel), .min = 1, .max = 31},
    [OPTION_STEM_STRIDE] = {"", "stem_stride", ROW_INT, AT(stem_stride), .min = 1, .max = 8},
    [OPTION_STEM_CHANNELS] = {"", "stem_channels", ROW_INT, AT(stem_channels), .min = 1, .max = 4096},
    [OPTION_STEM_POOL] = {"", "stem_pool", ROW_BOOL, AT(stem_pool)},
    [OPTION_DENSE] = {"", "dense", ROW_COUNTS, AT(dense), .min = 1, .max = 65536},
};
_Static_assert(sizeof options / sizeof options[0] == OPTIONS_N, "one row an option");

enum {
    WHOLE_MODEL_ONLY = 1u << OPTION_PREACTIVATION | 1u << OPTION_STEM_KERNEL | 1u << OPTION_STEM_STRIDE |
                       1u << OPTION_STEM_CHANNELS | 1u << OPTION_STEM_POOL | 1u << OPTION_DENSE
};

static const struct row preset_row = {"", "preset", ROW_TEXT, offsetof(struct spec_model, preset), .min = 1, .max = 31};

static const struct row stage_row = {"", "stage", ROW_INT, offsetof(struct spec_override, stage), .min = 1, .max = 32};
static const struct row layers_row = {"", "layers", ROW_TEXT, offsetof(struct spec_override, layers), .min = 1, .max = 63};

/* Beside the options. */
static const char *const model_keys[] = {"preset", "layers", "overrides", NULL};

bool spec_model_has(const char *key) {
    for (int i = 0; model_keys[i] != NULL; i++)
        if (strcmp(model_keys[i], key) == 0)
            return true;
    for (int i = 0; i < OPTIONS_N; i++)
        if (strcmp(options[i].key, key) == 0)
            return true;
    return false;
}

const char *spec_option_name(enum spec_option option) {
    return options[option].key;
}

/* The keys of an object that has options and up to three more fields. */
static size_t known_keys(const char *const *more, const char *ret_keys[OPTIONS_N + 3]) {
    size_t n = 0;
    for (; more[n] != NULL; n++)
        ret_keys[n] = more[n];
    for (int i = 0; i < OPTIONS_N; i++)
        ret_keys[n++] = options[i].key;
    return n;
}

static void report_unknown(const json_t *object, const char *pointer, const char *const *more, struct err_list *errors) {
    const char *keys[OPTIONS_N + 3];
    size_t n = known_keys(more, keys);
    row_report_unknown(object, pointer, keys, n, spec_places, errors);
}

static void read_options(const json_t *object, const char *parent, struct spec_options *ret_options, struct err_list *errors) {
    for (int i = 0; i < OPTIONS_N; i++) {
        const json_t *value = json_object_get(object, options[i].key);
        char pointer[96];
        json_pointer(pointer, sizeof pointer, parent, options[i].key);
        if (value != NULL && row_read(&options[i], ret_options, pointer, value, errors) == 0)
            ret_options->given |= 1u << i;
    }
}

/* An override says where it holds, in one of two ways, and sets something there. */
static void check_override(const json_t *object, const char *parent, const struct spec_options *set, struct err_list *errors) {
    bool stage = json_object_get(object, "stage") != NULL, layers = json_object_get(object, "layers") != NULL;
    if (stage == layers)
        err_add(errors, ERR_FIELD, parent,
                "needs %s: \"stage\", a number, or \"layers\", a pattern of names such as \"layer1.*\"",
                stage ? "only one of" : "one of");
    bool sets = false;
    for (int i = 0; i < OPTIONS_N; i++) {
        bool given = json_object_get(object, options[i].key) != NULL;
        sets |= given;
        char pointer[96];
        json_pointer(pointer, sizeof pointer, parent, options[i].key);
        if (given && (WHOLE_MODEL_ONLY & 1u << i) != 0)
            err_add(errors, ERR_FIELD, pointer, "can only be set for the whole model, beside \"preset\"");
    }
    if (!sets)
        err_add(errors, ERR_FIELD, parent, "sets nothing; give it an option such as \"activation\"");
    if (set->depth.n > 1)
        err_add(errors, ERR_FIELD, parent, "has a list as \"depth\"; an override needs a single number of blocks");
}

static void read_override(const json_t *object, size_t index, struct spec_override *ret_override, struct err_list *errors) {
    static const char *const more[] = {"stage", "layers", NULL};
    char parent[48], pointer[64];
    snprintf(parent, sizeof parent, "/model/overrides/%zu", index);
    if (!json_is_object(object)) {
        err_add(errors, ERR_FIELD, parent, "must be an object, not %s", row_type_name(object));
        return;
    }
    report_unknown(object, parent, more, errors);
    for (int i = 0; i < 2; i++) {
        const struct row *row = i == 0 ? &stage_row : &layers_row;
        const json_t *value = json_object_get(object, row->key);
        json_pointer(pointer, sizeof pointer, parent, row->key);
        if (value != NULL)
            row_read(row, ret_override, pointer, value, errors);
    }
    read_options(object, parent, &ret_override->options, errors);
    check_override(object, parent, &ret_override->options, errors);
}

static void read_overrides(const json_t *list, struct spec_model *model, struct err_list *errors) {
    size_t n = json_array_size(list);
    if (list == NULL)
        return;
    if (!json_is_array(list) || n > SPEC_OVERRIDES_MAX) {
        err_add(errors, ERR_FIELD, "/model/overrides", "must be a list of at most %d objects", SPEC_OVERRIDES_MAX);
        return;
    }
    for (size_t i = 0; i < n; i++)
        read_override(json_array_get(list, i), i, &model->overrides[i], errors);
    model->overrides_n = (int)n;
}

static void refuse_beside_layers(const json_t *object, const char *key, struct err_list *errors) {
    char pointer[96];
    json_pointer(pointer, sizeof pointer, "/model", key);
    if (json_object_get(object, key) != NULL)
        err_add(errors, ERR_FIELD, pointer, "cannot stand beside \"layers\": it belongs to presets, and layers say all");
}

static void read_layers(const json_t *object, json_t *layers, struct spec_model *model, struct err_list *errors) {
    if (!json_is_array(layers))
        err_add(errors, ERR_FIELD, "/model/layers", "must be a list of layers, not %s", row_type_name(layers));
    refuse_beside_layers(object, "overrides", errors);
    for (int i = 0; i < OPTIONS_N; i++)
        refuse_beside_layers(object, options[i].key, errors);
    model->layers = json_incref(layers);
}

static void read_object(const json_t *object, struct spec_model *model, struct err_list *errors) {
    const json_t *preset = json_object_get(object, "preset");
    json_t *layers = json_object_get(object, "layers");
    report_unknown(object, "/model", model_keys, errors);
    if ((preset == NULL) == (layers == NULL)) {
        err_add(errors, ERR_FIELD, "/model", "needs %s: \"preset\", a name such as \"resnet20\", or \"layers\", a list of layers",
                preset == NULL ? "one of" : "only one of");
    } else if (layers != NULL) {
        read_layers(object, layers, model, errors);
    } else {
        row_read(&preset_row, model, "/model/preset", preset, errors);
        read_options(object, "/model", &model->options, errors);
        read_overrides(json_object_get(object, "overrides"), model, errors);
    }
}

void spec_model_read(const json_t *value, struct spec_model *ret_model, struct err_list *errors) {
    if (value == NULL)
        err_add(errors, ERR_FIELD, "/model", "is missing; a preset's name such as \"resnet20\", or an object, is expected");
    else if (json_is_string(value))
        row_read(&preset_row, ret_model, "/model", value, errors);
    else if (json_is_object(value))
        read_object(value, ret_model, errors);
    else
        err_add(errors, ERR_FIELD, "/model", "must be an object or a preset's name, not %s", row_type_name(value));
}

/* Sets the options that are given. Returns 0, or -1 when out of memory. */
static int write_options(json_t *object, const struct spec_options *set) {
    for (int i = 0; i < OPTIONS_N; i++)
        if ((set->given & 1u << i) != 0 && json_object_set_new(object, options[i].key, row_write(&options[i], set)) != 0)
            return -1;
    return 0;
}

/* Takes the object; returns it, or NULL after a failure. */
static json_t *unless_failed(json_t *object, int failed) {
    if (failed == 0)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *override_json(const struct spec_override *override) {
    json_t *object = json_object();
    const struct row *row = override->stage > 0 ? &stage_row : &layers_row;
    int failed = json_object_set_new(object, row->key, row_write(row, override));
    return unless_failed(object, failed != 0 ? -1 : write_options(object, &override->options));
}

static json_t *overrides_json(const struct spec_model *model) {
    json_t *list = json_array();
    int failed = 0;
    for (int i = 0; i < model->overrides_n && failed == 0; i++)
        failed = json_array_append_new(list, override_json(&model->overrides[i]));
    return unless_failed(list, failed);
}

json_t *spec_model_json(const struct spec_model *model) {
    if (model->layers != NULL)
        return json_pack("{s:O}", "layers", model->layers);
    json_t *object = json_object();
    int failed = json_object_set_new(object, "preset", json_string(model->preset));
    if (failed == 0)
        failed = write_options(object, &model->options);
    if (failed == 0 && model->overrides_n > 0)
        failed = json_object_set_new(object, "overrides", overrides_json(model));
    return unless_failed(object, failed);
}
