/* An incremental parser of server-sent events (WHATWG HTML, "Server-sent events", 9.2.6: interpreting an event stream). */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum { SSE_LINE_MAX = 1 << 20, SSE_DATA_MAX = 4 << 20 };

struct sse;

/* One event; everything is borrowed and valid during the call only. */
struct sse_event {
    const char *type; /* "message" when the stream named none */
    const char *data; /* ends in a NUL; a NUL inside is possible */
    size_t data_size;
    const char *id; /* the last event id, "" when there was never one */
};

/* Returns 0 to go on; any other value ends the feeding. */
typedef int sse_event_fn(void *arg, const struct sse_event *event);

/* A parser at the start of a stream, or NULL when out of memory. */
struct sse *sse_new(sse_event_fn *fn, void *arg);
void sse_free(struct sse *sse); /* accepts NULL */

/* Takes the next n bytes, however the stream was cut. Returns 0, 1 when the callback ended it, or -1: ERR_MEMORY, or ERR_PROTOCOL
 * for a line longer than SSE_LINE_MAX or an event larger than SSE_DATA_MAX. After 1 or -1 only sse_restart and sse_free may
 * follow. */
int sse_feed(struct sse *sse, const char *bytes, size_t n, struct err *err);

/* A new connection begins: an unfinished line and an unfinished event are dropped; last id and retry stay. */
void sse_restart(struct sse *sse);

/* What to send as Last-Event-ID: the id of the last finished event, "" when there is none. Borrowed until the next call. */
const char *sse_last_id(const struct sse *sse);

/* The reconnection time the stream asked for, in milliseconds; -1 when it never did. */
int64_t sse_retry_ms(const struct sse *sse);

#endif
