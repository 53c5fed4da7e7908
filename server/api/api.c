/* libmicrohttpd in the daemon's loop: its epoll descriptor is watched, its timeout is a timer, its messages are bounded. */
#include "server/api/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/log.h"
#include "server/api/private.h"
#include "server/api/submit.h"

enum { MESSAGES_MAX = 5, MESSAGES_WINDOW_MS = 10000, STOP_TURNS = 50 };

/* One place for what differs between the versions. */
#if MHD_VERSION >= 0x00097701
#define OPTION_STRICT MHD_OPTION_CLIENT_DISCIPLINE_LVL
#else
#define OPTION_STRICT MHD_OPTION_STRICT_FOR_CLIENT
#endif

/* A thousand clients that leave at once are a thousand messages: a few are enough. */
static void message(void *arg, const char *format, va_list args) {
    struct api *api = arg;
    char text[256], suppressed[24];
    int64_t now = clock_ms();
    if (now - api->messages.since_ms > MESSAGES_WINDOW_MS) {
        api->messages.since_ms = now;
        api->messages.n = 0;
    }
    if (api->messages.n++ >= MESSAGES_MAX) {
        api->messages.suppressed++;
        return;
    }
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    snprintf(suppressed, sizeof suppressed, "%lld", (long long)api->messages.suppressed);
    log_line("info", "http", "message", text, "suppressed", api->messages.suppressed > 0 ? suppressed : NULL, NULL);
    api->messages.suppressed = 0;
}

static void run(struct api *api) {
    unsigned long long timeout_ms;
    MHD_run(api->http);
    if (MHD_get_timeout(api->http, &timeout_ms) == MHD_YES)
        loop_timer_arm(api->run_timer, (int64_t)timeout_ms);
    else
        loop_timer_disarm(api->run_timer);
}

void api_resume(struct api *api, struct MHD_Connection *connection) {
    MHD_resume_connection(connection);
    loop_timer_arm(api->run_timer, 0);
}

static void on_ready(void *arg, uint32_t events) {
    (void)events;
    run(arg);
}

static void on_timer(void *arg) {
    run(arg);
}

static int start_http(struct api *api, struct err *err) {
    api->http =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, request_handle, api,
                         MHD_OPTION_EXTERNAL_LOGGER, message, api, OPTION_STRICT, 1, MHD_OPTION_LISTEN_SOCKET, api->listener.fd,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                         (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
                         MHD_OPTION_URI_LOG_CALLBACK, request_started, api, MHD_OPTION_NOTIFY_COMPLETED, request_completed, api,
                         MHD_OPTION_NOTIFY_CONNECTION, connection_notify, api, MHD_OPTION_END);
    if (api->http == NULL)
        return err_set(err, ERR_NETWORK, "cannot start the HTTP server on %s", api->listener.address);
    api->listener.fd = -1; /* libmicrohttpd closes it from now on */
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->http, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || info->epoll_fd < 0)
        return err_set(err, ERR_NETWORK, "libmicrohttpd %s gave no epoll descriptor; it must be built with epoll",
                       MHD_get_version());
    api->watch = loop_fd_add(api->options.loop, info->epoll_fd, EPOLLIN, on_ready, api, err);
    return api->watch == NULL ? -1 : 0;
}

static int add_timers(struct api *api, struct err *err) {
    struct loop *loop = api->options.loop;
    api->run_timer = loop_timer_add(loop, on_timer, api, err);
    if (api->run_timer == NULL)
        return -1;
    api->reap_timer = loop_timer_add(loop, connection_reap, api, err);
    if (api->reap_timer == NULL)
        return -1;
    api->beat_timer = loop_timer_add(loop, streams_beat, api, err);
    return api->beat_timer == NULL ? -1 : 0;
}

/* The page is not needed to train: without its files the API serves alone, and the log says so. */
static void load_web(struct api *api, const char *dir) {
    struct err err = {0};
    if (dir != NULL)
        api->web = web_load(dir, &err);
    if (api->web == NULL)
        log_line("warning", "no-dashboard", "reason", dir == NULL ? "no folder was given" : err.text, NULL);
}

int api_new(const struct api_options *options, struct api **ret_api, struct err *err) {
    struct api *api = calloc(1, sizeof *api);
    if (api == NULL)
        return err_set(err, ERR_MEMORY, "cannot start the API: out of memory");
    api->options = *options;
    api->options.listen = api->options.web_dir = NULL;
    api->listener.fd = -1;
    api->metrics.started_us = clock_unix_us();
    api->events_seen = store_event_newest(options->store);
    if (getrandom(&api->id_base, sizeof api->id_base, 0) != sizeof api->id_base)
        api->id_base = (uint32_t)api->metrics.started_us;
    load_web(api, options->web_dir);
    if (store_viewer_local(options->store, &api->viewer, err) < 0 || add_timers(api, err) < 0 ||
        listener_open(options->listen, options->allow_remote, &api->listener, err) < 0 || start_http(api, err) < 0) {
        api_free(api);
        return -1;
    }
    sched_ask_room(options->sched, room_for_job, api);
    *ret_api = api;
    return 0;
}

/* Suspended connections must be resumed before MHD_stop_daemon, which aborts the process otherwise. Some turns let answers that
 * are ready go out; nobody is waited for. */
static void stop_http(struct api *api) {
    struct err gone = {0};
    err_set(&gone, ERR_UNAVAILABLE, "the server stopped before the request was done");
    requests_resume(api, &gone);
    inspections_end(api, &gone);
    streams_end(api);
    for (int i = 0; i < STOP_TURNS; i++) {
        unsigned long long timeout_ms;
        MHD_run(api->http);
        requests_resume(api, &gone);
        inspections_end(api, &gone);
        if (MHD_get_timeout(api->http, &timeout_ms) != MHD_YES || timeout_ms > 0)
            break;
    }
    requests_resume(api, &gone);
    inspections_end(api, &gone);
    streams_end(api);
    MHD_stop_daemon(api->http);
}

void api_free(struct api *api) {
    if (api == NULL)
        return;
    api->draining = true;
    loop_fd_remove(api->watch);
    if (api->http != NULL)
        stop_http(api);
    if (api->listener.fd >= 0)
        close(api->listener.fd);
    loop_timer_remove(api->run_timer);
    loop_timer_remove(api->reap_timer);
    loop_timer_remove(api->beat_timer);
    pages_drop(api);
    web_free(api->web);
    free(api);
}

void api_committed(struct api *api, bool committed, const struct err *err) {
    struct err unknown = {0};
    if (committed) {
        requests_resume(api, NULL);
        streams_wake(api);
        return;
    }
    if (err == NULL || err->code == ERR_NONE) {
        err_set(&unknown, ERR_STORE, "the write could not be made durable");
        err = &unknown;
    }
    requests_resume(api, err);
}

void api_drain(struct api *api) {
    api->draining = true;
    streams_end(api);
}

const char *api_address(const struct api *api) {
    return api->listener.address;
}
