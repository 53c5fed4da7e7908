/* A stream of server-sent events that survives lost connections: it comes back with Last-Event-ID, so that nothing is lost and
 * nothing is repeated. */
#ifndef CLIENT_STREAM_H
#define CLIENT_STREAM_H

#include <stdint.h>

#include "client/http.h"
#include "client/sse.h"
#include "common/err.h"

enum stream_news {
    STREAM_LOST, /* the first failure of an outage; why says what happened */
    STREAM_BACK  /* the stream flows again after an outage */
};

struct stream_options {
    const struct http *http;
    const char *path;        /* of the first connection and, with Last-Event-ID, of all later ones */
    int64_t silence_ms;      /* without a byte for so long the connection counts as lost */
    int64_t backoff_base_ms; /* until the stream's retry says otherwise */
    int64_t backoff_cap_ms;
    sse_event_fn *on_event;    /* non-zero ends the stream */
    int (*on_tick)(void *arg); /* called at least four times a second, waiting included; non-zero ends the stream; may be NULL */
    void (*on_news)(void *arg, enum stream_news news, const char *why); /* may be NULL */
    void *arg;                                                          /* of the callbacks */
};

enum { STREAM_SILENCE_MS = 45000, STREAM_BACKOFF_BASE_MS = 3000, STREAM_BACKOFF_CAP_MS = 30000 }; /* 45 s: three heartbeats */

enum stream_end {
    STREAM_DONE,        /* a callback ended it */
    STREAM_INTERRUPTED, /* interrupt_seen() */
    STREAM_REFUSED      /* the server answered something final, *ret_answer (status, type, body) */
};

/* Runs until one of the ends above. Returns -1 for ERR_MEMORY and ERR_PROTOCOL (the answer is no event stream). ret_answer is
 * filled with STREAM_REFUSED only; the caller frees it. */
int stream_run(const struct stream_options *options, enum stream_end *ret_end, struct http_response *ret_answer, struct err *err);

#endif
