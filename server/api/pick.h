/* Parts of a JSON document by their paths: "train,test.accuracy". */
#ifndef API_PICK_H
#define API_PICK_H

#include <jansson.h>

#include "common/err.h"

enum { PICK_MAX = 16, PICK_PATH_MAX = 64 };

struct pick {
    int n;
    char paths[PICK_MAX][PICK_PATH_MAX];
};

/* Reads a list of paths, separated by commas. ERR_FIELD at "?fields". */
int pick_parse(const char *text, struct pick *ret_pick, struct err *err);

/* An object with the parts of an object that are there, each at its place. Parts are shared. New reference; NULL when out of
 * memory. */
json_t *pick_from(const struct pick *pick, const json_t *object);

#endif
