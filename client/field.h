/* Fields of a server's JSON, with a harmless value where the server says something else than expected. */
#ifndef CLIENT_FIELD_H
#define CLIENT_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* path is a name, or names with dots: "spec.model.preset". value may be NULL. All results are borrowed. */
const json_t *field_at(const json_t *value, const char *path); /* NULL when there is none */
const char *field_text(const json_t *value, const char *path); /* "" for anything but a string */
int64_t field_int(const json_t *value, const char *path);      /* 0 for anything but a number; reals are cut */
double field_real(const json_t *value, const char *path);      /* NAN for anything but a number */
bool field_true(const json_t *value, const char *path);

#endif
