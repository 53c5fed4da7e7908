/* The section "model" of a job: a part of spec.c that fills a file of its own. */
#ifndef COMMON_SPEC_MODEL_H
#define COMMON_SPEC_MODEL_H

#include "common/spec.h"

/* Reads the value of "model" (NULL: absent) into *ret_model, which is zeroed. What is wrong is added to errors. *ret_model then
 * holds a reference to the list of layers, if there is one, also after errors. */
void spec_model_read(const json_t *value, struct spec_model *ret_model, struct err_list *errors);

/* Whether "model" with a preset or layers has a field of that name. */
bool spec_model_has(const char *key);

/* Where in a job a field of that name stands: see row_places_fn. In spec.c. */
void spec_places(const char *key, char *ret_places, size_t size);

/* New reference; NULL when out of memory. */
json_t *spec_model_json(const struct spec_model *model);

#endif
