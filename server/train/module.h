/* Backend modules: where they lie, which can be used here, opening one. */
#ifndef TRAIN_MODULE_H
#define TRAIN_MODULE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/spec.h"
#include "server/backend/backend.h"

/* The id of the processor as a device. Every other one is a GPU's. */
#define MODULE_CPU "cpu"

/* All backends; of those that serve a device, the first is preferred. *ret_n is their number. */
const enum spec_backend *module_order(size_t *ret_n);

/* Opens backend-NAME.so beside the program, or in ../lib/residuum/ from there. The module stays loaded for ever: threads of its
 * library may still run. ERR_UNAVAILABLE says why it cannot be used. */
int module_open(enum spec_backend backend, const struct residuum_backend **ret_api, struct err *err);

/* Opens the module that a job on a device wants, and probes it for that device; "auto" is the first of the order that works and
 * offers the precision. A GPU that was given to the job and cannot be used is ERR_DEVICE. */
int module_choose(const struct spec *spec, const char *device, const struct residuum_backend **ret_api,
                  struct backend_info *ret_info, struct err *err);

/* Ends the texts of what a module said of a device, and makes UTF-8 of them; an unnamed device is the processor. */
void module_tidy(struct backend_info *info);

/* The same of a text of size bytes. */
void module_tidy_text(char *text, size_t size);

/* --- module_probe.c --- */

/* What a module told of a device. */
struct module_report {
    struct backend_info info; /* of a device that cannot be used: devices, device_id and device, zeroed where not known */
    struct err reason;        /* why it cannot be used; ERR_NONE: it can */
    bool again;               /* it told nothing, as it crashed or did not end: another time it may */
};

/* Opens a module and probes its devices, most of them at most, in a child process, so that one that crashes or hangs is a reason
 * and not our end. One process does for all of them: loading libraries and initializing a driver may take seconds. Where it
 * crashes, another one goes on with the device after that. To be called before any thread is started. Returns how many reports
 * there are, 1 at least. */
int module_describe(enum spec_backend backend, int most, int timeout_ms, struct module_report *ret_reports);

/* The same for its device number index alone. *ret_info is as in a report. */
int module_probe(enum spec_backend backend, int index, int timeout_ms, struct backend_info *ret_info, struct err *err);

#endif
