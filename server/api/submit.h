/* What submitting a job has in common with showing its graph: a spec's plan, and whether this server can do it. */
#ifndef API_SUBMIT_H
#define API_SUBMIT_H

#include "common/spec.h"
#include "server/graph/graph.h"
#include "server/sched/sched.h"

struct api;
struct request;

/* --- submit.c --- */

struct plan {
    struct graph *graph;
    int images; /* training images used */
    int steps_per_epoch;
    int64_t memory_bytes;
    struct graph_shape image; /* padded */
    int64_t all_images;       /* training, validation and test */
};

/* Expands the model of a spec for its data set, which the context finds. Errors point into the spec. */
int plan_make(const struct spec *spec, const struct spec_context *context, struct plan *ret_plan, struct err *err);
void plan_done(struct plan *plan);

/* A spec (text) of a job's, as it is stored or much the same, and its plan; both are the caller's to end. It was checked when it
 * was queued: what fails now is our fault. A job of a larger machine keeps its threads. */
int plan_of_text(struct api *api, const struct job *job, const char *text, struct spec *ret_spec, struct plan *ret_plan,
                 struct err *err);

/* --- card.c: the data set that a spec names --- */

/* A search is for one data set. */
struct card_search {
    struct api *api;
    const char *job_dataset;       /* the one of a job ("": a built-in one), whatever name it has now; NULL: by the spec's name */
    char found[JOB_ID_MAX];        /* the imported one that was found; "": none */
    struct dataset_import *import; /* its card */
    struct err why;                /* why one of that name cannot be used */
};

/* The search must outlive the context. */
struct spec_context card_context(struct card_search *search, int threads_default, int threads_max);

/* Says in a list of errors why the data set cannot be used, where that is known. */
void card_explain(const struct card_search *search, struct err_list *errors);
void card_search_done(struct card_search *search);

/* --- layers.c --- */

/* The graph as a "model" of layers. New reference; NULL when out of memory. */
json_t *layers_document(const struct graph *graph);

/* --- from.c --- */

/* Whether what the spec's "from" wants is there and may be seen; fills in the epoch where its last one is wanted. dataset: the id
 * of the imported one that the spec names; "". */
int from_check(struct api *api, struct spec *spec, const char *dataset, struct err *err);

/* The files that a spec with "from" starts with. Borrows from the spec. */
int from_initial(struct api *api, const struct spec *spec, struct sched_initial *ret_initial, struct err *err);

/* --- queue.c --- */

struct queue_entry {
    struct job_new new;
    const struct sched_initial *initial; /* NULL: none */
    const char *key, *digest;            /* the Idempotency-Key and the body's SHA-256; NULL: none */
};

/* Queues a job and answers 202. ERR_LIMIT when too many wait already. */
int queue_job(struct request *request, const struct queue_entry *entry, struct err *err);

/* --- offer.c --- */

/* ERR_UNSUPPORTED when the probe has answered and no device has the data set, device, backend, precision or memory; says what
 * there is. */
int offer_check(const struct sched *sched, const struct spec *spec, const struct plan *plan, struct err *err);

/* The same on what the probe said, without the memory of GPUs: devices as sched_devices, datasets as sched_datasets (NULL: not
 * known yet). */
int offer_check_probe(const json_t *devices, const json_t *datasets, const struct spec *spec, int64_t memory_bytes,
                      struct err *err);

/* --- room.c: the memory of GPUs; devices are the items of sched_devices --- */

/* Whether a job would go to a GPU: one that is not drained offers what it wants, or a drained one does and nothing else. */
bool room_is_for_gpu(const json_t *devices, const struct spec *spec);

/* ERR_UNSUPPORTED when a job is for a GPU and none has room for it: the need, what is free, the largest batch, and how it would
 * go to the processor if that offers what it wants and has the memory. */
int room_check(const json_t *devices, const struct spec *spec, const struct plan *plan, struct err *err);

/* For sched_ask_room. */
bool room_for_job(void *api, const struct job *job, const json_t *device);

/* What a job would need on a GPU: one of devices by its id, or a built-in profile by its name. ERR_FIELD when there is none, with
 * the nearest name; ERR_UNSUPPORTED when it computes in another precision, or the job is for another device. *ret_answer, as
 * openapi.yaml shows GpuPlan, is a new reference. */
int room_answer(const json_t *devices, const char *name, const struct spec *spec, const struct plan *plan, json_t **ret_answer,
                struct err *err);

/* The id of the first GPU with room for a job that would go to one; NULL for others. Borrowed. */
const char *room_gpu(const json_t *devices, const struct spec *spec, const struct plan *plan);

#endif
