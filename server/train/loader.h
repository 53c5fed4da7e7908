/* Loads a job's images on a thread of its own, while the backend compiles. */
#ifndef TRAIN_LOADER_H
#define TRAIN_LOADER_H

#include "common/err.h"
#include "common/spec.h"
#include "server/train/data.h"

struct loader;

/* Starts data_load_from(spec, imported), which must both outlive the loader. */
int loader_start(const struct spec *spec, const struct imported *imported, struct loader **ret_loader, struct err *err);

/* Waits for its result and ends the loader. */
int loader_finish(struct loader *loader, struct data *ret_data, struct err *err);

#endif
