/* What POST and PATCH /v1/datasets say of a data set. */
#ifndef API_ANNOUNCE_H
#define API_ANNOUNCE_H

#include <jansson.h>

#include "common/err.h"
#include "server/store/store.h"

struct dataset_names {
    char name[DATASET_NAME_MAX], title[81]; /* title "": the name */
};

/* Reads {"name", "title"}. */
int announce_names(const json_t *doc, struct dataset_names *ret_names, struct err_list *errors);

#endif
