/* The metadata of a safetensors file: an object of texts, numbers among them. */
#ifndef TRAIN_METADATA_H
#define TRAIN_METADATA_H

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

/* Adds a text made of a format. Returns -1 when out of memory. %.17g brings a double back exactly. */
int metadata_put(json_t *metadata, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A text; "" when there is none. */
const char *metadata_text(const json_t *metadata, const char *key);

/* A whole number of 0 to max, or a finite number of at least 0. ERR_DATA when it is missing or something else. */
int metadata_whole(const json_t *metadata, const char *key, int64_t max, int64_t *ret_value, struct err *err);
int metadata_real(const json_t *metadata, const char *key, double *ret_value, struct err *err);

#endif
