/* Device profiles: the built-in ones, and those that a device has exported. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "server/graph/gpu_private.h"

/* What a profile holds: cuDNN refuses one in which a key is missing. */
enum key_kind { KEY_TEXT, KEY_NUMBER, KEY_TRIPLE };

struct key {
    const char *name;
    enum key_kind kind;
    json_int_t min; /* of a number, and of each of three */
};

static const struct key keys[] = {
    {"deviceName", KEY_TEXT, 0},
    {"deviceVer", KEY_NUMBER, 500}, /* compute capability times a hundred */
    {"driverVer", KEY_NUMBER, 0},
    {"cudaDeviceId", KEY_NUMBER, 0},
    {"totalGlobalMem", KEY_NUMBER, 1 << 20}, /* bytes */
    {"maxGridSize", KEY_TRIPLE, 1},
    {"maxBlockSize", KEY_TRIPLE, 1},
    {"regsPerBlock", KEY_NUMBER, 1},
    {"multiProcessorCount", KEY_NUMBER, 1},
    {"warpSize", KEY_NUMBER, 1},
    {"maxSharedMemoryPerBlock", KEY_NUMBER, 1},
    {"maxSharedMemoryPerBlockOptin", KEY_NUMBER, 1},
    {"reservedSharedMemoryPerBlock", KEY_NUMBER, 0},
    {"maxRegistersPerSM", KEY_NUMBER, 1},
    {"maxCtasPerSM", KEY_NUMBER, 1},
    {"maxThreadsPerBlock", KEY_NUMBER, 1},
    {"maxThreadsPerSM", KEY_NUMBER, 1},
    {"pciDeviceId", KEY_NUMBER, 0},
    {"isTccDriver", KEY_NUMBER, 0},
    {"supportCoopLaunch", KEY_NUMBER, 0},
    {"smClockRateKHz", KEY_NUMBER, 0},
    {"memClockRateKHz", KEY_NUMBER, 0},
    {"l2CacheSize", KEY_NUMBER, 0},
};

const struct gpu_profile *gpu_profiles(size_t *ret_n) {
    *ret_n = gpu_builtin_n;
    return gpu_builtin_profiles;
}

/* The index of a built-in profile, whatever the case of its name, or -1. */
static int index_of(const char *name) {
    for (size_t i = 0; i < gpu_builtin_n; i++)
        if (strcasecmp(gpu_builtin_profiles[i].name, name) == 0)
            return (int)i;
    return -1;
}

static void report_unknown(const char *name, const char *pointer, struct err *err) {
    enum { NAMES_MAX = 32 };
    const char *names[NAMES_MAX];
    char list[256] = "";
    size_t n = gpu_builtin_n < NAMES_MAX ? gpu_builtin_n : NAMES_MAX, at = 0;
    for (size_t i = 0; i < n; i++) {
        names[i] = gpu_builtin_profiles[i].name;
        if (at < sizeof list)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *near = json_nearest(name, names, n);
    char hint[80] = "";
    if (strchr(name, ',') != NULL)
        snprintf(hint, sizeof hint, "; name one GPU at a time");
    else if (near != NULL)
        snprintf(hint, sizeof hint, "; did you mean '%s'?", near);
    err_at(err, ERR_FIELD, pointer,
           "There is no GPU profile '%.40s'; known ones are %s. A GPU profile is a description of a card; your own is written by "
           "--self-check%s",
           name, list, hint);
}

const struct gpu_profile *gpu_profile_find(const char *name, const char *pointer, struct err *err) {
    int index = index_of(name);
    if (index >= 0)
        return &gpu_builtin_profiles[index];
    report_unknown(name, pointer, err);
    return NULL;
}

const char *gpu_profile_json(const char *name) {
    int index = index_of(name);
    return index < 0 ? NULL : gpu_builtin_texts[index];
}

static bool is_number(const json_t *value, json_int_t min) {
    return json_is_integer(value) && json_integer_value(value) >= min;
}

static bool is_triple(const json_t *value, json_int_t min) {
    for (size_t i = 0; i < 3; i++)
        if (!is_number(json_array_get(value, i), min))
            return false;
    return json_array_size(value) == 3;
}

static int check_key(const json_t *document, const struct key *key, struct err *err) {
    const json_t *value = json_object_get(document, key->name);
    char pointer[64];
    json_pointer(pointer, sizeof pointer, "", key->name);
    if (value == NULL)
        return err_at(err, ERR_FIELD, pointer, "A GPU's profile needs \"%s\", which is missing", key->name);
    switch (key->kind) {
    case KEY_TEXT:
        if (!json_is_string(value) || json_string_length(value) == 0)
            return err_at(err, ERR_FIELD, pointer, "\"%s\" of a GPU's profile must be a text", key->name);
        break;
    case KEY_NUMBER:
        if (!is_number(value, key->min))
            return err_at(err, ERR_FIELD, pointer, "\"%s\" of a GPU's profile must be a whole number, %jd or more", key->name,
                          (intmax_t)key->min);
        break;
    case KEY_TRIPLE:
        if (!is_triple(value, key->min))
            return err_at(err, ERR_FIELD, pointer, "\"%s\" of a GPU's profile must be three whole numbers, %jd or more",
                          key->name, (intmax_t)key->min);
        break;
    }
    return 0;
}

int gpu_profile_read(const char *name, const json_t *document, struct gpu_profile *ret_profile, struct err *err) {
    if (!json_is_object(document))
        return err_at(err, ERR_FIELD, "", "A GPU's profile must be an object");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (check_key(document, &keys[i], err) < 0)
            return -1;
    struct gpu_profile profile = {.compute = (int)(json_integer_value(json_object_get(document, "deviceVer")) / 10),
                                  .memory_bytes = json_integer_value(json_object_get(document, "totalGlobalMem"))};
    snprintf(profile.name, sizeof profile.name, "%s", name);
    snprintf(profile.device, sizeof profile.device, "%s", json_string_value(json_object_get(document, "deviceName")));
    *ret_profile = profile;
    return 0;
}
