/* Streams: queues whose operations are done as late as possible, and in any order that streams and events allow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/double/double.h"

/* --- operations --- */

struct op op_new(const char *name, void (*run)(const struct op *op)) {
    struct op op = {.run = run};
    snprintf(op.name, sizeof op.name, "%s", name);
    return op;
}

void op_access(struct op *op, uint64_t at, size_t bytes, bool reads, bool writes, const char *what) {
    if (at == 0 || bytes == 0)
        return;
    if (op->accesses_n == ACCESSES_MAX)
        violation("%s touches more than %d parts of memory", op->name, ACCESSES_MAX);
    op->accesses[op->accesses_n++] = (struct access){.at = at, .bytes = bytes, .reads = reads, .writes = writes, .what = what};
}

void op_check(const struct op *op) {
    for (int i = 0; i < op->accesses_n; i++) {
        const struct access *access = &op->accesses[i];
        char what[160];
        snprintf(what, sizeof what, "%s, %s", op->name, access->what);
        if (!pinned_has((const void *)(uintptr_t)access->at, access->bytes, what))
            memory_check(access->at, access->bytes, what);
    }
}

bool access_overlap(const struct access *a, const struct access *b) {
    return a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

/* Whether a part is written as a whole, and nothing else of the operation touches it. */
static bool exclusive(const struct op *op, int part) {
    const struct access *access = &op->accesses[part];
    bool alone = access->element > 0 && !access->reads && memory_is_device(access->at);
    for (int i = 0; i < op->accesses_n && alone; i++)
        alone = i == part || !access_overlap(access, &op->accesses[i]);
    return alone;
}

void op_poison(const struct op *op) {
    for (int i = 0; i < op->accesses_n; i++)
        if (exclusive(op, i))
            memory_poison(memory_shadow(op->accesses[i].at), op->accesses[i].bytes);
}

void op_check_written(const struct op *op) {
    static const unsigned char poison[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    for (int i = 0; i < op->accesses_n; i++) {
        const struct access *access = &op->accesses[i];
        const unsigned char *at = memory_shadow(access->at);
        size_t bytes = exclusive(op, i) ? access->bytes : 0;
        for (size_t b = 0; b < bytes; b += access->element)
            if (memcmp(at + b, poison, access->element) == 0)
                violation("%s did not write element %zu of %zu of %s", op->name, b / access->element,
                          access->bytes / access->element, access->what);
    }
}

/* The host must not write what a queued copy reads, nor find anything yet where one will write. */
static void arm(const struct op *op, bool begin) {
    for (int i = 0; i < op->accesses_n; i++) {
        const struct access *access = &op->accesses[i];
        if (memory_is_device(access->at))
            continue;
        if (access->writes && begin)
            memory_poison((void *)(uintptr_t)access->at, access->bytes);
        if (access->reads && begin)
            pinned_protect((const void *)(uintptr_t)access->at);
        else if (access->reads)
            pinned_unprotect((const void *)(uintptr_t)access->at);
    }
}

/* --- what comes before what --- */

void clock_merge(struct clock *clock, const struct clock *other) {
    for (int i = 0; i < STREAMS_MAX; i++)
        if (other->at[i] > clock->at[i])
            clock->at[i] = other->at[i];
}

void race_check(const struct op *op, const struct op *list) {
    for (const struct op *other = list; other != NULL; other = other->next) {
        int slot = other->stream->slot;
        if (op->clock.at[slot] >= other->clock.at[slot])
            continue;
        for (int i = 0; i < op->accesses_n; i++)
            for (int k = 0; k < other->accesses_n; k++)
                if (access_overlap(&op->accesses[i], &other->accesses[k]) &&
                    (op->accesses[i].writes || other->accesses[k].writes))
                    violation("race: %s (%s) and %s (%s) touch the same memory in two streams, and no event orders them",
                              op->name, op->accesses[i].what, other->name, other->accesses[k].what);
    }
}

/* --- doing them --- */

static void run_head(CUstream stream) {
    struct op *op = stream->head;
    stream->head = op->next;
    if (stream->head == NULL)
        stream->tail = NULL;
    fault_operation();
    if (state()->fault.sticky == CUDA_SUCCESS) {
        op_check(op);
        op->run(op);
    }
    arm(op, false);
    state()->done.at[stream->slot] = op->clock.at[stream->slot];
    op->next = state()->recent;
    state()->recent = op;
}

static bool ready(const struct op *op) {
    for (int i = 0; i < STREAMS_MAX; i++)
        if (i != op->stream->slot && state()->done.at[i] < op->clock.at[i])
            return false;
    return true;
}

/* Marsaglia's xorshift (2003): an order that a seed repeats. */
static unsigned draw(unsigned n) {
    state()->random ^= state()->random << 13;
    state()->random ^= state()->random >> 7;
    state()->random ^= state()->random << 17;
    return (unsigned)(state()->random % n);
}

/* One of the streams whose next operation is asked for and may be done; NULL: nothing is left. */
static CUstream choose(const struct clock *target) {
    CUstream found[STREAMS_MAX];
    unsigned n = 0;
    bool left = false;
    for (int i = 0; i < STREAMS_MAX; i++) {
        CUstream stream = state()->streams[i];
        if (stream == NULL || stream->head == NULL || stream->head->clock.at[i] > target->at[i])
            continue;
        left = true;
        if (ready(stream->head))
            found[n++] = stream;
    }
    if (n == 0 && left)
        violation("the streams wait for each other");
    return n > 0 ? found[state()->options.seed != 0 ? draw(n) : 0] : NULL;
}

/* Forgets what has been done and the host knows of. */
static void retire(void) {
    for (struct op **link = &state()->recent; *link != NULL;) {
        struct op *op = *link;
        int slot = op->stream->slot;
        if (op->clock.at[slot] <= state()->host.at[slot]) {
            *link = op->next;
            free(op);
        } else {
            link = &op->next;
        }
    }
}

CUresult stream_run(const struct clock *target) {
    for (CUstream stream = choose(target); stream != NULL; stream = choose(target))
        run_head(stream);
    clock_merge(&state()->host, target);
    retire();
    return state()->fault.sticky;
}

CUresult stream_run_all(void) {
    struct clock target = state()->numbers;
    return stream_run(&target);
}

/* --- queueing --- */

CUresult op_submit(const struct op *op, CUstream stream) {
    op_check(op);
    if (stream->capture != NULL)
        return capture_add(stream->capture, op, stream);
    struct op *copy = must_allocate(sizeof *copy);
    *copy = *op;
    copy->next = NULL;
    copy->stream = stream;
    clock_merge(&stream->clock, &state()->host);
    stream->clock.at[stream->slot] = ++state()->numbers.at[stream->slot];
    copy->clock = stream->clock;
    race_check(copy, state()->recent);
    for (int i = 0; i < STREAMS_MAX; i++)
        if (state()->streams[i] != NULL)
            race_check(copy, state()->streams[i]->head);
    arm(copy, true);
    *(stream->tail != NULL ? &stream->tail->next : &stream->head) = copy;
    stream->tail = copy;
    return CUDA_SUCCESS;
}

/* --- the table's functions --- */

static CUresult create(CUstream *ret_stream, unsigned int flags) {
    CUresult result = call_begin("cuStreamCreate", CALL_PLAIN);
    if (result != CUDA_SUCCESS)
        return call_end("cuStreamCreate", result);
    if (flags != CU_STREAM_NON_BLOCKING)
        violation("cuStreamCreate: a stream that waits for the default stream; CU_STREAM_NON_BLOCKING is wanted");
    int slot = 0;
    while (slot < STREAMS_MAX && state()->streams[slot] != NULL)
        slot++;
    if (slot == STREAMS_MAX)
        violation("more than %d streams", STREAMS_MAX);
    CUstream stream = object_new(OBJECT_STREAM, sizeof *stream);
    stream->slot = slot;
    state()->streams[slot] = stream;
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

static CUresult destroy(CUstream stream) {
    CUresult result = call_begin("cuStreamDestroy", CALL_CLEANUP);
    object_destroy(stream, OBJECT_STREAM, "cuStreamDestroy");
    if (stream->capture != NULL)
        violation("cuStreamDestroy: the stream is being captured");
    stream_run(&stream->clock);
    state()->streams[stream->slot] = NULL;
    return result;
}

static CUresult synchronize(CUstream stream) {
    CUresult result = call_begin("cuStreamSynchronize", CALL_SYNC);
    object_check(stream, OBJECT_STREAM, "cuStreamSynchronize");
    if (result == CUDA_SUCCESS)
        result = stream_run(&stream->clock);
    return call_end("cuStreamSynchronize", result);
}

void stream_fill(struct gpu_driver *driver) {
    driver->cuStreamCreate = create;
    driver->cuStreamDestroy = destroy;
    driver->cuStreamSynchronize = synchronize;
}
