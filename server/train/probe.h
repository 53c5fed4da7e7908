/* What this machine can do: the document of `residuum-worker --probe` (common/event.h). */
#ifndef TRAIN_PROBE_H
#define TRAIN_PROBE_H

#include <jansson.h>

/* New reference; NULL when out of memory. */
json_t *probe_json(void);

#endif
