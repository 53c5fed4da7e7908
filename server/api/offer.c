/* Whether this server can do what a spec asks for: data set installed, device, backend and precision there, memory enough. */
#include <stdio.h>
#include <string.h>

#include "server/api/private.h"
#include "server/api/submit.h"

/* Names that were seen, for "there is A, B". */
struct names {
    char text[200];
};

static void add_name(struct names *names, const char *name) {
    size_t used = strlen(names->text), size = strlen(name);
    for (const char *at = names->text; (at = strstr(at, name)) != NULL; at += size) {
        if ((at == names->text || at[-1] == ' ') && (at[size] == ',' || at[size] == '\0'))
            return;
    }
    snprintf(names->text + used, sizeof names->text - used, "%s%s", used > 0 ? ", " : "", name);
}

struct search {
    const struct spec *spec;
    bool device_found, backend_found, precision_found;
    bool gpu_found; /* with that backend */
    struct names devices, backends, precisions;
    int64_t memory_bytes; /* the largest of a processor that has both; 0: none has */
};

/* Memory is looked at of processors here; a GPU's is a matter of room.c. */
static void look_at_backend(struct search *search, const json_t *backend, const json_t *device) {
    bool gpu = sched_device_is_gpu(device);
    int64_t memory_bytes = gpu ? 0 : json_integer_value(json_object_get(device, "memory_bytes"));
    const char *name = json_string_value(json_object_get(backend, "name"));
    const char *wanted = spec_backend_name(search->spec->backend);
    size_t i;
    json_t *precision;
    if (name == NULL)
        return;
    add_name(&search->backends, name);
    if (search->spec->backend != BACKEND_AUTO && strcmp(name, wanted) != 0)
        return;
    search->backend_found = true;
    search->gpu_found = search->gpu_found || gpu;
    json_array_foreach(json_object_get(backend, "precisions"), i, precision) {
        const char *text = json_string_value(precision);
        if (text == NULL)
            continue;
        add_name(&search->precisions, text);
        if (strcmp(text, spec_precision_name(search->spec->precision)) != 0)
            continue;
        search->precision_found = true;
        if (memory_bytes > search->memory_bytes)
            search->memory_bytes = memory_bytes;
    }
}

static bool is_wanted(const struct search *search, const json_t *device) {
    const char *id = json_string_value(json_object_get(device, "id"));
    return strcmp(search->spec->device, "auto") == 0 || (id != NULL && strcmp(search->spec->device, id) == 0);
}

static void look_at_devices(struct search *search, const json_t *devices) {
    size_t i, k;
    json_t *device, *backend;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        const char *id = json_string_value(json_object_get(device, "id"));
        add_name(&search->devices, id != NULL ? id : "");
        if (!is_wanted(search, device))
            continue;
        search->device_found = true;
        json_array_foreach(json_object_get(device, "backends"), k, backend) look_at_backend(search, backend, device);
    }
}

/* Why a backend that is installed cannot be used, as the probe said; NULL: it did not. */
static const char *why_unusable(const json_t *devices, const char *backend) {
    size_t i, k;
    json_t *device, *item;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        json_array_foreach(json_object_get(device, "unusable"), k, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name != NULL && strcmp(name, backend) == 0)
                return json_string_value(json_object_get(item, "reason"));
        }
    }
    return NULL;
}

static int refuse_backend(const struct search *search, const json_t *devices, struct err *err) {
    const char *wanted = spec_backend_name(search->spec->backend), *why = why_unusable(devices, wanted);
    return err_at(err, ERR_UNSUPPORTED, "/backend", "no device here has backend \"%s\"; there is %s%s%.300s", wanted,
                  search->backends.text[0] != '\0' ? search->backends.text : "none", why != NULL ? ". The reason: " : "",
                  why != NULL ? why : "");
}

/* The only device whose id starts with a text; NULL: none or several do. */
static const char *only_id_from(const json_t *devices, const char *start) {
    const char *found = NULL;
    size_t i;
    json_t *device;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        const char *id = json_string_value(json_object_get(device, "id"));
        if (id == NULL || strncmp(id, start, strlen(start)) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = id;
    }
    return found;
}

static bool has_gpu(const json_t *devices) {
    size_t i;
    json_t *device;
    json_array_foreach(json_object_get(devices, "items"), i, device) {
        if (sched_device_is_gpu(device))
            return true;
    }
    return false;
}

/* Who asks for "gpu" or "cuda" is told how any is had, or why there is none. */
static int refuse_device(const struct search *search, const json_t *devices, struct err *err) {
    const char *meant = only_id_from(devices, search->spec->device), *why = why_unusable(devices, "cudnn");
    char more[300] = "";
    if (meant != NULL)
        snprintf(more, sizeof more, "; did you mean \"%.80s\"?", meant);
    else if (has_gpu(devices))
        snprintf(more, sizeof more, ". Leave \"device\" out for any GPU");
    else if (why != NULL)
        snprintf(more, sizeof more, ". \"device\" left out means any GPU, but there is none: %.200s", why);
    return err_at(err, ERR_UNSUPPORTED, "/device", "there is no device \"%s\" here; there is %s%s", search->spec->device,
                  search->devices.text, more);
}

static int refuse_precision(const struct search *search, struct err *err) {
    const char *wanted = spec_precision_name(search->spec->precision), *names = search->precisions.text;
    if (search->spec->precision == PRECISION_TF32 && !search->gpu_found)
        return err_at(err, ERR_UNSUPPORTED, "/precision", "precision \"%s\" needs a GPU; here there is %s", wanted, names);
    if (search->spec->backend == BACKEND_AUTO)
        return err_at(err, ERR_UNSUPPORTED, "/precision", "no device here offers precision \"%s\"; there is %s", wanted, names);
    return err_at(err, ERR_UNSUPPORTED, "/precision", "no device here offers precision \"%s\" with backend \"%s\"; there is %s",
                  wanted, spec_backend_name(search->spec->backend), names);
}

static int check_dataset(const json_t *datasets, const struct spec *spec, struct err *err) {
    const json_t *entry = json_object_get(datasets, spec->dataset);
    const char *reason = json_string_value(json_object_get(entry, "reason"));
    if (entry == NULL || json_is_true(json_object_get(entry, "available")))
        return 0;
    return err_at(err, ERR_UNSUPPORTED, "/dataset", "data set \"%s\" is not installed here: %s", spec->dataset,
                  reason != NULL ? reason : "the probe gave no reason");
}

int offer_check_probe(const json_t *devices, const json_t *datasets, const struct spec *spec, int64_t memory_bytes,
                      struct err *err) {
    struct search search = {.spec = spec};
    const char *state = json_string_value(json_object_get(devices, "state"));
    if (check_dataset(datasets, spec, err) < 0)
        return -1;
    if (state == NULL || strcmp(state, "ready") != 0)
        return 0;
    look_at_devices(&search, devices);
    if (!search.device_found)
        return refuse_device(&search, devices, err);
    if (!search.backend_found)
        return refuse_backend(&search, devices, err);
    if (!search.precision_found)
        return refuse_precision(&search, err);
    if (!room_is_for_gpu(json_object_get(devices, "items"), spec) && search.memory_bytes > 0 &&
        memory_bytes > search.memory_bytes)
        return err_at(err, ERR_UNSUPPORTED, "/batch_size",
                      "training needs about %.2f GiB and the processor here has %.2f GiB; make batch_size or the model smaller",
                      graph_gib_up(memory_bytes), graph_gib_down(search.memory_bytes));
    return 0;
}

int offer_check(const struct sched *sched, const struct spec *spec, const struct plan *plan, struct err *err) {
    json_t *devices = sched_devices(sched);
    if (devices == NULL)
        return err_set(err, ERR_MEMORY, "cannot look at the devices: out of memory");
    int failed = offer_check_probe(devices, sched_datasets(sched), spec, plan->memory_bytes, err);
    if (failed == 0)
        failed = room_check(json_object_get(devices, "items"), spec, plan, err);
    json_decref(devices);
    return failed;
}
