/* GET /v1/jobs: pages by the place in the order of submission, newest first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"

enum { LIST_MAX = 200, LIST_DEFAULT = 50, CURSOR_SIZE = 32 };

struct list {
    struct api *api;
    json_t *items;
    int limit;
    bool more;
    int64_t last;
    struct err *err;
};

static int add_job(void *arg, const struct job *job) {
    struct list *list = arg;
    if ((int)json_array_size(list->items) == list->limit) {
        list->more = true;
        return 1;
    }
    json_t *value = job_json(list->api, job, list->err);
    if (value == NULL || json_array_append_new(list->items, value) < 0)
        return err_set(list->err, ERR_MEMORY, "cannot list jobs: out of memory");
    list->last = job->seq;
    return 0;
}

/* One name of "state", size bytes. */
static int add_state(const char *text, size_t size, unsigned *states, struct err *err) {
    static const char *const names[] = {
#define STATE_NAME(name, text) text,
        JOB_STATES(STATE_NAME)
#undef STATE_NAME
    };
    char name[24];
    enum job_state state;
    snprintf(name, sizeof name, "%.*s", (int)(size < sizeof name ? size : sizeof name - 1), text);
    if (job_state_parse(name, &state)) {
        *states |= 1u << state;
        return 0;
    }
    const char *nearest = json_nearest(name, names, sizeof names / sizeof names[0]);
    return err_at(err, ERR_FIELD, "?state",
                  "\"%s\" is no state%s%s; states are queued, starting, running, succeeded, failed, cancelled", name,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "");
}

static int parse_states(const char *text, unsigned *ret_states, struct err *err) {
    *ret_states = 0;
    while (text != NULL) {
        size_t size = strcspn(text, ",");
        if (add_state(text, size, ret_states, err) < 0)
            return -1;
        text = text[size] == ',' ? text + size + 1 : NULL;
    }
    return 0;
}

/* A cursor is opaque to clients: "c" and the place in hexadecimal. */
static int parse_cursor(const char *text, int64_t *ret_seq, struct err *err) {
    char *end = NULL;
    *ret_seq = 0;
    if (text == NULL)
        return 0;
    if (text[0] == 'c' && strspn(text + 1, "0123456789abcdef") == strlen(text + 1) && strlen(text) > 1 && strlen(text) < 17)
        *ret_seq = (int64_t)strtoull(text + 1, &end, 16);
    return *ret_seq > 0 ? 0 : err_at(err, ERR_FIELD, "?before", "before is not the \"next\" of a page of this list");
}

static int add_link(struct request *request, int limit, const char *next, struct err *err) {
    char link[256], states[128] = "";
    const char *state = target_param(&request->target, "state");
    if (state != NULL)
        snprintf(states, sizeof states, "&state=%s", state);
    snprintf(link, sizeof link, "</v1/jobs?limit=%d&before=%s%s>; rel=\"next\"", limit, next, states);
    return answer_header(request, MHD_HTTP_HEADER_LINK, link, err);
}

static int answer_list(struct request *request, struct list *list, struct err *err) {
    char next[CURSOR_SIZE];
    snprintf(next, sizeof next, "c%llx", (unsigned long long)list->last);
    json_t *page = json_pack("{s:o,s:s?,s:I}", "items", list->items, "next", list->more ? next : NULL, "cursor",
                             (json_int_t)store_event_newest(request->api->options.store));
    if (answer_json(request, MHD_HTTP_OK, page, err) < 0)
        return -1;
    return list->more ? add_link(request, list->limit, next, err) : 0;
}

int handle_list(struct request *request, struct err *err) {
    unsigned states;
    int64_t limit, before;
    struct err inner = {0};
    if (target_number(&request->target, "limit", 1, LIST_MAX, LIST_DEFAULT, &limit, err) < 0 ||
        parse_states(target_param(&request->target, "state"), &states, err) < 0 ||
        parse_cursor(target_param(&request->target, "before"), &before, err) < 0)
        return -1;
    struct list list = {.api = request->api, .items = json_array(), .limit = (int)limit, .err = &inner};
    int failed =
        store_job_list(request->api->options.store, &request->api->viewer, states, before, (int)limit + 1, add_job, &list, err);
    if (failed < 0 || inner.code != ERR_NONE) {
        json_decref(list.items);
        if (err->code == ERR_NONE)
            *err = inner;
        return -1;
    }
    return answer_list(request, &list, err);
}
