/* Work on many items by the processor's threads, before training takes them. */
#ifndef TRAIN_PARALLEL_H
#define TRAIN_PARALLEL_H

/* Works on the items begin to end - 1. */
typedef void parallel_fn(void *arg, int begin, int end);

/* Calls fn for runs of at most run items of 0..n-1, each item once, several runs at the same time; returns when all is done. What
 * fn writes must depend on the item alone: how many threads there are changes nothing. */
void parallel_run(int n, int run, parallel_fn *fn, void *arg);

#endif
