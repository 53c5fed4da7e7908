/* Commands on jobs: ls, show, cancel, retry, rm, log. */
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/table.h"
#include "client/text.h"
#include "common/json.h"

enum { LS_DEFAULT = 50, LS_PAGE = 200, LS_MOST = 1000000 };

/* --- ls --- */

static void add_job(struct table *table, const json_t *job) {
    char epochs[FORMAT_MAX], created[FORMAT_MAX], unnamed[80];
    const char *name = field_text(job, "name"), *preset = field_text(job, "spec.model.preset");
    snprintf(epochs, sizeof epochs, "%lld/%lld", (long long)field_int(job, "epochs_done"), (long long)field_int(job, "epochs"));
    snprintf(unnamed, sizeof unnamed, "(%s)", preset[0] == '\0' ? "own layers" : preset);
    table_row(table, (const char *[]){field_text(job, "id"), field_text(job, "state"), epochs,
                                      format_time(created, field_text(job, "created")), name[0] == '\0' ? unnamed : name});
}

static int print_job_line(const json_t *job) {
    char *text = json_text(job);
    if (text == NULL)
        return -1;
    client_print_json(text, strlen(text));
    free(text);
    return 0;
}

/* What one ls asks for, page after page. */
struct listing {
    const struct client *client;
    struct table table;
    long left;   /* jobs still wanted */
    char *state; /* escaped, or NULL */
    char *next;  /* escaped cursor, or NULL before the first page */
    bool more;   /* the server has further pages */
    bool failed; /* memory ran out */
};

static char *page_path(const struct listing *listing) {
    char *path = NULL;
    int n = asprintf(&path, "/v1/jobs?limit=%ld%s%s%s%s", listing->left < LS_PAGE ? listing->left : (long)LS_PAGE,
                     listing->state == NULL ? "" : "&state=", listing->state == NULL ? "" : listing->state,
                     listing->next == NULL ? "" : "&before=", listing->next == NULL ? "" : listing->next);
    return n < 0 ? NULL : path;
}

static void take_page(struct listing *listing, const json_t *page) {
    const json_t *job;
    size_t i;
    json_array_foreach(json_object_get(page, "items"), i, job) {
        if (listing->client->json)
            listing->failed = print_job_line(job) != 0 || listing->failed;
        else
            add_job(&listing->table, job);
        listing->left--;
    }
    const char *next = field_text(page, "next");
    listing->more = next[0] != '\0' && json_array_size(json_object_get(page, "items")) > 0;
    curl_free(listing->next);
    listing->next = listing->more ? http_escape(next) : NULL;
    listing->failed = listing->failed || (listing->more && listing->next == NULL);
}

static int fetch_pages(struct listing *listing) {
    do {
        json_t *page = NULL;
        char *path = page_path(listing);
        listing->failed = listing->failed || path == NULL;
        int code = path == NULL ? 0 : client_get(listing->client, path, &page);
        free(path);
        if (code != 0)
            return code;
        if (page != NULL)
            take_page(listing, page);
        json_decref(page);
    } while (listing->more && listing->left > 0 && !listing->failed && term_flush() == 0);
    return 0;
}

static int print_listing(struct listing *listing) {
    struct err err = {0};
    if (listing->failed)
        err_set(&err, ERR_MEMORY, "out of memory while listing jobs");
    else if (!listing->client->json)
        table_print(&listing->table, &listing->client->term, true, &err);
    if (err.code != ERR_NONE)
        return client_fail(&err);
    if (listing->more)
        client_say(listing->client, "There are more jobs; --limit N shows more of them.");
    return 0;
}

int command_ls(struct client *client) {
    struct listing listing = {.client = client};
    int code = client_number(client, OPTION_LIMIT, LS_MOST, LS_DEFAULT, &listing.left);
    if (code != 0)
        return code;
    const char *state = client->args->option[OPTION_STATE];
    listing.state = state == NULL ? NULL : http_escape(state);
    listing.failed = state != NULL && listing.state == NULL;
    table_init(&listing.table, "llrll");
    table_row(&listing.table, (const char *[]){"JOB", "STATE", "EPOCHS", "CREATED", "NAME"});
    code = fetch_pages(&listing);
    if (code == 0)
        code = print_listing(&listing);
    table_done(&listing.table);
    curl_free(listing.state);
    curl_free(listing.next);
    return code;
}

/* --- show --- */

static void add_pair(struct table *table, const char *name, const char *value) {
    table_row(table, (const char *[]){name, value});
}

/* A spec as "optimizer.momentum  0.9" rows. Depth is bounded by json_parse. */
static void add_spec(struct table *table, const char *prefix, const json_t *value) {
    const char *key;
    json_t *field;
    json_object_foreach((json_t *)value, key, field) {
        char name[128];
        snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", key);
        char *text = json_is_string(field) ? strdup(json_string_value(field)) : json_text(field);
        if (json_is_object(field))
            add_spec(table, name, field);
        else if (text != NULL)
            add_pair(table, name, text);
        table->failed = table->failed || text == NULL;
        free(text);
    }
}

static void add_progress(struct table *table, const json_t *job) {
    char text[160];
    snprintf(text, sizeof text, "%lld of %lld", (long long)field_int(job, "epochs_done"), (long long)field_int(job, "epochs"));
    add_pair(table, "Epochs", text);
    if (field_true(job, "stopped_early"))
        add_pair(table, "", "stopped early");
    if (json_is_integer(field_at(job, "best_epoch"))) {
        snprintf(text, sizeof text, "%lld", (long long)field_int(job, "best_epoch"));
        add_pair(table, "Best epoch", text);
    }
    snprintf(text, sizeof text, "%lld", (long long)field_int(job, "attempt"));
    add_pair(table, "Attempt", text);
    if (json_is_integer(field_at(job, "position"))) {
        snprintf(text, sizeof text, "%lld before it", (long long)field_int(job, "position"));
        add_pair(table, "Queue", text);
    }
    if (field_text(job, "reason.code")[0] != '\0') {
        add_pair(table, "Reason", field_text(job, "reason.text"));
        add_pair(table, "", field_text(job, "reason.code"));
    }
}

static void add_verification(struct table *table, const json_t *job) {
    char text[160];
    const char *result = field_text(job, "verification.result");
    if (field_text(job, "verifies")[0] != '\0')
        add_pair(table, "Verifies", field_text(job, "verifies"));
    if (strcmp(result, "differs") == 0)
        snprintf(text, sizeof text, "differs from epoch %lld on", (long long)field_int(job, "verification.epoch"));
    else
        snprintf(text, sizeof text, "%s", result);
    if (result[0] != '\0')
        add_pair(table, "Verification", text);
}

static void add_worker(struct table *table, const json_t *worker) {
    char text[160], count[FORMAT_MAX], bytes[FORMAT_MAX];
    if (!json_is_object(worker))
        return;
    snprintf(text, sizeof text, "%s %s, %s, %lld threads", field_text(worker, "backend"), field_text(worker, "backend_version"),
             field_text(worker, "precision"), (long long)field_int(worker, "threads"));
    add_pair(table, "Backend", text);
    add_pair(table, "Hardware", field_text(worker, "device"));
    add_pair(table, "Parameters", format_count(count, field_int(worker, "parameters")));
    add_pair(table, "Memory", format_bytes(bytes, (double)field_int(worker, "memory_bytes")));
}

static void add_times(struct table *table, const json_t *job) {
    char text[FORMAT_MAX];
    add_pair(table, "Created", format_time(text, field_text(job, "created")));
    add_pair(table, "Started", format_time(text, field_text(job, "started")));
    add_pair(table, "Ended", format_time(text, field_text(job, "ended")));
}

static int print_job(const struct client *client, const json_t *job) {
    struct table table, spec;
    struct err err = {0};
    table_init(&table, "ll");
    table_init(&spec, "ll");
    add_pair(&table, "Job", field_text(job, "id"));
    add_pair(&table, "Name", field_text(job, "name"));
    add_pair(&table, "Owner", field_text(job, "owner"));
    add_pair(&table, "State", field_text(job, "state"));
    add_progress(&table, job);
    add_verification(&table, job);
    add_pair(&table, "Device", field_text(job, "device"));
    add_worker(&table, json_object_get(job, "worker"));
    add_times(&table, job);
    add_spec(&spec, "", json_object_get(job, "spec"));
    struct term whole = client->term; /* nothing is cut here */
    whole.tty = false;
    if (table_print(&table, &whole, false, &err) == 0) {
        putchar('\n');
        table_print(&spec, &whole, false, &err);
    }
    table_done(&table);
    table_done(&spec);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

int command_show(struct client *client) {
    char *path = NULL;
    json_t *job = NULL;
    int code = client_job_path(client, "", &path);
    if (code == 0)
        code = client_object(client, "GET", path, &job);
    if (code == 0 && job != NULL)
        code = print_job(client, job);
    json_decref(job);
    free(path);
    return code;
}

/* --- cancel, retry, rm --- */

static int change(struct client *client, const char *action, json_t **ret_job) {
    char *path = NULL;
    int code = client_job_path(client, action, &path);
    if (code == 0)
        code = client_object(client, "POST", path, ret_job);
    free(path);
    return code;
}

int command_cancel(struct client *client) {
    json_t *job = NULL;
    int code = change(client, "/cancel", &job);
    if (code == 0 && job != NULL)
        client_say(client, strcmp(field_text(job, "state"), "cancelled") == 0 ? "%s is cancelled." : "%s will stop in a moment.",
                   field_text(job, "id"));
    json_decref(job);
    return code;
}

int command_retry(struct client *client) {
    json_t *job = NULL;
    int code = change(client, "/retry", &job);
    if (code == 0 && job != NULL)
        client_say(client, "%s is queued again, with %lld of %lld epochs done.", field_text(job, "id"),
                   (long long)field_int(job, "epochs_done"), (long long)field_int(job, "epochs"));
    json_decref(job);
    return code;
}

int command_rm(struct client *client) {
    char *path = NULL;
    struct http_response response = {0};
    int code = client_job_path(client, "", &path);
    if (code == 0)
        code = client_send(client, &(struct http_request){.method = "DELETE", .path = path}, &response);
    if (code == 0)
        client_say(client, "%s is deleted.", client->args->argument[0]);
    http_response_done(&response);
    free(path);
    return code;
}

/* --- log --- */

static int print_log(const struct client *client, const struct http_response *response) {
    if (!client->json) {
        text_put(stdout, response->body, response->size, TEXT_LINES);
        return 0;
    }
    struct err err = {0};
    json_t *text = json_pack("{s:s%}", "log", response->body, response->size);
    char *json = text == NULL ? NULL : json_text(text);
    if (json != NULL)
        client_print_json(json, strlen(json));
    else
        err_set(&err, ERR_PROTOCOL, "the log cannot be printed as JSON: it is not UTF-8, or memory ran out");
    free(json);
    json_decref(text);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

int command_log(struct client *client) {
    char *path = NULL;
    struct http_response response = {0};
    int code = client_job_path(client, "/log", &path);
    if (code == 0)
        code = client_send(client, &(struct http_request){.method = "GET", .path = path}, &response);
    if (code == 0)
        code = print_log(client, &response);
    http_response_done(&response);
    free(path);
    return code;
}
