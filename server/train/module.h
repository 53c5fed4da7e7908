/* Backend modules: where they lie, which can be used here, opening one. */
#ifndef TRAIN_MODULE_H
#define TRAIN_MODULE_H

#include <stddef.h>

#include "common/spec.h"
#include "server/backend/backend.h"

/* The backends in order of preference; *ret_n is their number. */
const enum spec_backend *module_order(size_t *ret_n);

/* Opens backend-NAME.so beside the program, or in ../lib/residuum/ from there. The module stays loaded for ever: threads of its
 * library may still run. ERR_UNAVAILABLE says why it cannot be used. */
int module_open(enum spec_backend backend, const struct residuum_backend **ret_api, struct err *err);

/* Opens and probes a module in a child process, so that one that crashes or hangs is a reason and not our end. To be called
 * before any thread is started. */
int module_probe(enum spec_backend backend, int timeout_ms, struct backend_info *ret_info, struct err *err);

/* Opens the module that a spec asks for and probes it; "auto" is the first of the order that works and offers the precision. */
int module_choose(const struct spec *spec, const struct residuum_backend **ret_api, struct backend_info *ret_info,
                  struct err *err);

#endif
