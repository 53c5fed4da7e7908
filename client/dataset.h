/* What the parts of the command dataset share. */
#ifndef CLIENT_DATASET_H
#define CLIENT_DATASET_H

#include <jansson.h>

#include "client/command.h"

/* "/v1/datasets/NAME" + rest. Returns 0, or the exit code after printing why the name cannot be one. */
int dataset_path(const char *name, const char *rest, char **ret_path);

/* Sends an archive; a command_fn. (dataset_add.c) */
command_fn dataset_add;

#endif
