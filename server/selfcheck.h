/* residuumd --self-check: the worker's self-check with this installation's data directory. */
#ifndef SERVER_SELFCHECK_H
#define SERVER_SELFCHECK_H

#include "common/err.h"
#include "server/options.h"

/* Becomes the worker, which checks the device and writes its record where the daemon reads it. Returns only when that fails: -1.
 */
int selfcheck_exec(const struct options *options, struct err *err);

#endif
