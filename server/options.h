/* The command line of residuumd. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

#include "common/err.h"

struct options {
    char data[PATH_MAX], worker[PATH_MAX], web[PATH_MAX];
    char listen[128];
    bool allow_remote;
    bool self_check, brief; /* check a device instead of serving */
    char device[64];        /* that is checked; "": the first */
    int silence_s, grace_s, probe_s, inspect_s, queue_max;
    int import_s, dataset_mib;
};

/* Fills in defaults and what the arguments say. -1 with err: wrong usage; -1 without: --help or --version was answered, exit with
 * *ret_status. */
int options_parse(int argc, char **argv, struct options *ret_options, int *ret_status, struct err *err);

#endif
