/* Whether a GPU's memory is large enough for a job, what the job would need there, and what to do when none is. A job may use all
 * of the memory: what was free when the probe looked is told, but counts for nothing, since whoever had the rest, perhaps a
 * worker that was about to end, may have given it back. A worker that finds too little is tried again later. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"
#include "server/api/submit.h"
#include "server/graph/gpu.h"

static struct gpu_job job_of(const struct spec *spec, const struct plan *plan) {
    return (struct gpu_job){.graph = plan->graph, .spec = spec, .images = plan->all_images, .image = plan->image};
}

/* "9.0" as 90; of what is no such number 0, which offers least. */
static int compute_of(const json_t *device) {
    const char *text = json_string_value(json_object_get(device, "compute"));
    char *dot = NULL;
    long major = text != NULL ? strtol(text, &dot, 10) : 0;
    return dot != NULL && *dot == '.' && major > 0 && major < 1000 ? (int)major * 10 + atoi(dot + 1) % 10 : 0;
}

/* What the probe told of a device. */
static struct gpu_profile profile_of(const json_t *device) {
    struct gpu_profile profile = {.compute = compute_of(device),
                                  .memory_bytes = json_integer_value(json_object_get(device, "memory_bytes"))};
    snprintf(profile.name, sizeof profile.name, "%s", json_string_value(json_object_get(device, "id")));
    snprintf(profile.device, sizeof profile.device, "%s", json_string_value(json_object_get(device, "name")));
    return profile;
}

/* How much of its memory was free when the probe looked. */
static int64_t free_bytes_of(const json_t *device) {
    const json_t *free_bytes = json_object_get(device, "memory_free_bytes");
    return json_integer_value(json_is_integer(free_bytes) ? free_bytes : json_object_get(device, "memory_bytes"));
}

static struct sched_wish wish_of(const struct spec *spec) {
    return (struct sched_wish){
        .device = spec->device, .backend = spec_backend_name(spec->backend), .precision = spec_precision_name(spec->precision)};
}

/* --- the devices of this server --- */

/* The first device of a kind that offers what is wished for; NULL: none does. */
static const json_t *first_offer(const json_t *devices, const struct sched_wish *wish, bool gpu) {
    const json_t *device;
    size_t i;
    json_array_foreach(devices, i, device) {
        if (sched_device_is_gpu(device) == gpu && sched_device_offers(device, wish))
            return device;
    }
    return NULL;
}

bool room_is_for_gpu(const json_t *devices, const struct spec *spec) {
    struct sched_wish wish = wish_of(spec);
    return sched_prefers_gpu(devices, &wish) ||
           (first_offer(devices, &wish, true) != NULL && first_offer(devices, &wish, false) == NULL);
}

static int check_one(const json_t *device, const struct spec *spec, const struct plan *plan, struct err *err) {
    struct gpu_job job = job_of(spec, plan);
    struct gpu_profile profile = profile_of(device);
    struct gpu_need need;
    return gpu_need_check(&job, &profile, profile.memory_bytes, &need, err);
}

/* How a job that left the choice to us could be trained all the same. */
static void add_way_out(const json_t *devices, const struct sched_wish *wish, int64_t memory_bytes, struct err *err) {
    const json_t *processor = first_offer(devices, wish, false);
    size_t used = strlen(err->text);
    if (processor != NULL && memory_bytes <= json_integer_value(json_object_get(processor, "memory_bytes")))
        snprintf(err->text + used, sizeof err->text - used, ". Or train it on the processor: \"device\": \"%s\"",
                 json_string_value(json_object_get(processor, "id")));
}

/* The first GPU with room for a job that is for one. NULL: none has, and why the largest has not. */
static const json_t *find_room(const json_t *devices, const struct spec *spec, const struct plan *plan, struct err *ret_why) {
    struct sched_wish wish = wish_of(spec);
    bool waiting = !sched_prefers_gpu(devices, &wish); /* for drained ones only */
    int64_t best_bytes = -1;
    const json_t *device;
    size_t i;
    json_array_foreach(devices, i, device) {
        struct err why = {0};
        int64_t bytes = json_integer_value(json_object_get(device, "memory_bytes"));
        if (!sched_device_is_gpu(device) || !sched_device_offers(device, &wish) || sched_device_is_drained(device) != waiting)
            continue;
        if (check_one(device, spec, plan, &why) == 0)
            return device;
        if (bytes > best_bytes || why.code != ERR_UNSUPPORTED)
            *ret_why = why;
        best_bytes = bytes > best_bytes ? bytes : best_bytes;
    }
    return NULL;
}

int room_check(const json_t *devices, const struct spec *spec, const struct plan *plan, struct err *err) {
    struct sched_wish wish = wish_of(spec);
    struct err best = {0};
    if (!room_is_for_gpu(devices, spec) || find_room(devices, spec, plan, &best) != NULL)
        return 0;
    if (best.code == ERR_UNSUPPORTED)
        add_way_out(devices, &wish, plan->memory_bytes, &best);
    return err_at(err, best.code, best.pointer, "%s", best.text);
}

bool room_for_job(void *api, const struct job *job, const json_t *device) {
    struct spec spec;
    struct plan plan;
    struct err why = {0};
    if (plan_of_text(api, job, job->spec, &spec, &plan, &why) < 0)
        return true; /* its worker will say what is wrong */
    bool fits = check_one(device, &spec, &plan, &why) == 0;
    plan_done(&plan);
    spec_done(&spec);
    return fits;
}

/* --- any GPU --- */

static const json_t *find_device(const json_t *devices, const char *id) {
    const json_t *device;
    size_t i;
    json_array_foreach(devices, i, device) {
        if (sched_device_is_gpu(device) && strcmp(json_string_value(json_object_get(device, "id")), id) == 0)
            return device;
    }
    return NULL;
}

static int find_profile(const json_t *devices, const char *name, struct gpu_profile *ret_profile, int64_t *ret_free_bytes,
                        struct err *err) {
    const json_t *device = find_device(devices, name);
    const struct gpu_profile *known = device == NULL ? gpu_profile_find(name, "?gpu", err) : NULL;
    if (device == NULL && known == NULL)
        return -1;
    if (device != NULL) {
        *ret_profile = profile_of(device);
        *ret_free_bytes = free_bytes_of(device);
        return 0;
    }
    *ret_profile = *known;
    *ret_free_bytes = known->memory_bytes;
    return 0;
}

static json_t *answer_json_of(const char *name, const struct gpu_profile *profile, const struct gpu_need *need,
                              int64_t free_bytes, int largest_batch) {
    char compute[16];
    snprintf(compute, sizeof compute, "%d.%d", profile->compute / 10, profile->compute % 10);
    return json_pack("{s:s, s:s, s:s, s:b, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:I, s:I, s:i}", "name", name, "device",
                     profile->device, "compute", compute, "fits", (int)(need->total_bytes <= profile->memory_bytes), "need",
                     "train_bytes", (json_int_t)need->train_bytes, "evaluate_bytes", (json_int_t)need->evaluate_bytes,
                     "data_bytes", (json_int_t)need->data_bytes, "workspace_bytes", (json_int_t)need->workspace_bytes,
                     "context_bytes", (json_int_t)need->context_bytes, "total_bytes", (json_int_t)need->total_bytes,
                     "memory_bytes", (json_int_t)profile->memory_bytes, "free_bytes", (json_int_t)free_bytes, "largest_batch",
                     largest_batch);
}

/* Too little memory is an answer here, not a failure. */
static int need_of(const struct gpu_job *job, const struct gpu_profile *profile, struct gpu_need *ret_need, struct err *err) {
    struct err why = {0};
    if (gpu_need_check(job, profile, profile->memory_bytes, ret_need, &why) == 0)
        return 0;
    if (why.code == ERR_UNSUPPORTED && strcmp(why.pointer, "/precision") != 0)
        return gpu_need(job, profile->memory_bytes, ret_need, err);
    return err_at(err, why.code, why.pointer, "%s", why.text);
}

int room_answer(const json_t *devices, const char *name, const struct spec *spec, const struct plan *plan, json_t **ret_answer,
                struct err *err) {
    struct gpu_job job = job_of(spec, plan);
    struct gpu_profile profile;
    struct gpu_need need;
    int64_t free_bytes;
    if (spec->backend != BACKEND_AUTO && spec->backend != BACKEND_CUDNN)
        return err_at(err, ERR_UNSUPPORTED, "/backend", "backend \"%s\" does not compute on a GPU; use \"auto\" or \"cudnn\"",
                      spec_backend_name(spec->backend));
    if (strcmp(spec->device, "auto") != 0 && strcmp(spec->device, name) != 0)
        return err_at(err, ERR_UNSUPPORTED, "/device",
                      "the job is for device \"%s\", not for the GPU \"%.40s\"; leave \"device\" out to plan for any",
                      spec->device, name);
    if (find_profile(devices, name, &profile, &free_bytes, err) < 0 || need_of(&job, &profile, &need, err) < 0)
        return -1;
    int largest = gpu_largest_batch(&job, profile.memory_bytes, profile.memory_bytes);
    *ret_answer = largest >= 0 ? answer_json_of(name, &profile, &need, free_bytes, largest) : NULL;
    return *ret_answer != NULL ? 0 : err_set(err, ERR_MEMORY, "cannot plan for a GPU: out of memory");
}

const char *room_gpu(const json_t *devices, const struct spec *spec, const struct plan *plan) {
    struct err why = {0};
    const json_t *device = room_is_for_gpu(devices, spec) ? find_room(devices, spec, plan, &why) : NULL;
    return json_string_value(json_object_get(device, "id"));
}
