/* Checks of what workers say: see message.h. The messages are tables of fields. */
#include "server/sched/message.h"

#include <stdbool.h>
#include <string.h>

#include "common/dataset.h"
#include "common/json.h"
#include "server/sched/consistent.h"
#include "server/sched/field.h"

static const double big = 9007199254740992.0; /* 2^53: integers are exact up to here */
static const double huge_real = 1e300;
enum { TEXT_MAX = 4096, NAME_MAX_BYTES = 255, DEVICE_ID_BYTES = 63 };
static const double coldest_c = -100, hottest_c = 1000; /* what a driver may tell of a temperature */

#define END {.name = NULL}
#define INT(field, least, greatest) {.name = field, .kind = FIELD_INT, .min = least, .max = greatest}
#define COUNT_OR_NULL(field) {.name = field, .kind = FIELD_INT, .form = FORM_OR_NULL, .max = big}
#define COUNT(field) INT(field, 0, big)
#define EPOCH(field) INT(field, 1, 1e9)
#define REAL(field, least) {.name = field, .kind = FIELD_REAL, .min = least, .max = huge_real}
#define REAL_OR_NULL(field, least) {.name = field, .kind = FIELD_REAL, .form = FORM_OR_NULL, .min = least, .max = huge_real}
#define SHARE(field) {.name = field, .kind = FIELD_REAL, .max = 1}
#define SHARE_OR_NULL(field) {.name = field, .kind = FIELD_REAL, .form = FORM_OR_NULL, .max = 1}
#define TEXT(field, least, most_bytes) {.name = field, .kind = FIELD_TEXT, .min = least, .max = most_bytes}
#define TEXT_OR_NULL(field, least, most_bytes) \
    {.name = field, .kind = FIELD_TEXT, .form = FORM_OR_NULL, .min = least, .max = most_bytes}
#define DIGEST(field) {.name = field, .kind = FIELD_DIGEST}
#define BOOL(field) {.name = field, .kind = FIELD_BOOL}
#define OBJECT(field, fields) {.name = field, .kind = FIELD_OBJECT, .inner = fields}
#define OBJECT_OR_NULL(field, fields) {.name = field, .kind = FIELD_OBJECT, .form = FORM_OR_NULL, .inner = fields}
#define OBJECTS(field, fields, count) {.name = field, .kind = FIELD_OBJECT, .form = FORM_LIST, .inner = fields, .most = count}
#define NAMES(field) {.name = field, .kind = FIELD_TEXT, .form = FORM_LIST, .min = 1, .max = NAME_MAX_BYTES}
#define SHARES(field) {.name = field, .kind = FIELD_REAL, .form = FORM_LIST, .max = 1, .most = DATASET_CLASSES_MAX}
#define LAYER_REALS(field, least, greatest) \
    {.name = field, .kind = FIELD_REAL, .form = FORM_LIST_OR_NULLS, .min = least, .max = greatest}

static const struct field resumed_fields[] = {COUNT("epoch"), COUNT("step"), END};
static const struct field initial_fields[] = {NAMES("taken"), NAMES("fresh"), END};
static const struct field hello_fields[] = {INT("protocol", EVENT_PROTOCOL, EVENT_PROTOCOL),
                                            TEXT("program", 1, 64),
                                            TEXT("backend", 1, 64),
                                            TEXT("backend_version", 0, 128),
                                            TEXT("algorithms", 0, TEXT_MAX),
                                            TEXT("device", 1, 256),
                                            TEXT("device_id", 1, DEVICE_ID_BYTES),
                                            TEXT("precision", 1, 32),
                                            INT("threads", 1, 65536),
                                            DIGEST("data_sha256"),
                                            INT("train_images", 1, big),
                                            COUNT("validation_images"),
                                            INT("test_images", 1, big),
                                            OBJECT_OR_NULL("initial", initial_fields),
                                            COUNT("parameters"),
                                            COUNT("memory_bytes"),
                                            OBJECT_OR_NULL("resumed", resumed_fields),
                                            END};
#define GPU_FIELDS                                                                                           \
    {.name = "temperature_c", .kind = FIELD_REAL, .form = FORM_OR_NULL, .min = coldest_c, .max = hottest_c}, \
        SHARE_OR_NULL("utilization"), REAL_OR_NULL("power_w", 0), COUNT_OR_NULL("memory_used_bytes")
static const struct field gpu_fields[] = {GPU_FIELDS, END};
static const struct field epoch_gpu_fields[] = {GPU_FIELDS, REAL_OR_NULL("energy_j", 0), END};
static const struct field progress_fields[] = {EPOCH("epoch"),
                                               EPOCH("epochs"),
                                               TEXT("phase", 1, 16),
                                               COUNT("step"),
                                               COUNT("steps"),
                                               REAL_OR_NULL("loss", -huge_real),
                                               REAL_OR_NULL("images_per_second", 0),
                                               REAL_OR_NULL("seconds_left", 0),
                                               OBJECT_OR_NULL("gpu", gpu_fields),
                                               END};

static const struct field train_fields[] = {REAL("loss", -huge_real), SHARE("accuracy"), END};
static const struct field validation_fields[] = {REAL("loss", -huge_real), SHARE("accuracy"), SHARE_OR_NULL("top5"), END};
static const struct field mean_fields[] = {SHARE("precision"), SHARE("recall"), SHARE("f1"), END};
static const struct field report_fields[] = {
    SHARES("precision"),
    SHARES("recall"),
    SHARES("f1"),
    {.name = "support", .kind = FIELD_INT, .form = FORM_LIST, .max = big, .most = DATASET_CLASSES_MAX},
    OBJECT("macro", mean_fields),
    OBJECT("weighted", mean_fields),
    END};
static const struct field pair_fields[] = {COUNT("true"), COUNT("predicted"), INT("count", 1, big), END};
static const struct field class_fields[] = {COUNT("class"), INT("count", 1, big), END};
static const struct field confused_fields[] = {OBJECTS("pairs", pair_fields, EVENT_CONFUSED_MAX),
                                               OBJECTS("classes", class_fields, EVENT_CONFUSED_MAX), END};
static const struct field test_fields[] = {
    REAL("loss", -huge_real),
    SHARE("accuracy"),
    SHARE_OR_NULL("top5"),
    SHARE("ece"),
    {.name = "confusion", .kind = FIELD_INT, .form = FORM_MATRIX, .max = big, .most = DATASET_CLASSES_MAX},
    OBJECT("report", report_fields),
    OBJECT("most_confused", confused_fields),
    {.name = "softmax", .kind = FIELD_REAL, .form = FORM_MATRIX, .max = 1.000001, .most = DATASET_CLASSES_MAX},
    {.name = "labels", .kind = FIELD_INT, .form = FORM_LIST, .max = big, .most = EVENT_CLASSES_SOFTMAX_IMAGES},
    END};
static const struct field weights_fields[] = {NAMES("name"), LAYER_REALS("gradient_norm", 0, huge_real),
                                              LAYER_REALS("weight_norm", 0, huge_real), LAYER_REALS("update_ratio", 0, huge_real),
                                              END};
static const struct field activations_fields[] = {NAMES("name"), LAYER_REALS("mean", -huge_real, huge_real),
                                                  LAYER_REALS("deviation", 0, huge_real), LAYER_REALS("dead", 0, 1), END};
static const struct field layers_fields[] = {OBJECT("weights", weights_fields), OBJECT("activations", activations_fields), END};
static const struct field epoch_fields[] = {EPOCH("epoch"),
                                            OBJECT("train", train_fields),
                                            OBJECT_OR_NULL("validation", validation_fields),
                                            OBJECT("test", test_fields),
                                            OBJECT("layers", layers_fields),
                                            DIGEST("weights_sha256"),
                                            DIGEST("exported_sha256"),
                                            {.name = "best", .kind = FIELD_BOOL, .form = FORM_OR_NULL},
                                            REAL("lr", 0),
                                            REAL("seconds", 0),
                                            REAL("images_per_second", 0),
                                            OBJECT_OR_NULL("gpu", epoch_gpu_fields),
                                            END};

static const struct field checkpoint_fields[] = {INT("epoch", 0, 1e9), COUNT("step"), TEXT("file", 1, NAME_MAX_BYTES),
                                                 COUNT("bytes"), END};
static const struct field done_fields[] = {EPOCH("epochs"),
                                           BOOL("stopped_early"),
                                           {.name = "best_epoch", .kind = FIELD_INT, .form = FORM_OR_NULL, .min = 1, .max = 1e9},
                                           END};
static const struct field error_fields[] = {TEXT("code", 1, 31), TEXT("text", 1, TEXT_MAX), TEXT("pointer", 0, 256), END};

static const struct field backend_fields[] = {TEXT("name", 1, 64),
                                              TEXT("version", 0, 128),
                                              {.name = "precisions", .kind = FIELD_TEXT, .form = FORM_LIST, .min = 1, .max = 32},
                                              END};
static const struct field unusable_fields[] = {TEXT("name", 1, 64), TEXT("reason", 0, 2048), END};
static const struct field device_fields[] = {TEXT("id", 1, DEVICE_ID_BYTES),
                                             TEXT("name", 0, 256),
                                             INT("threads", 1, 65536),
                                             COUNT("memory_bytes"),
                                             COUNT_OR_NULL("memory_free_bytes"),
                                             TEXT_OR_NULL("compute", 3, 7),
                                             TEXT_OR_NULL("driver", 1, 64),
                                             OBJECT_OR_NULL("profile", NULL),
                                             TEXT_OR_NULL("note", 1, 256),
                                             OBJECTS("backends", backend_fields, 0),
                                             OBJECTS("unusable", unusable_fields, 0),
                                             END};
static const struct field dataset_fields[] = {TEXT("name", 1, 64), BOOL("available"), TEXT_OR_NULL("reason", 0, 2048), END};
static const struct field probe_fields[] = {INT("protocol", EVENT_PROTOCOL, EVENT_PROTOCOL), BOOL("complete"),
                                            OBJECTS("devices", device_fields, EVENT_DEVICES_MAX),
                                            OBJECTS("datasets", dataset_fields, 0), END};

static const struct {
    const char *name;
    const struct field *fields;
} types[] = {
    [EVENT_HELLO] = {"hello", hello_fields}, [EVENT_PROGRESS] = {"progress", progress_fields},
    [EVENT_EPOCH] = {"epoch", epoch_fields}, [EVENT_CHECKPOINT] = {"checkpoint", checkpoint_fields},
    [EVENT_DONE] = {"done", done_fields},    [EVENT_ERROR] = {"error", error_fields},
};
enum { TYPES_N = sizeof types / sizeof types[0] };

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
    for (int code = ERR_NONE + 1; code <= ERR_FULL; code++) {
        if (strcmp(err_name((enum err_code)code), name) != 0)
            continue;
        err_at(ret_said, (enum err_code)code, json_string_value(json_object_get(fields, "pointer")), "%s",
               json_string_value(json_object_get(fields, "text")));
        return 0;
    }
    return err_set(err, ERR_PROTOCOL, "the worker failed with the unknown code \"%s\"", name);
}

/* Checks that go across fields. */
static int check_whole(const struct message *message, struct err *err) {
    const char *phase = json_string_value(json_object_get(message->fields, "phase"));
    const char *file = json_string_value(json_object_get(message->fields, "file"));
    if (message->type == EVENT_EPOCH)
        return epoch_consistent(message->fields, err);
    if (message->type == EVENT_DONE && message->best_epoch > message->epochs)
        return err_set(err, ERR_PROTOCOL, "the best epoch is %d of %d trained ones", message->best_epoch, message->epochs);
    if (message->type == EVENT_DONE && message->stopped_early && message->best_epoch == 0)
        return err_set(err, ERR_PROTOCOL, "the worker stopped early without a best epoch");
    if (phase != NULL && strcmp(phase, "train") != 0 && strcmp(phase, "validation") != 0 && strcmp(phase, "test") != 0)
        return err_set(err, ERR_PROTOCOL, "the phase of a progress line is neither train nor validation nor test");
    if (file != NULL && strchr(file, '/') != NULL)
        return err_set(err, ERR_PROTOCOL, "the file of a checkpoint lies outside the job's directory");
    return 0;
}

static int fill(json_t *line, int64_t seq, struct message *message, struct err *err) {
    if (!json_is_object(line))
        return err_set(err, ERR_PROTOCOL, "line %lld of the worker is not an object", (long long)seq);
    if (take_envelope(line, seq, &message->type, err) != 0 ||
        field_check(line, types[message->type].fields, types[message->type].name, err) != 0)
        return -1;
    json_object_del(line, "protocol");
    message->fields = line;
    message->epoch = int_of(line, "epoch");
    message->epochs = int_of(line, "epochs");
    message->best_epoch = int_of(line, "best_epoch");
    message->stopped_early = json_is_true(json_object_get(line, "stopped_early"));
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

/* An id names a file of the data directory and stands in URLs. */
static bool is_device_id(const char *id) {
    return id[0] != '.' && strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:") == strlen(id);
}

static int check_devices(const json_t *devices, struct err *err) {
    size_t i, k;
    json_t *device, *other;
    json_array_foreach(devices, i, device) {
        const char *id = json_string_value(json_object_get(device, "id"));
        if (!is_device_id(id))
            return err_set(err, ERR_PROTOCOL, "the probe's answer has a device with the impossible id \"%s\"", id);
        json_array_foreach(devices, k, other) {
            if (k < i && json_equal(json_object_get(other, "id"), json_object_get(device, "id")))
                return err_set(err, ERR_PROTOCOL, "the probe's answer has two devices with the id \"%s\"", id);
        }
    }
    return 0;
}

json_t *message_parse_probe(const char *text, size_t size, struct err *err) {
    struct err why = {0};
    json_t *answer = json_parse(text, size, &why);
    if (answer == NULL) {
        err_set(err, ERR_PROTOCOL, "the probe's answer is not JSON: %.300s", why.text);
        return NULL;
    }
    if (field_check(answer, probe_fields, "the probe's answer", err) != 0 ||
        check_devices(json_object_get(answer, "devices"), err) != 0) {
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
        rc = field_check(error, error_fields, "\"error\"", err) != 0 || read_error(error, &said, err) != 0
                 ? -1
                 : err_at(err, said.code, said.pointer, "%s", said.text);
    json_decref(answer);
    return rc;
}
