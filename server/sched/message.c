/* Checks of what workers say: see message.h. The messages are tables of fields: each must be there, of its kind, within its
 * range; another field than these is an error too, as daemon and worker of one installation always have the same protocol. */
#include "server/sched/message.h"

#include <stdbool.h>
#include <string.h>

#include "common/dataset.h"
#include "common/json.h"

enum kind {
    KIND_INT,
    KIND_REAL,
    KIND_REAL_OR_NULL,
    KIND_TEXT, /* min to max bytes */
    KIND_TEXT_OR_NULL,
    KIND_BOOL,
    KIND_OBJECT,
    KIND_OBJECT_OR_NULL,
    KIND_INTS,    /* an array of integers */
    KIND_OBJECTS, /* an array of objects */
    KIND_TEXTS,   /* an array of texts */
    KIND_CONFUSION,
    KIND_SOFTMAX
};

struct field {
    const char *name;
    enum kind kind;
    double min, max;
    const struct field *inner; /* of objects; ended by a row without a name */
};

enum { LIST_MAX = 256 };
static const double big = 9007199254740992.0; /* 2^53: integers are exact up to here */
static const double huge_real = 1e300;

#define END {.name = NULL}
#define COUNT(name) {name, KIND_INT, 0, big, NULL}

static const struct field resumed_fields[] = {COUNT("epoch"), COUNT("step"), END};
static const struct field hello_fields[] = {{"protocol", KIND_INT, EVENT_PROTOCOL, EVENT_PROTOCOL, NULL},
                                            {"backend", KIND_TEXT, 1, 64, NULL},
                                            {"backend_version", KIND_TEXT, 0, 128, NULL},
                                            {"device", KIND_TEXT, 1, 256, NULL},
                                            {"precision", KIND_TEXT, 1, 32, NULL},
                                            {"threads", KIND_INT, 1, 65536, NULL},
                                            COUNT("parameters"),
                                            COUNT("memory_bytes"),
                                            {"resumed", KIND_OBJECT_OR_NULL, 0, 0, resumed_fields},
                                            END};
static const struct field progress_fields[] = {{"epoch", KIND_INT, 1, 1e9, NULL},
                                               {"epochs", KIND_INT, 1, 1e9, NULL},
                                               {"phase", KIND_TEXT, 1, 16, NULL},
                                               COUNT("step"),
                                               COUNT("steps"),
                                               {"loss", KIND_REAL_OR_NULL, -huge_real, huge_real, NULL},
                                               {"images_per_second", KIND_REAL_OR_NULL, 0, huge_real, NULL},
                                               {"seconds_left", KIND_REAL_OR_NULL, 0, huge_real, NULL},
                                               END};
static const struct field train_fields[] = {
    {"loss", KIND_REAL, -huge_real, huge_real, NULL}, {"accuracy", KIND_REAL, 0, 1, NULL}, END};
static const struct field test_fields[] = {{"loss", KIND_REAL, -huge_real, huge_real, NULL},
                                           {"accuracy", KIND_REAL, 0, 1, NULL},
                                           {"confusion", KIND_CONFUSION, 0, big, NULL},
                                           {"softmax", KIND_SOFTMAX, 0, 1.000001, NULL},
                                           {"labels", KIND_INTS, 0, DATASET_CLASSES_MAX - 1, NULL},
                                           END};
static const struct field epoch_fields[] = {{"epoch", KIND_INT, 1, 1e9, NULL},
                                            {"train", KIND_OBJECT, 0, 0, train_fields},
                                            {"test", KIND_OBJECT, 0, 0, test_fields},
                                            {"lr", KIND_REAL, 0, huge_real, NULL},
                                            {"seconds", KIND_REAL, 0, huge_real, NULL},
                                            {"images_per_second", KIND_REAL, 0, huge_real, NULL},
                                            END};
static const struct field checkpoint_fields[] = {
    {"epoch", KIND_INT, 0, 1e9, NULL}, COUNT("step"), {"file", KIND_TEXT, 1, 255, NULL}, COUNT("bytes"), END};
static const struct field done_fields[] = {{"epochs", KIND_INT, 1, 1e9, NULL}, END};
static const struct field error_fields[] = {
    {"code", KIND_TEXT, 1, 31, NULL}, {"text", KIND_TEXT, 1, 4096, NULL}, {"pointer", KIND_TEXT, 0, 256, NULL}, END};

static const struct field backend_fields[] = {
    {"name", KIND_TEXT, 1, 64, NULL}, {"version", KIND_TEXT, 0, 128, NULL}, {"precisions", KIND_TEXTS, 1, 32, NULL}, END};
static const struct field unusable_fields[] = {{"name", KIND_TEXT, 1, 64, NULL}, {"reason", KIND_TEXT, 0, 2048, NULL}, END};
static const struct field device_fields[] = {{"id", KIND_TEXT, 1, 63, NULL},
                                             {"name", KIND_TEXT, 0, 256, NULL},
                                             {"threads", KIND_INT, 1, 65536, NULL},
                                             COUNT("memory_bytes"),
                                             {"backends", KIND_OBJECTS, 0, 0, backend_fields},
                                             {"unusable", KIND_OBJECTS, 0, 0, unusable_fields},
                                             END};
static const struct field dataset_fields[] = {
    {"name", KIND_TEXT, 1, 64, NULL}, {"available", KIND_BOOL, 0, 0, NULL}, {"reason", KIND_TEXT_OR_NULL, 0, 2048, NULL}, END};
static const struct field probe_fields[] = {{"protocol", KIND_INT, EVENT_PROTOCOL, EVENT_PROTOCOL, NULL},
                                            {"devices", KIND_OBJECTS, 0, 0, device_fields},
                                            {"datasets", KIND_OBJECTS, 0, 0, dataset_fields},
                                            END};

static const struct {
    const char *name;
    const struct field *fields;
} types[] = {
    [EVENT_HELLO] = {"hello", hello_fields}, [EVENT_PROGRESS] = {"progress", progress_fields},
    [EVENT_EPOCH] = {"epoch", epoch_fields}, [EVENT_CHECKPOINT] = {"checkpoint", checkpoint_fields},
    [EVENT_DONE] = {"done", done_fields},    [EVENT_ERROR] = {"error", error_fields},
};
enum { TYPES_N = sizeof types / sizeof types[0] };

static int check_object(const json_t *object, const struct field *fields, const char *where, struct err *err);

static bool int_fits(const json_t *value, const struct field *field) {
    return json_is_integer(value) && (double)json_integer_value(value) >= field->min &&
           (double)json_integer_value(value) <= field->max;
}

static bool real_fits(const json_t *value, const struct field *field) {
    return json_is_number(value) && json_number_value(value) >= field->min && json_number_value(value) <= field->max;
}

static bool text_fits(const json_t *value, const struct field *field) {
    return json_is_string(value) && (double)json_string_length(value) >= field->min &&
           (double)json_string_length(value) <= field->max;
}

typedef bool fits_fn(const json_t *value, const struct field *field);

static bool array_fits(const json_t *array, const struct field *field, fits_fn *fits) {
    size_t i;
    json_t *item;
    if (!json_is_array(array) || json_array_size(array) > LIST_MAX)
        return false;
    json_array_foreach(array, i, item) {
        if (!fits(item, field))
            return false;
    }
    return true;
}

/* Rows of equal length; or a square. */
static bool matrix_fits(const json_t *rows, const struct field *field, size_t rows_max, bool square, fits_fn *fits) {
    size_t i, columns = square ? json_array_size(rows) : json_array_size(json_array_get(rows, 0));
    json_t *row;
    if (!json_is_array(rows) || json_array_size(rows) < 1 || json_array_size(rows) > rows_max || columns < 1)
        return false;
    json_array_foreach(rows, i, row) {
        if (json_array_size(row) != columns || !array_fits(row, field, fits))
            return false;
    }
    return true;
}

static int check_objects(const json_t *array, const struct field *field, const char *where, struct err *err) {
    size_t i;
    json_t *item;
    if (!json_is_array(array) || json_array_size(array) > LIST_MAX)
        return err_set(err, ERR_PROTOCOL, "\"%s\" of %s is not a list of at most %d", field->name, where, LIST_MAX);
    json_array_foreach(array, i, item) {
        if (check_object(item, field->inner, field->name, err) != 0)
            return -1;
    }
    return 0;
}

static bool fits(const json_t *value, const struct field *field) {
    switch (field->kind) {
    case KIND_INT:
        return int_fits(value, field);
    case KIND_REAL:
        return real_fits(value, field);
    case KIND_REAL_OR_NULL:
        return json_is_null(value) || real_fits(value, field);
    case KIND_TEXT:
        return text_fits(value, field);
    case KIND_TEXT_OR_NULL:
        return json_is_null(value) || text_fits(value, field);
    case KIND_BOOL:
        return json_is_boolean(value);
    case KIND_INTS:
        return array_fits(value, field, int_fits);
    case KIND_TEXTS:
        return array_fits(value, field, text_fits);
    case KIND_CONFUSION:
        return matrix_fits(value, field, DATASET_CLASSES_MAX, true, int_fits);
    case KIND_SOFTMAX:
        return matrix_fits(value, field, EVENT_CLASSES_SOFTMAX_IMAGES, false, real_fits);
    case KIND_OBJECT:
        return json_is_object(value);
    case KIND_OBJECT_OR_NULL:
        return json_is_null(value) || json_is_object(value);
    case KIND_OBJECTS:
        return json_is_array(value);
    }
    return false;
}

static int check_field(const json_t *value, const struct field *field, const char *where, struct err *err) {
    if (value == NULL)
        return err_set(err, ERR_PROTOCOL, "%s lacks \"%s\"", where, field->name);
    if (!fits(value, field))
        return err_set(err, ERR_PROTOCOL, "\"%s\" of %s has a wrong type or is out of range", field->name, where);
    if (field->kind == KIND_OBJECTS)
        return check_objects(value, field, where, err);
    return json_is_object(value) ? check_object(value, field->inner, field->name, err) : 0;
}

static int check_object(const json_t *object, const struct field *fields, const char *where, struct err *err) {
    if (!json_is_object(object))
        return err_set(err, ERR_PROTOCOL, "%s is not an object", where);
    size_t known = 0;
    for (const struct field *field = fields; field->name != NULL; field++, known++) {
        if (check_field(json_object_get(object, field->name), field, where, err) != 0)
            return -1;
    }
    if (json_object_size(object) != known)
        return err_set(err, ERR_PROTOCOL, "%s has %zu fields, %zu are known", where, json_object_size(object), known);
    return 0;
}

/* Takes "type" and "seq" out of a line. */
static int take_envelope(json_t *line, int64_t seq, enum event_type *ret_type, struct err *err) {
    const char *name = json_string_value(json_object_get(line, "type"));
    const json_t *number = json_object_get(line, "seq");
    int type = 0;
    while (name != NULL && type < TYPES_N && strcmp(types[type].name, name) != 0)
        type++;
    if (name == NULL || type == TYPES_N)
        return err_set(err, ERR_PROTOCOL, "line %lld of the worker has no known \"type\"", (long long)seq);
    if (!json_is_integer(number) || json_integer_value(number) != seq)
        return err_set(err, ERR_PROTOCOL, "a line of the worker is missing: its \"seq\" should be %lld", (long long)seq);
    *ret_type = (enum event_type)type;
    json_object_del(line, "type");
    json_object_del(line, "seq");
    return 0;
}

static int int_of(const json_t *fields, const char *name) {
    return (int)json_integer_value(json_object_get(fields, name)); /* 0 when the type has no such field */
}

/* What an "error" line says, as our own failure. */
static int read_error(const json_t *fields, struct err *ret_said, struct err *err) {
    const char *name = json_string_value(json_object_get(fields, "code"));
    enum err_code code;
    if (err_parse(name, &code) && code != ERR_NONE) {
        err_at(ret_said, code, json_string_value(json_object_get(fields, "pointer")), "%s",
               json_string_value(json_object_get(fields, "text")));
        return 0;
    }
    return err_set(err, ERR_PROTOCOL, "the worker failed with the unknown code \"%s\"", name);
}

/* Checks that go across fields. */
static int check_whole(const struct message *message, struct err *err) {
    const json_t *test = json_object_get(message->fields, "test");
    const char *phase = json_string_value(json_object_get(message->fields, "phase"));
    const char *file = json_string_value(json_object_get(message->fields, "file"));
    if (test != NULL) {
        const json_t *softmax = json_object_get(test, "softmax");
        if (json_array_size(json_object_get(test, "labels")) != json_array_size(softmax) ||
            json_array_size(json_array_get(softmax, 0)) != json_array_size(json_object_get(test, "confusion")))
            return err_set(err, ERR_PROTOCOL, "\"labels\", \"softmax\" and \"confusion\" of an epoch do not fit together");
    }
    if (phase != NULL && strcmp(phase, "train") != 0 && strcmp(phase, "test") != 0)
        return err_set(err, ERR_PROTOCOL, "the phase of a progress line is neither train nor test");
    if (file != NULL && strchr(file, '/') != NULL)
        return err_set(err, ERR_PROTOCOL, "the file of a checkpoint lies outside the job's directory");
    return 0;
}

static int fill(json_t *line, int64_t seq, struct message *message, struct err *err) {
    if (!json_is_object(line))
        return err_set(err, ERR_PROTOCOL, "line %lld of the worker is not an object", (long long)seq);
    if (take_envelope(line, seq, &message->type, err) != 0 ||
        check_object(line, types[message->type].fields, types[message->type].name, err) != 0)
        return -1;
    json_object_del(line, "protocol");
    message->fields = line;
    message->epoch = int_of(line, "epoch");
    message->epochs = int_of(line, "epochs");
    if (message->type == EVENT_ERROR && read_error(line, &message->said, err) != 0)
        return -1;
    return check_whole(message, err);
}

int message_parse(const char *line, size_t size, int64_t seq, struct message *ret_message, struct err *err) {
    struct err why = {0};
    json_t *parsed = json_parse(line, size, &why);
    if (parsed == NULL)
        return err_set(err, ERR_PROTOCOL, "line %lld of the worker is not JSON: %.300s", (long long)seq, why.text);
    struct message message = {0};
    if (fill(parsed, seq, &message, err) != 0) {
        json_decref(parsed);
        return -1;
    }
    *ret_message = message;
    return 0;
}

void message_done(struct message *message) {
    json_decref(message->fields);
    message->fields = NULL;
}

json_t *message_parse_probe(const char *text, size_t size, struct err *err) {
    struct err why = {0};
    json_t *answer = json_parse(text, size, &why);
    if (answer == NULL) {
        err_set(err, ERR_PROTOCOL, "the probe's answer is not JSON: %.300s", why.text);
        return NULL;
    }
    if (check_object(answer, probe_fields, "the probe's answer", err) != 0) {
        json_decref(answer);
        return NULL;
    }
    return answer;
}

int message_check_inspection(const char *text, size_t size, struct err *err) {
    struct err why = {0}, said = {0};
    json_t *answer = json_parse(text, size, &why);
    if (answer == NULL)
        return err_set(err, ERR_PROTOCOL, "the answer about a network is not JSON: %.300s", why.text);
    const json_t *error = json_object_get(answer, "error");
    int rc = json_is_object(answer) ? 0 : err_set(err, ERR_PROTOCOL, "the answer about a network is not an object");
    if (rc == 0 && error != NULL)
        rc = check_object(error, error_fields, "\"error\"", err) != 0 || read_error(error, &said, err) != 0
                 ? -1
                 : err_at(err, said.code, said.pointer, "%s", said.text);
    json_decref(answer);
    return rc;
}
