/* Door of the API: HTTP by libmicrohttpd inside the daemon's loop, JSON, server-sent events, dashboard files. */
#ifndef API_API_H
#define API_API_H

#include <stdbool.h>

#include "common/err.h"
#include "common/loop.h"
#include "server/sched/sched.h"
#include "server/store/store.h"

struct api;

struct api_options {
    struct loop *loop;
    struct store *store;
    struct sched *sched;
    const char *listen;  /* "127.0.0.1:8080", "[::1]:0"; port 0: the kernel picks */
    bool allow_remote;   /* permits an address beyond loopback */
    int queue_max;       /* jobs that may wait; no more are taken */
    const char *web_dir; /* dashboard files, read once at start; NULL or missing: the API alone, said in the log */
};

/* Listens. Strings are copied. ERR_FIELD for an address that cannot be, or that is not loopback without allow_remote. */
int api_new(const struct api_options *options, struct api **ret_api, struct err *err);

/* Ends every stream and waiting request, then stops. Accepts NULL. */
void api_free(struct api *api);

/* To be called after each store_commit, with its outcome: answers the requests that wrote, wakes the streams. */
void api_committed(struct api *api, bool committed, const struct err *err);

/* Draining: /readyz answers 503, writes are refused with 503, streams end after what is already there. */
void api_drain(struct api *api);

/* "http://127.0.0.1:41234", borrowed. */
const char *api_address(const struct api *api);

#endif
