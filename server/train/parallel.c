/* Splits work over threads: see parallel.h. */
#include "server/train/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

enum { THREADS_MAX = 8, ITEMS_MIN = 64 }; /* of a part: a thread costs some ten microseconds */

struct part {
    pthread_t thread;
    bool threaded;
    parallel_fn *fn;
    void *arg;
    int begin, end;
};

static void *work(void *arg) {
    struct part *part = arg;
    part->fn(part->arg, part->begin, part->end);
    return NULL;
}

static int parts_for(int n) {
    cpu_set_t set;
    int parts = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (parts > THREADS_MAX)
        parts = THREADS_MAX;
    if (parts > n / ITEMS_MIN)
        parts = n / ITEMS_MIN;
    return parts > 0 ? parts : 1;
}

/* The caller works on the last part; where a thread cannot be had, it does that part as well. */
void parallel_run(int n, parallel_fn *fn, void *arg) {
    struct part parts[THREADS_MAX];
    int parts_n = parts_for(n);
    for (int i = 0; i < parts_n; i++) {
        struct part *part = &parts[i];
        *part = (struct part){
            .fn = fn, .arg = arg, .begin = (int)((long long)n * i / parts_n), .end = (int)((long long)n * (i + 1) / parts_n)};
        part->threaded = i < parts_n - 1 && pthread_create(&part->thread, NULL, work, part) == 0;
        if (!part->threaded)
            work(part);
    }
    for (int i = 0; i < parts_n; i++)
        if (parts[i].threaded)
            pthread_join(parts[i].thread, NULL);
}
