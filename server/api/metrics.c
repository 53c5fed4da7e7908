/* /metrics in the text format of Prometheus, version 0.0.4. Labels are few: routes, methods, codes and states, never ids. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/version.h"
#include "server/api/private.h"

static const unsigned statuses[METRIC_STATUS_N - 1] = {200, 202, 204, 304, 400, 403, 404, 405, 409,
                                                       413, 415, 422, 429, 500, 503, 507, 206};
static const struct {
    int64_t us;
    const char *label;
} bounds[METRIC_BUCKETS_N] = {{500, "0.0005"}, {1000, "0.001"}, {2500, "0.0025"}, {5000, "0.005"}, {10000, "0.01"},
                              {50000, "0.05"}, {100000, "0.1"}, {500000, "0.5"},  {2500000, "2.5"}};

void metrics_count(struct metrics *metrics, const struct route *route, bool head, unsigned status, int64_t duration_us) {
    size_t n, s = 0, b = 0;
    const struct route *routes = route_table(&n);
    size_t r = route == NULL ? METRIC_ROUTES_MAX : (size_t)(route - routes);
    while (s < METRIC_STATUS_N - 1 && statuses[s] != status)
        s++;
    while (b < METRIC_BUCKETS_N && duration_us > bounds[b].us)
        b++;
    metrics->requests[r][head][s]++;
    metrics->buckets[b]++;
    metrics->duration_us += duration_us;
}

static void write_head(struct text *text, const char *name, const char *type, const char *help) {
    text_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_one(struct text *text, const char *name, const char *type, const char *help, double value) {
    write_head(text, name, type, help);
    text_printf(text, "%s %.17g\n", name, value);
}

static void write_route(struct text *text, const struct metrics *metrics, size_t r, const char *path, const char *method) {
    for (int head = 0; head < 2; head++) {
        for (size_t s = 0; s < METRIC_STATUS_N; s++) {
            char code[8] = "other";
            if (metrics->requests[r][head][s] == 0)
                continue;
            if (s < METRIC_STATUS_N - 1)
                snprintf(code, sizeof code, "%u", statuses[s]);
            text_printf(text, "residuum_http_requests_total{route=\"%s\",method=\"%s\",code=\"%s\"} %lld\n", path,
                        head ? "HEAD" : method, code, (long long)metrics->requests[r][head][s]);
        }
    }
}

static void write_requests(struct text *text, const struct metrics *metrics) {
    size_t n;
    const struct route *routes = route_table(&n);
    write_head(text, "residuum_http_requests_total", "counter", "Answered requests.");
    for (size_t r = 0; r < n; r++)
        write_route(text, metrics, r, routes[r].path, method_name(routes[r].method));
    write_route(text, metrics, METRIC_ROUTES_MAX, "none", "any");
    write_head(text, "residuum_http_request_duration_seconds", "histogram", "From the request line to the queued answer.");
    int64_t sum = 0;
    for (size_t b = 0; b < METRIC_BUCKETS_N; b++) {
        sum += metrics->buckets[b];
        text_printf(text, "residuum_http_request_duration_seconds_bucket{le=\"%s\"} %lld\n", bounds[b].label, (long long)sum);
    }
    sum += metrics->buckets[METRIC_BUCKETS_N];
    text_printf(text, "residuum_http_request_duration_seconds_bucket{le=\"+Inf\"} %lld\n", (long long)sum);
    text_printf(text, "residuum_http_request_duration_seconds_sum %.6f\n", (double)metrics->duration_us / 1e6);
    text_printf(text, "residuum_http_request_duration_seconds_count %lld\n", (long long)sum);
}

static int write_jobs(struct text *text, struct api *api, struct err *err) {
    int64_t counts[JOB_STATES_N];
    struct sched_counters counters = sched_counters(api->options.sched);
    if (store_job_counts(api->options.store, counts, err) < 0)
        return -1;
    write_head(text, "residuum_jobs", "gauge", "Jobs by state.");
    for (int state = 0; state < JOB_STATES_N; state++)
        text_printf(text, "residuum_jobs{state=\"%s\"} %lld\n", job_state_name((enum job_state)state), (long long)counts[state]);
    write_one(text, "residuum_workers_started_total", "counter", "Worker processes started.", (double)counters.workers_started);
    write_one(text, "residuum_workers_died_total", "counter", "Worker processes that died.", (double)counters.workers_died);
    write_one(text, "residuum_jobs_retried_total", "counter", "Attempts after a worker's death.", (double)counters.jobs_retried);
    write_one(text, "residuum_worker_events_received_total", "counter", "Lines read from workers.",
              (double)counters.events_received);
    return 0;
}

static void write_devices(struct text *text, struct api *api) {
    static const char *const states[] = {"ready", "busy", "drained"};
    json_t *devices = sched_devices(api->options.sched);
    write_head(text, "residuum_devices", "gauge", "Devices by state.");
    for (size_t s = 0; s < sizeof states / sizeof states[0]; s++) {
        const json_t *device;
        size_t i;
        int n = 0;
        json_array_foreach(json_object_get(devices, "items"), i, device) n +=
            strcmp(json_string_value(json_object_get(device, "state")), states[s]) == 0;
        text_printf(text, "residuum_devices{state=\"%s\"} %d\n", states[s], n);
    }
    json_decref(devices);
}

static void write_streams(struct text *text, const struct api *api) {
    write_one(text, "residuum_sse_clients", "gauge", "Open event streams.", api->streams_n);
    write_one(text, "residuum_sse_streams_total", "counter", "Event streams opened.", (double)api->metrics.streams);
    write_one(text, "residuum_sse_events_sent_total", "counter", "Events handed to streams.", (double)api->metrics.events_sent);
    write_one(text, "residuum_sse_heartbeats_sent_total", "counter", "Heartbeats handed to streams.",
              (double)api->metrics.beats_sent);
    write_one(text, "residuum_connections_reaped_total", "counter", "Connections cut because their request came too slowly.",
              (double)api->metrics.reaped);
    write_one(text, "residuum_event_newest_id", "gauge", "Id of the newest event.",
              (double)store_event_newest(api->options.store));
}

/* Pages of the second number of /proc/self/statm; 0 when there is no /proc. */
static double resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*s %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double open_descriptors(void) {
    double n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n - 3; /* ".", ".." and the folder itself */
}

static void write_process(struct text *text, const struct api *api) {
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    double cpu =
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    write_one(text, "process_cpu_seconds_total", "counter", "Processor time used.", cpu);
    write_one(text, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    write_one(text, "process_open_fds", "gauge", "Open file descriptors.", open_descriptors());
    write_one(text, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.",
              (double)api->metrics.started_us / 1e6);
    write_head(text, "residuum_build_info", "gauge", "Versions; always 1.");
    text_printf(text, "residuum_build_info{version=\"%s\",sqlite=\"%s\",microhttpd=\"%s\"} 1\n", RESIDUUM_VERSION, store_engine(),
                MHD_get_version());
}

int handle_metrics(struct request *request, struct err *err) {
    struct text text = {0};
    if (write_jobs(&text, request->api, err) < 0) {
        text_done(&text);
        return -1;
    }
    write_devices(&text, request->api);
    write_requests(&text, &request->api->metrics);
    write_streams(&text, request->api);
    write_process(&text, request->api);
    return answer_text(request, MHD_HTTP_OK, "text/plain; version=0.0.4", &text, err);
}
