/* Reading and printing what jobs produced, for several commands. */
#ifndef CLIENT_RESULTS_H
#define CLIENT_RESULTS_H

#include <jansson.h>
#include <stdint.h>

#include "client/command.h"

/* Non-zero ends the walk and becomes its result. */
typedef int results_epoch_fn(void *arg, const json_t *epoch);

/* Calls fn for each finished epoch after a number, page by page. Returns 0, an exit code (printed), or what fn returned. */
int results_epochs(const struct client *client, const char *id, int64_t after, results_epoch_fn *fn, void *arg);

/* Prints one JSON value on a line. Returns 0 or an exit code. */
int results_print_json(const json_t *value);

/* The layers of a graph as a table with totals. Returns 0 or an exit code. */
int results_print_graph(const struct client *client, const json_t *graph);

/* The class names of a job's data set: a borrowed array in *ret_body (a new reference), or NULL; names are a nicety. */
const json_t *results_class_names(const struct client *client, const json_t *job, json_t **ret_body);

#endif
