/* Shared by the files of the API floor: the server, a request and the tools of a handler. */
#ifndef API_PRIVATE_H
#define API_PRIVATE_H

#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdint.h>

#include "server/api/api.h"
#include "server/api/target.h"
#include "server/api/text.h"

/* Limits of the service; openapi.yaml states those that clients meet. */
enum {
    BODY_MAX = 256 * 1024,
    BODY_DISCARD_MAX = 8 * 1024 * 1024, /* of an oversize body without a declared length, until the connection is cut */
    CONNECTIONS_MAX = 2048,
    CONNECTION_MEMORY = 32 * 1024, /* bounds the size of a request's headers */
    STREAMS_MAX = 1024,            /* well below CONNECTIONS_MAX, so that the rest of the API stays reachable */
    HEADER_DEADLINE_MS = 10000,
    BODY_WINDOW_MS = 30000,
    BODY_WINDOW_BYTES = 30 * 1024,
    IDLE_DEADLINE_MS = 70000, /* of a kept connection until its next request is complete */
    IDLE_TIMEOUT_S = 60       /* of libmicrohttpd: nothing was read or written */
};

/* --- route.c --- */

enum method { METHOD_GET, METHOD_POST, METHOD_PATCH, METHOD_DELETE, METHOD_OTHER };

enum route_body {
    BODY_NONE,  /* a body is refused */
    BODY_JSON,  /* collected */
    BODY_STREAM /* of a data set's content: upload.c takes it as it comes */
};

struct request;

/* Prepares request->answer and returns 0, or returns -1 with the failure in err or in request->errors. */
typedef int handler_fn(struct request *request, struct err *err);

struct route {
    enum method method;
    const char *path;    /* "{id}" stands for one part, a last "{file}" for the rest */
    handler_fn *handler; /* see handlers below */
    bool writes;         /* runs in a savepoint, is refused while draining, is answered after the commit when it wrote */
    enum route_body body;
    const char *const *params; /* known query parameters, ended by NULL */
};

enum { ROUTE_ARGS_MAX = 2, ROUTE_ARG_SIZE = 64 };

/* Finds the route of a path; METHOD's own when there is one. Returns NULL when no route has the path. *ret_allow is the bit set
 * (1 << method) of the methods that the path knows; the row's method may be another than asked. */
const struct route *route_find(enum method method, const char *path, char ret_args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE],
                               unsigned *ret_allow);
const struct route *route_table(size_t *ret_n);
const char *method_name(enum method method);

/* --- web.c --- */

struct web; /* the dashboard's files, an immutable table */
struct web *web_load(const char *dir, struct err *err);
void web_free(struct web *web);                        /* accepts NULL */
bool web_has(const struct web *web, const char *path); /* "/app.js"; web may be NULL */
int handle_file(struct request *request, struct err *err);

/* --- listen.c --- */

struct listener {
    int fd;
    char address[96]; /* "http://127.0.0.1:41234" */
    char host[64];    /* as in a Host header: "127.0.0.1", "[::1]" */
    char name[64];    /* of the machine; "" unless it listens beyond loopback */
    bool any;         /* a wildcard address: every address literal is ours */
    int port;
};

int listener_open(const char *address, bool allow_remote, struct listener *ret_listener, struct err *err);

/* Whether a Host header names this server: the defence against DNS rebinding. */
bool listener_is_host(const struct listener *listener, const char *host);

/* --- connection.c: deadlines that an inactivity timeout cannot give --- */

struct connection {
    struct api *api;
    struct connection *prev, *next;
    int fd;
    int64_t deadline_ms; /* 0: none */
    bool in_body;
    uint64_t window_bytes;
};

void connection_notify(void *api, struct MHD_Connection *connection, void **context, enum MHD_ConnectionNotificationCode code);
void connection_reap(void *api); /* loop timer */
void connection_headers(struct MHD_Connection *connection);
void connection_body(struct MHD_Connection *connection);
void connection_read(struct MHD_Connection *connection, size_t bytes);
void connection_handled(struct MHD_Connection *connection);
void connection_idle(struct MHD_Connection *connection);

/* --- metrics.c --- */

enum { METRIC_STATUS_N = 18, METRIC_BUCKETS_N = 9, METRIC_ROUTES_MAX = 64 };
struct metrics {
    int64_t requests[METRIC_ROUTES_MAX + 1][2][METRIC_STATUS_N]; /* last route: none found; [1]: HEAD; last status: others */
    int64_t buckets[METRIC_BUCKETS_N + 1], duration_us, streams, events_sent, beats_sent, reaped;
    int64_t started_us;
};
void metrics_count(struct metrics *metrics, const struct route *route, bool head, unsigned status, int64_t duration_us);
int handle_metrics(struct request *request, struct err *err);

/* --- events.c, page.c --- */

struct stream;
struct page;
enum { PAGES_N = 4 };

int handle_events(struct request *request, struct err *err);
void streams_wake(struct api *api); /* after a commit */
void streams_end(struct api *api);  /* api->draining is set: all end after what is there */
void streams_beat(void *api);       /* loop timer */

/* A formatted page of events with id > after of one job ("": all), shared by the streams that want the same one. Borrowed until
 * page_release. NULL and err on failure. */
struct page *page_get(struct api *api, const char *job, int64_t after, struct err *err);
const struct text *page_text(const struct page *page);
int64_t page_scanned(const struct page *page);
int64_t page_events(const struct page *page);
void page_release(struct page *page); /* accepts NULL */
void pages_drop(struct api *api);

/* --- api.c --- */

struct api {
    struct api_options options; /* strings NULL */
    struct viewer viewer;
    struct listener listener;
    struct MHD_Daemon *http;
    struct loop_fd *watch;
    struct loop_timer *run_timer, *reap_timer, *beat_timer;
    struct web *web;
    struct connection *connections;
    struct request *waiting; /* suspended until the turn's commit */
    struct request *asking;  /* suspended until a worker's answer */
    struct stream *streams;
    int streams_n;
    int64_t events_seen; /* newest event at the last wake */
    struct page *pages[PAGES_N];
    unsigned pages_turn;
    struct metrics metrics;
    uint32_t id_base;
    uint64_t id_next;
    bool draining;
    struct { /* libmicrohttpd's own messages: at most so many in a window */
        int64_t since_ms, suppressed;
        int n;
    } messages;
};

/* Ends a suspension. Without a thread of its own libmicrohttpd is not woken by that: a run in the next turn goes on. */
void api_resume(struct api *api, struct MHD_Connection *connection);

/* --- request.c --- */

/* Prepares the request's answer from a worker's line. */
typedef int answer_line_fn(struct request *request, const char *line, size_t size, struct err *err);

struct request {
    struct api *api;
    struct MHD_Connection *connection;
    struct request *prev, *next, **list; /* api->waiting or api->asking, when suspended */
    struct inspection *inspection;       /* the question that is asked; NULL: none */
    answer_line_fn *answer_line;         /* what is done with the answer */
    bool exports;                        /* a worker may have written a file for it: onnx.c */
    struct loop_fd *gone;                /* watches for the end of the connection meanwhile */
    char id[32];
    char *raw, *decoded; /* the target; raw is NULL when it was too long */
    struct target target;
    enum method method;
    bool begun, head;
    bool wrote;                /* set by a handler: answer after the commit */
    bool closing;              /* the connection cannot be used again */
    const struct route *route; /* NULL: none found */
    unsigned allow;
    char args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE];
    char *body;
    size_t body_size, body_room;
    uint64_t body_seen;
    struct upload *upload; /* where a streamed body goes; NULL: it is none */
    struct err_list errors;
    struct MHD_Response *answer;
    unsigned status;
    int64_t began_us;
};

void *request_started(void *api, const char *target, struct MHD_Connection *connection);
enum MHD_Result request_handle(void *api, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *data_size, void **context);
void request_completed(void *api, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode code);

/* Ends the wait of every request that waits for a commit. When err says that the commit failed, writes get it as a problem, and
 * reads are done again. */
void requests_resume(struct api *api, const struct err *err);

/* Goes on with a suspended request, whose answer is prepared. */
void request_go_on(struct request *request);

/* A request header, or NULL. */
const char *request_header(const struct request *request, const char *name);

/* --- check.c: what is refused before a body is read --- */

int check_headers(struct request *request, struct err *err);
int check_route(struct request *request, struct err *err);

/* --- answer.c --- */

/* Each prepares request->answer. Values handed over are freed on failure too. */
int answer_json(struct request *request, unsigned status, json_t *steal, struct err *err);
int answer_text(struct request *request, unsigned status, const char *type, struct text *steal, struct err *err);
int answer_bytes(struct request *request, unsigned status, const char *type, const void *borrowed, size_t size, struct err *err);
int answer_response(struct request *request, unsigned status, struct MHD_Response *steal, struct err *err);
struct download {
    const char *type;
    char name[96]; /* under which a browser saves it */
    int steal_fd;  /* closed on failure too */
    uint64_t offset, size;
};
int answer_download(struct request *request, const struct download *download, struct err *err);
int answer_items(struct request *request, json_t *steal_items, size_t n, struct err *err); /* n: how many there should be */
int answer_header(struct request *request, const char *name, const char *value, struct err *err);

/* Replaces what was prepared by a problem document of errors (when there are any) or err. */
void answer_problem(struct request *request, const struct err *err, const struct err_list *errors);

/* Queues the prepared answer with the headers that every answer has. */
enum MHD_Result answer_queue(struct request *request);

/* --- upload.c: the content of a data set, written as it comes --- */

/* What is refused before the body: an offset that is not where the upload stands, more bytes than were announced. */
int upload_begin(struct request *request, struct err *err);

/* Appends; what fails is told in the end. Returns false when the rest is not worth waiting for. */
bool upload_take(struct request *request, const char *data, size_t size);
void upload_end(struct request *request);

/* --- dataset.c --- */

/* The imported data set of request->args[0], an id or a name, or ERR_NOT_FOUND. */
int request_dataset(struct request *request, struct dataset *ret_dataset, struct err *err);

int answer_dataset(struct request *request, unsigned status, const struct dataset *dataset, struct err *err);

/* --- job.c --- */

/* The job of request->args[0], or ERR_NOT_FOUND. */
int request_job(struct request *request, struct job *ret_job, struct err *err);

/* The job as the API shows it. New reference; NULL and err on failure. */
json_t *job_json(struct api *api, const struct job *job, struct err *err);

/* Answers with a job. */
int answer_job(struct request *request, unsigned status, const struct job *job, struct err *err);

/* --- inspect.c: questions that a short worker answers --- */

struct inspection_ask {
    const char *epoch;   /* a number, "last" or "best"; NULL: the newest */
    const char *pointer; /* where it stands in the request */
    json_t *steal_want;  /* common/event.h; consumed on failure too */
    answer_line_fn *answer;
};

/* Asks a worker about the weights of an epoch of the job in the path; the request is suspended until it answers. */
int inspection_ask(struct request *request, const struct inspection_ask *question, struct err *err);

/* Takes the question of a request back, if there is one. */
void inspection_forget(struct request *request);

/* Answers all requests that wait for a worker with a failure. */
void inspections_end(struct api *api, const struct err *err);

int handle_maps(struct request *request, struct err *err);
int handle_maps_sent(struct request *request, struct err *err);
int handle_filters(struct request *request, struct err *err);
int handle_images(struct request *request, struct err *err);

/* --- onnx.c --- */

/* Removes what a worker wrote for a request, if it did; it must not run any more. */
void onnx_forget(struct request *request);
int handle_onnx(struct request *request, struct err *err);

/* --- handlers --- */

int handle_submit(struct request *request, struct err *err);
int handle_list(struct request *request, struct err *err);
int handle_show(struct request *request, struct err *err);
int handle_cancel(struct request *request, struct err *err);
int handle_retry(struct request *request, struct err *err);
int handle_delete(struct request *request, struct err *err);
int handle_epochs(struct request *request, struct err *err);
int handle_epoch(struct request *request, struct err *err);
int handle_receipt(struct request *request, struct err *err);
int handle_verify(struct request *request, struct err *err);
int handle_weights(struct request *request, struct err *err);
int handle_weights_file(struct request *request, struct err *err);
int handle_predictions(struct request *request, struct err *err);
int handle_preset_layers(struct request *request, struct err *err);
int handle_log(struct request *request, struct err *err);
int handle_graph(struct request *request, struct err *err);
int handle_datasets(struct request *request, struct err *err);
int handle_dataset_announce(struct request *request, struct err *err);
int handle_dataset(struct request *request, struct err *err);
int handle_dataset_rename(struct request *request, struct err *err);
int handle_dataset_delete(struct request *request, struct err *err);
int handle_dataset_content(struct request *request, struct err *err);
int handle_dataset_sheet(struct request *request, struct err *err);
int handle_presets(struct request *request, struct err *err);
int handle_device_resume(struct request *request, struct err *err);
int handle_devices(struct request *request, struct err *err);
int handle_version(struct request *request, struct err *err);
int handle_openapi(struct request *request, struct err *err);
int handle_live(struct request *request, struct err *err);
int handle_ready(struct request *request, struct err *err);

#endif
