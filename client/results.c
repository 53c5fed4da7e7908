/* Commands on what a job produced: epochs, graph; and the pages of epochs that others read as well. */
#include "client/results.h"

#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/format.h"
#include "client/report.h"
#include "client/table.h"
#include "client/text.h"
#include "common/json.h"

/* --- epochs --- */

static int take_items(const json_t *page, results_epoch_fn *fn, void *arg) {
    const json_t *epoch;
    size_t i;
    json_array_foreach(json_object_get(page, "items"), i, epoch) {
        int code = fn(arg, epoch);
        if (code != 0)
            return code;
    }
    return 0;
}

int results_epochs(const struct client *client, const char *id, int64_t after, results_epoch_fn *fn, void *arg) {
    for (bool more = true; more;) {
        char path[160];
        json_t *page = NULL;
        snprintf(path, sizeof path, "/v1/jobs/%s/epochs?after=%lld", id, (long long)after);
        int code = client_get(client, path, &page);
        if (code == 0)
            code = take_items(page, fn, arg);
        int64_t next = field_int(page, "next");
        json_decref(page);
        if (code != 0)
            return code;
        more = next > after; /* a server that does not move on is not asked for ever */
        after = next;
    }
    return 0;
}

int results_print_json(const json_t *value) {
    struct err err = {0};
    char *text = json_text(value);
    if (text == NULL) {
        err_set(&err, ERR_MEMORY, "out of memory while printing JSON");
        return client_fail(&err);
    }
    client_print_json(text, strlen(text));
    free(text);
    return 0;
}

struct epochs_printer {
    const struct client *client;
    int epochs;
    bool headed;
};

static int print_epoch(void *arg, const json_t *epoch) {
    struct epochs_printer *printer = arg;
    if (printer->client->json)
        return results_print_json(epoch);
    if (!printer->headed)
        report_epoch_heading(&printer->client->term, epoch);
    printer->headed = true;
    report_epoch_row(epoch, printer->epochs);
    return 0;
}

int command_epochs(struct client *client) {
    char *path = NULL;
    json_t *job = NULL;
    struct epochs_printer printer = {.client = client};
    int code = client_job_path(client, "", &path);
    if (code == 0)
        code = client_get(client, path, &job);
    if (code == 0) {
        printer.epochs = (int)field_int(job, "epochs");
        code = results_epochs(client, client->args->argument[0], 0, print_epoch, &printer);
    }
    if (code == 0 && !client->json && !printer.headed)
        client_say(client, "No epoch is finished yet.");
    json_decref(job);
    free(path);
    return code;
}

const json_t *results_class_names(const struct client *client, const json_t *job, json_t **ret_body) {
    struct http_response response = {0};
    const json_t *dataset, *names = NULL;
    size_t i;
    if (http_send(client->http, &(struct http_request){.method = "GET", .path = "/v1/datasets"}, &response, NULL) == 0)
        *ret_body = json_parse(response.body, response.size, NULL);
    http_response_done(&response);
    json_array_foreach(json_object_get(*ret_body, "items"), i, dataset) {
        if (strcmp(field_text(dataset, "name"), field_text(job, "spec.dataset")) == 0)
            names = json_object_get(dataset, "classes");
    }
    return names;
}

/* --- graph --- */

static void add_node(struct table *table, const json_t *node) {
    char shape[3 * FORMAT_MAX], parameters[FORMAT_MAX], flops[FORMAT_MAX];
    const json_t *out = json_object_get(node, "shape");
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)json_integer_value(json_array_get(out, 0)),
             (long long)json_integer_value(json_array_get(out, 1)), (long long)json_integer_value(json_array_get(out, 2)));
    table_row(table, (const char *[]){field_text(node, "name"), field_text(node, "op"), shape,
                                      format_count(parameters, field_int(node, "parameters")),
                                      format_flops(flops, (double)field_int(node, "flops"))});
}

int results_print_graph(const struct client *client, const json_t *graph) {
    struct table table;
    struct err err = {0};
    const json_t *node;
    size_t i;
    char parameters[FORMAT_MAX], flops[FORMAT_MAX];
    table_init(&table, "lllrr");
    table_row(&table, (const char *[]){"LAYER", "OP", "OUTPUT", "PARAMETERS", "FLOPS"});
    json_array_foreach(json_object_get(graph, "nodes"), i, node) add_node(&table, node);
    table_row(&table, (const char *[]){"total", "", "", format_count(parameters, field_int(graph, "parameters")),
                                       format_flops(flops, (double)field_int(graph, "flops"))});
    table_print(&table, &client->term, true, &err);
    table_done(&table);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

static int print_text(struct client *client, const char *path) {
    struct http_response response = {0};
    int code = client_send(client, &(struct http_request){.method = "GET", .path = path}, &response);
    if (code == 0)
        text_put(stdout, response.body, response.size, TEXT_LINES);
    http_response_done(&response);
    return code;
}

/* As a document to be edited: indented, unless --json asks for one line. */
static int print_layers(struct client *client, const char *path) {
    json_t *model = NULL;
    struct err err = {0};
    int code = client_object(client, "GET", path, &model);
    char *text = model != NULL ? json_dumps(model, JSON_INDENT(2)) : NULL;
    if (model != NULL && text == NULL) {
        err_set(&err, ERR_MEMORY, "out of memory while printing layers");
        code = client_fail(&err);
    }
    if (text != NULL)
        client_print_json(text, strlen(text));
    free(text);
    json_decref(model);
    return code;
}

static int print_table(struct client *client, const char *path) {
    json_t *graph = NULL;
    int code = client_object(client, "GET", path, &graph);
    if (graph != NULL)
        code = results_print_graph(client, graph);
    json_decref(graph);
    return code;
}

int command_graph(struct client *client) {
    bool dot = client->args->option[OPTION_DOT] != NULL, layers = client->args->option[OPTION_LAYERS] != NULL;
    struct err err = {0};
    char *path = NULL;
    if (dot && layers) {
        err_set(&err, ERR_REQUEST, "--dot and --layers are two ways to print a network; choose one");
        return client_fail(&err);
    }
    int code = client_job_path(client, dot ? "/graph?format=dot" : layers ? "/graph?format=layers" : "/graph", &path);
    if (code == 0)
        code = dot ? print_text(client, path) : layers ? print_layers(client, path) : print_table(client, path);
    free(path);
    return code;
}
