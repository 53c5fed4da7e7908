/* What a short process beside training may cost. */
#ifndef TRAIN_LIMIT_H
#define TRAIN_LIMIT_H

#include <stdint.h>

/* Memory, besides what is mapped already: a sanitizer maps far more than any limit of ours. */
void limit_memory(uint64_t bytes);

/* Seconds of all processors together; then the kernel ends the process. */
void limit_processor(uint64_t seconds);

#endif
