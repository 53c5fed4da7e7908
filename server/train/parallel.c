/* Splits work over threads: see parallel.h. */
#include "server/train/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS_MAX = 8 };

struct work {
    atomic_int next; /* the first item that nobody has taken */
    int n, run;
    parallel_fn *fn;
    void *arg;
};

static void *take_runs(void *arg) {
    struct work *work = arg;
    for (int begin; (begin = atomic_fetch_add(&work->next, work->run)) < work->n;) {
        int end = begin + work->run;
        work->fn(work->arg, begin, end < work->n ? end : work->n);
    }
    return NULL;
}

static int threads_for(int runs) {
    cpu_set_t set;
    int threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    return threads < runs ? threads : runs;
}

/* The caller is one of the threads; where no other can be had, it does all the work. */
void parallel_run(int n, int run, parallel_fn *fn, void *arg) {
    struct work work = {.n = n, .run = run, .fn = fn, .arg = arg};
    pthread_t threads[THREADS_MAX];
    int started = 0, wanted = threads_for((n + run - 1) / run) - 1;
    while (started < wanted && pthread_create(&threads[started], NULL, take_runs, &work) == 0)
        started++;
    take_runs(&work);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}
