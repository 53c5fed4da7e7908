/* Deadlines of connections. libmicrohttpd's timeout is for inactivity: one header byte a second keeps a connection alive for ever
 * (slowloris), so headers must be complete in HEADER_DEADLINE_MS and bodies come at 1 KiB/s. */
#include <stdlib.h>
#include <sys/socket.h>

#include "server/api/private.h"

enum { REAP_MS = 1000 };

static struct connection *connection_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void started(struct api *api, struct MHD_Connection *connection, void **context) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct connection *state = calloc(1, sizeof *state);
    *context = state;
    if (state == NULL || info == NULL)
        return;
    *state = (struct connection){.api = api, .next = api->connections, .fd = info->connect_fd};
    state->deadline_ms = clock_ms() + HEADER_DEADLINE_MS;
    if (api->connections != NULL)
        api->connections->prev = state;
    else
        loop_timer_arm(api->reap_timer, REAP_MS);
    api->connections = state;
}

/* libmicrohttpd says this before it closes the socket, so a descriptor in the list is never another connection's. */
static void closed(struct api *api, struct connection *state) {
    if (state == NULL)
        return;
    if (state->prev != NULL)
        state->prev->next = state->next;
    else if (api->connections == state)
        api->connections = state->next;
    if (state->next != NULL)
        state->next->prev = state->prev;
    free(state);
}

void connection_notify(void *api, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        started(api, connection, context);
        return;
    }
    closed(api, *context);
    *context = NULL;
}

/* Cuts what is too late; libmicrohttpd sees the end of file and cleans up. */
void connection_reap(void *arg) {
    struct api *api = arg;
    int64_t now = clock_ms();
    for (struct connection *state = api->connections; state != NULL; state = state->next) {
        if (state->deadline_ms == 0 || now < state->deadline_ms)
            continue;
        if (state->in_body && state->window_bytes >= BODY_WINDOW_BYTES) {
            state->window_bytes = 0;
            state->deadline_ms = now + BODY_WINDOW_MS;
            continue;
        }
        state->deadline_ms = 0;
        api->metrics.reaped++;
        shutdown(state->fd, SHUT_RDWR);
    }
    if (api->connections != NULL)
        loop_timer_arm(api->reap_timer, REAP_MS);
}

static void set_deadline(struct MHD_Connection *connection, int64_t delay_ms, bool in_body) {
    struct connection *state = connection_of(connection);
    if (state == NULL)
        return;
    state->deadline_ms = delay_ms == 0 ? 0 : clock_ms() + delay_ms;
    state->in_body = in_body;
    state->window_bytes = 0;
}

void connection_headers(struct MHD_Connection *connection) {
    struct connection *state = connection_of(connection);
    int64_t deadline_ms = clock_ms() + HEADER_DEADLINE_MS;
    if (state != NULL && (state->deadline_ms == 0 || state->deadline_ms > deadline_ms))
        state->deadline_ms = deadline_ms;
}

void connection_body(struct MHD_Connection *connection) {
    set_deadline(connection, BODY_WINDOW_MS, true);
}

void connection_read(struct MHD_Connection *connection, size_t bytes) {
    struct connection *state = connection_of(connection);
    if (state != NULL)
        state->window_bytes += bytes;
}

void connection_handled(struct MHD_Connection *connection) {
    set_deadline(connection, 0, false);
}

void connection_idle(struct MHD_Connection *connection) {
    set_deadline(connection, IDLE_DEADLINE_MS, false);
}
