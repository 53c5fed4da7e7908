/* Server-sent events: a stream reads rows after its cursor, in pages, and is suspended when there is nothing new. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "server/api/private.h"

enum {
    BLOCK_SIZE = 16 * 1024,
    SEND_BUFFER = 128 * 1024,
    USER_TIMEOUT_MS = 30000,
    BEAT_MS = 15000,
    BEAT_SPREAD_MS = 3000,
    TICK_MS = 1000
};

/* At least 32 bytes: clients that measure the speed of a transfer (curl) would give up on less. */
static const char hello[] = ": ok\nretry: 3000\n\n", beat[] = ": still here, nothing new in the last 15 seconds\n\n";

struct stream {
    struct api *api;
    struct MHD_Connection *connection;
    struct stream *prev, *next;
    char job[JOB_ID_MAX]; /* "": all */
    int64_t cursor;       /* everything up to this event was handed over */
    struct page *page;    /* what is being sent, or text when NULL */
    const char *text;
    size_t size, sent;
    int64_t beat_ms; /* when the next heartbeat is due */
    bool suspended;
};

/* --- list of streams --- */

static void link_stream(struct stream *stream) {
    struct api *api = stream->api;
    stream->next = api->streams;
    if (api->streams != NULL)
        api->streams->prev = stream;
    else
        loop_timer_arm(api->beat_timer, TICK_MS);
    api->streams = stream;
    api->streams_n++;
}

/* Runs when the response goes: at the end, when the client left, on a timeout, at the server's stop. */
static void free_stream(void *arg) {
    struct stream *stream = arg;
    if (stream->prev != NULL)
        stream->prev->next = stream->next;
    else
        stream->api->streams = stream->next;
    if (stream->next != NULL)
        stream->next->prev = stream->prev;
    stream->api->streams_n--;
    page_release(stream->page);
    free(stream);
}

static void resume(struct stream *stream) {
    if (!stream->suspended)
        return;
    stream->suspended = false;
    api_resume(stream->api, stream->connection);
}

/* --- what comes next --- */

static void set_text(struct stream *stream, const char *text, size_t size) {
    page_release(stream->page);
    stream->page = NULL;
    stream->text = text;
    stream->size = size;
    stream->sent = 0;
}

/* Takes the next page with something in it; returns 0 when there is none yet. */
static int next_page(struct stream *stream) {
    struct err err = {0};
    int64_t newest = store_event_newest(stream->api->options.store);
    while (stream->cursor < newest) {
        struct page *page = page_get(stream->api, stream->job, stream->cursor, &err);
        if (page == NULL) {
            log_line("error", "stream-failed", "code", err_name(err.code), "detail", err.text, NULL);
            return -1;
        }
        bool moved = page_scanned(page) > stream->cursor;
        stream->cursor = page_scanned(page);
        if (page_events(page) > 0) {
            set_text(stream, page_text(page)->data, page_text(page)->size);
            stream->page = page;
            stream->api->metrics.events_sent += page_events(page);
            return 1;
        }
        page_release(page);
        if (!moved)
            break;
    }
    return 0;
}

static int next_text(struct stream *stream, int64_t now_ms) {
    int found = next_page(stream);
    if (found != 0 || now_ms < stream->beat_ms)
        return found;
    set_text(stream, beat, sizeof beat - 1);
    stream->api->metrics.beats_sent++;
    return 1;
}

/* libmicrohttpd asks for more bytes once the last ones have left; what is not read stays in the events table, not in memory. */
static ssize_t read_stream(void *arg, uint64_t position, char *buffer, size_t max) {
    struct stream *stream = arg;
    (void)position;
    if (stream->sent == stream->size) {
        int64_t now_ms = clock_ms();
        int found = next_text(stream, now_ms);
        if (found < 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (found == 0 && stream->api->draining)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (found == 0) {
            stream->suspended = true;
            MHD_suspend_connection(stream->connection);
            return 0;
        }
        stream->beat_ms = now_ms + BEAT_MS;
    }
    size_t size = stream->size - stream->sent < max ? stream->size - stream->sent : max;
    memcpy(buffer, stream->text + stream->sent, size);
    stream->sent += size;
    return (ssize_t)size;
}

/* --- waking --- */

struct news {
    char jobs[32][JOB_ID_MAX];
    int n;
    bool many;
};

static int note_job(void *arg, const struct event *event) {
    struct news *news = arg;
    for (int i = 0; i < news->n; i++) {
        if (strcmp(news->jobs[i], event->job) == 0)
            return 0;
    }
    if (news->n == (int)(sizeof news->jobs / sizeof news->jobs[0])) {
        news->many = true;
        return 1;
    }
    snprintf(news->jobs[news->n++], JOB_ID_MAX, "%s", event->job);
    return 0;
}

static bool concerns(const struct news *news, const char *job) {
    if (news->many || job[0] == '\0')
        return true;
    for (int i = 0; i < news->n; i++) {
        if (strcmp(news->jobs[i], job) == 0)
            return true;
    }
    return false;
}

void streams_wake(struct api *api) {
    enum { NEWS_ROWS = 200 };
    struct news news = {0};
    int64_t newest = store_event_newest(api->options.store), scanned;
    if (newest <= api->events_seen)
        return;
    if (api->streams != NULL) {
        int failed = store_event_list(api->options.store, &api->viewer, NULL, api->events_seen, NEWS_ROWS, note_job, &news,
                                      &scanned, NULL);
        news.many = news.many || failed < 0 || scanned < newest;
    }
    api->events_seen = newest;
    for (struct stream *stream = api->streams; stream != NULL; stream = stream->next) {
        if (concerns(&news, stream->job))
            resume(stream);
    }
}

void streams_end(struct api *api) {
    for (struct stream *stream = api->streams; stream != NULL; stream = stream->next)
        resume(stream);
}

void streams_beat(void *arg) {
    struct api *api = arg;
    int64_t now_ms = clock_ms();
    for (struct stream *stream = api->streams; stream != NULL; stream = stream->next) {
        if (now_ms >= stream->beat_ms)
            resume(stream);
    }
    if (api->streams != NULL)
        loop_timer_arm(api->beat_timer, TICK_MS);
}

/* --- opening --- */

/* The kernel would take megabytes for a client that does not read; a vanished host must not hold a stream for hours. */
static void bound_socket(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int size = SEND_BUFFER, on = 1, timeout_ms = USER_TIMEOUT_MS;
    if (info == NULL)
        return;
    setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(info->connect_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(info->connect_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

/* Where to begin: Last-Event-ID, else after, else now. An id from the future is another database's: now. */
static int read_cursor(struct request *request, int64_t *ret_cursor, struct err *err) {
    const char *last = request_header(request, "Last-Event-ID");
    int64_t newest = store_event_newest(request->api->options.store), cursor = newest;
    if (target_number(&request->target, "after", 0, INT64_MAX, newest, &cursor, err) < 0)
        return -1;
    if (last != NULL && last[0] != '\0' && !number_parse(last, &cursor))
        return err_at(err, ERR_FIELD, "Last-Event-ID", "Last-Event-ID is \"%.40s\"; it must be the id of an event", last);
    *ret_cursor = cursor < newest ? cursor : newest;
    return 0;
}

static int read_job(struct request *request, char ret_id[JOB_ID_MAX], struct err *err) {
    const char *id = target_param(&request->target, "job");
    struct job job = {0};
    ret_id[0] = '\0';
    if (id == NULL)
        return 0;
    if (store_job_get(request->api->options.store, &request->api->viewer, id, &job, err) < 0)
        return -1;
    snprintf(ret_id, JOB_ID_MAX, "%s", job.id);
    job_done(&job);
    return 0;
}

/* libmicrohttpd 0.9.75 sends the end of a chunked body even after HEAD, which has none: the connection ends with it, so that no
 * next answer seems to begin with "0". */
static int answer_stream(struct request *request, struct MHD_Response *response, struct err *err) {
    request->closing = request->closing || request->head;
    if (answer_response(request, MHD_HTTP_OK, response, err) < 0 ||
        answer_header(request, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream", err) < 0)
        return -1;
    return answer_header(request, "X-Accel-Buffering", "no", err);
}

/* EventSource gives up for good on anything but 200, so a browser gets a stream that ends and asks to come back later. */
static int refuse(struct request *request, struct err *err) {
    static const char later[] = "retry: 30000\n\n";
    const char *agent = request_header(request, MHD_HTTP_HEADER_USER_AGENT);
    bool browser = request_header(request, "Sec-Fetch-Mode") != NULL || (agent != NULL && strncmp(agent, "Mozilla/", 8) == 0);
    if (!browser && request->api->draining)
        return err_set(err, ERR_UNAVAILABLE, "the server is shutting down; try again when it is back");
    if (!browser)
        return err_set(err, ERR_UNAVAILABLE, "%d streams are open and no more are served; try again later", (int)STREAMS_MAX);
    return answer_stream(
        request, MHD_create_response_from_buffer(sizeof later - 1, (void *)(uintptr_t)later, MHD_RESPMEM_PERSISTENT), err);
}

int handle_events(struct request *request, struct err *err) {
    struct api *api = request->api;
    char job[JOB_ID_MAX];
    int64_t cursor = 0;
    if (read_job(request, job, err) < 0 || read_cursor(request, &cursor, err) < 0)
        return -1;
    if (api->draining || api->streams_n >= STREAMS_MAX)
        return refuse(request, err);
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return err_set(err, ERR_MEMORY, "cannot open a stream: out of memory");
    *stream = (struct stream){.api = api, .connection = request->connection, .cursor = cursor};
    snprintf(stream->job, sizeof stream->job, "%s", job);
    set_text(stream, hello, sizeof hello - 1);
    stream->beat_ms = clock_ms() + BEAT_MS - (int64_t)(api->id_next * 137 % BEAT_SPREAD_MS);
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, read_stream, stream, free_stream);
    if (response == NULL) {
        free(stream);
        return err_set(err, ERR_MEMORY, "cannot open a stream: out of memory");
    }
    link_stream(stream);
    api->metrics.streams++;
    bound_socket(request->connection);
    return answer_stream(request, response, err);
}
