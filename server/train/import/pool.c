/* A queue of batches of encoded images between one reader and several decoders: see pool.h. */
#include "server/train/import/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 8, BATCH_IMAGES = 64, BATCH_BYTES = 1 << 18, WAITING_BATCHES = 16, WAITING_BYTES = 64 << 20 };

struct batch {
    struct batch *next;
    size_t first; /* index of its first image in found */
    int n;
    size_t used, room, at[BATCH_IMAGES], size[BATCH_IMAGES];
    uint8_t bytes[];
};

struct pool {
    struct import_options options;
    struct store *store;
    pthread_t threads[THREADS_MAX];
    int threads_n;
    struct batch *filling; /* of the reader alone */
    pthread_mutex_t lock;  /* of what follows */
    pthread_cond_t more, less;
    struct batch *queue, **queue_end;
    int waiting; /* batches in the queue */
    size_t waiting_bytes;
    bool ended, failed;
    size_t failed_at; /* index of the first image that failed */
    struct err failure;
    struct found *found;
    size_t found_n, found_room;
};

/* What a thread works with. */
struct worker {
    struct decoder decoder;
    struct fitted fitted;
    struct found results[BATCH_IMAGES]; /* at: from the begin of kept, until that is stored */
    uint8_t *kept;                      /* the fitted images of a batch, to be stored by one call */
    size_t kept_used, kept_room;
};

static int keep(struct worker *worker, const struct fitted *fitted, uint64_t *ret_at, struct err *err) {
    size_t size = (size_t)fitted->channels * (size_t)fitted->height * (size_t)fitted->width;
    if (size > worker->kept_room - worker->kept_used) {
        size_t room = 2 * worker->kept_room > worker->kept_used + size ? 2 * worker->kept_room : BATCH_IMAGES * size;
        uint8_t *kept = realloc(worker->kept, room + worker->kept_used);
        if (kept == NULL)
            return err_set(err, ERR_MEMORY, "out of memory: a batch of images needs %zu bytes", room);
        worker->kept = kept;
        worker->kept_room = room + worker->kept_used;
    }
    memcpy(worker->kept + worker->kept_used, fitted->pixels, size);
    *ret_at = worker->kept_used;
    worker->kept_used += size;
    return 0;
}

static int decode(struct pool *pool, struct worker *worker, const uint8_t *bytes, size_t size, struct found *found,
                  struct err *err) {
    struct picture picture;
    if (decoder_run(&worker->decoder, bytes, size, &picture, err) != 0 ||
        picture_fit(&picture, &pool->options, &worker->fitted, err) != 0)
        return -1;
    const struct fitted *fitted = &worker->fitted;
    found->height = (uint16_t)fitted->height;
    found->width = (uint16_t)fitted->width;
    found->channels = (uint8_t)fitted->channels;
    return keep(worker, fitted, &found->at, err);
}

/* A damaged image may be passed over; memory or disk that ran out may not. */
static bool may_skip(const struct pool *pool, const struct err *err) {
    return pool->options.skip_damaged && err->code == ERR_DATA;
}

static void fail(struct pool *pool, size_t index, const struct err *err) {
    pthread_mutex_lock(&pool->lock);
    if (!pool->failed || index < pool->failed_at) {
        pool->failure = *err;
        pool->failed_at = index;
    }
    pool->failed = true;
    pthread_cond_broadcast(&pool->less);
    pthread_mutex_unlock(&pool->lock);
}

/* Decodes a batch up to the first image that fails. */
static void decode_batch(struct pool *pool, struct worker *worker, const struct batch *batch) {
    for (int i = 0; i < batch->n; i++) {
        struct err err = {0};
        struct found *found = &worker->results[i];
        *found = (struct found){0};
        if (decode(pool, worker, batch->bytes + batch->at[i], batch->size[i], found, &err) == 0)
            continue;
        if (may_skip(pool, &err) && (found->reason = strdup(err.text)) == NULL)
            err_set(&err, ERR_MEMORY, "out of memory for the list of damaged images");
        if (found->reason == NULL) {
            fail(pool, batch->first + (size_t)i, &err);
            memset(found, 0, (size_t)(batch->n - i) * sizeof *found);
            return;
        }
    }
}

static void run_batch(struct pool *pool, struct worker *worker, const struct batch *batch) {
    struct err err = {0};
    uint64_t at = 0;
    worker->kept_used = 0;
    decode_batch(pool, worker, batch);
    if (worker->kept_used == 0)
        return;
    if (store_put(pool->store, worker->kept, worker->kept_used, &at, &err) != 0)
        fail(pool, batch->first, &err);
    for (int i = 0; i < batch->n; i++)
        worker->results[i].at += at;
}

static void take_results(struct pool *pool, const struct worker *worker, const struct batch *batch) {
    for (int i = 0; i < batch->n; i++) {
        struct found *to = &pool->found[batch->first + (size_t)i];
        size_t name_at = to->name_at;
        *to = worker->results[i];
        to->name_at = name_at;
    }
}

/* The next batch, NULL when there is none any more. Called with the lock. */
static struct batch *take_batch(struct pool *pool) {
    while (pool->queue == NULL && !pool->ended)
        pthread_cond_wait(&pool->more, &pool->lock);
    struct batch *batch = pool->queue;
    if (batch == NULL)
        return NULL;
    pool->queue = batch->next;
    if (pool->queue == NULL)
        pool->queue_end = &pool->queue;
    pool->waiting--;
    pool->waiting_bytes -= batch->room;
    pthread_cond_signal(&pool->less);
    return batch;
}

static void work(struct pool *pool, struct worker *worker) {
    pthread_mutex_lock(&pool->lock);
    for (struct batch *batch; (batch = take_batch(pool)) != NULL;) {
        /* After a failure only what was handed in before it matters, so that the first failure is always the one told. */
        bool wanted = !pool->failed || batch->first < pool->failed_at;
        pthread_mutex_unlock(&pool->lock);
        memset(worker->results, 0, sizeof worker->results);
        if (wanted)
            run_batch(pool, worker, batch);
        pthread_mutex_lock(&pool->lock);
        take_results(pool, worker, batch);
        free(batch);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void *thread(void *arg) {
    struct pool *pool = arg;
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        struct err err = {0};
        err_set(&err, ERR_MEMORY, "out of memory for a decoding thread");
        fail(pool, 0, &err);
        return NULL;
    }
    worker->decoder.fitted = pool->options.height > 0;
    work(pool, worker);
    decoder_done(&worker->decoder);
    fitted_done(&worker->fitted);
    free(worker->kept);
    free(worker);
    return NULL;
}

static int threads_wanted(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < THREADS_MAX ? n : THREADS_MAX;
}

struct pool *pool_new(const struct import_options *options, struct store *store, struct err *err) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        err_set(err, ERR_MEMORY, "out of memory for decoding");
        return NULL;
    }
    pool->options = *options;
    pool->store = store;
    pool->queue_end = &pool->queue;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    pthread_cond_init(&pool->less, NULL);
    for (int wanted = threads_wanted(); pool->threads_n < wanted; pool->threads_n++)
        if (pthread_create(&pool->threads[pool->threads_n], NULL, thread, pool) != 0)
            break;
    if (pool->threads_n > 0)
        return pool;
    err_set(err, ERR_MEMORY, "cannot start a decoding thread");
    pool_free(pool);
    return NULL;
}

/* Puts the batch that is being filled into the queue. Returns -1 when decoding has failed. */
static int send(struct pool *pool) {
    struct batch *batch = pool->filling;
    pool->filling = NULL;
    pthread_mutex_lock(&pool->lock);
    while (!pool->failed && (pool->waiting >= WAITING_BATCHES || pool->waiting_bytes > WAITING_BYTES))
        pthread_cond_wait(&pool->less, &pool->lock);
    bool failed = pool->failed;
    if (!failed) {
        *pool->queue_end = batch;
        pool->queue_end = &batch->next;
        pool->waiting++;
        pool->waiting_bytes += batch->room;
        pthread_cond_signal(&pool->more);
    }
    pthread_mutex_unlock(&pool->lock);
    if (failed)
        free(batch);
    return failed ? -1 : 0;
}

static int begin_batch(struct pool *pool, size_t size, struct err *err) {
    size_t room = size > BATCH_BYTES ? size : BATCH_BYTES;
    struct batch *batch = malloc(sizeof *batch + room);
    if (batch == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for images on their way");
    batch->next = NULL;
    batch->first = pool->found_n;
    batch->n = 0;
    batch->used = 0;
    batch->room = room;
    pool->filling = batch;
    return 0;
}

/* The threads write into found, so that it moves under the lock. */
static int add_found(struct pool *pool, size_t name_at, struct err *err) {
    int rc = 0;
    pthread_mutex_lock(&pool->lock);
    if (pool->found_n == pool->found_room) {
        size_t room = pool->found_room > 0 ? 2 * pool->found_room : 1024;
        struct found *found = realloc(pool->found, room * sizeof *found);
        rc = found == NULL ? err_set(err, ERR_MEMORY, "out of memory for a list of %zu images", room) : 0;
        if (rc == 0) {
            pool->found = found;
            pool->found_room = room;
        }
    }
    if (rc == 0)
        pool->found[pool->found_n++] = (struct found){.name_at = name_at};
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

int pool_add(struct pool *pool, size_t name_at, const uint8_t *bytes, size_t size, struct err *err) {
    struct batch *batch = pool->filling;
    if (batch != NULL && (batch->n == BATCH_IMAGES || size > batch->room - batch->used) && send(pool) != 0)
        return -1;
    if (pool->filling == NULL && begin_batch(pool, size, err) != 0)
        return -1;
    if (add_found(pool, name_at, err) != 0)
        return -1;
    batch = pool->filling;
    memcpy(batch->bytes + batch->used, bytes, size);
    batch->at[batch->n] = batch->used;
    batch->size[batch->n++] = size;
    batch->used += size;
    return 0;
}

static void end_threads(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->ended = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->threads_n; i++)
        pthread_join(pool->threads[i], NULL);
    pool->threads_n = 0;
}

int pool_finish(struct pool *pool, struct found **ret_found, size_t *ret_n, size_t *ret_name_at, struct err *err) {
    if (pool->filling != NULL)
        send(pool); /* a failure is looked at below */
    end_threads(pool);
    int rc = 0;
    if (pool->failed) {
        rc = err_set(err, pool->failure.code, "%s", pool->failure.text);
        *ret_name_at = pool->failed_at < pool->found_n ? pool->found[pool->failed_at].name_at : SIZE_MAX;
    } else {
        *ret_found = pool->found;
        *ret_n = pool->found_n;
        pool->found = NULL;
        pool->found_n = 0;
    }
    pool_free(pool);
    return rc;
}

void pool_free(struct pool *pool) {
    if (pool == NULL)
        return;
    fail(pool, 0, &(struct err){0}); /* nothing that still waits is decoded */
    end_threads(pool);
    for (struct batch *batch = pool->queue, *next; batch != NULL; batch = next) {
        next = batch->next;
        free(batch);
    }
    free(pool->filling);
    found_free(pool->found, pool->found_n);
    pthread_cond_destroy(&pool->less);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void found_free(struct found *found, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(found[i].reason);
    free(found);
}
