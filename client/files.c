/* The commands weights, export and predictions: lists, and files saved as they come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/problem.h"
#include "client/results.h"
#include "client/table.h"

/* --- saving --- */

static int cannot(const char *what, const char *name) {
    struct err err = {0};
    err_errno(&err, ERR_IO, errno, "cannot %s %.200s", what, name);
    return client_fail(&err);
}

static int receive(const struct client *client, const char *path, FILE *file) {
    struct http_response response = {0};
    int code = client_send(client, &(struct http_request){.method = "GET", .path = path, .save = file}, &response);
    http_response_done(&response);
    return code;
}

/* Aside first, so that what has the name is whole. */
static int save_as(const struct client *client, const char *path, const char *name) {
    char *aside = NULL;
    if (asprintf(&aside, "%s.part", name) < 0)
        return cannot("save", name);
    FILE *file = fopen(aside, "wb");
    int code = file == NULL ? cannot("create", aside) : receive(client, path, file);
    if (file != NULL && fclose(file) != 0 && code == 0)
        code = cannot("write", aside);
    if (code == 0 && rename(aside, name) != 0)
        code = cannot("make", name);
    if (code != 0 && file != NULL)
        unlink(aside);
    if (code == 0)
        client_say(client, "Saved as %s.", name);
    free(aside);
    return code;
}

int client_save(const struct client *client, const char *path, const char *name) {
    return strcmp(name, "-") == 0 ? receive(client, path, stdout) : save_as(client, path, name);
}

/* --- weights --- */

static void add_weights(struct table *table, const json_t *item) {
    char epoch[FORMAT_MAX], bytes[FORMAT_MAX];
    bool last = field_true(item, "last"), best = field_true(item, "best");
    snprintf(epoch, sizeof epoch, "%lld", (long long)field_int(item, "epoch"));
    table_row(table, (const char *[]){epoch,
                                      last && best ? "last, best"
                                      : last       ? "last"
                                      : best       ? "best"
                                                   : "",
                                      format_bytes(bytes, (double)field_int(item, "bytes")), field_text(item, "sha256")});
}

static int list_weights(struct client *client, const char *path) {
    struct table table;
    struct err err = {0};
    json_t *body = NULL;
    const json_t *item;
    size_t i;
    int code = client_object(client, "GET", path, &body);
    if (code != 0 || body == NULL)
        return code;
    table_init(&table, "rlrl");
    table_row(&table, (const char *[]){"EPOCH", "", "SIZE", "SHA-256"});
    json_array_foreach(json_object_get(body, "items"), i, item) add_weights(&table, item);
    table_print(&table, &client->term, true, &err);
    table_done(&table);
    json_decref(body);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

static int check_epoch(const char *epoch) {
    struct err err = {0};
    size_t size = strlen(epoch);
    if ((size > 0 && size < 10 && strspn(epoch, "0123456789") == size) || strcmp(epoch, "last") == 0 ||
        strcmp(epoch, "best") == 0)
        return 0;
    err_set(&err, ERR_REQUEST, "\"%.40s\" is no epoch; it is a number, \"last\" or \"best\"", epoch);
    return client_fail(&err);
}

int command_weights(struct client *client) {
    const struct args *args = client->args;
    const char *epoch = args->arguments_n > 1 ? args->argument[1] : NULL, *output = args->option[OPTION_OUTPUT];
    struct err err = {0};
    char rest[32], name[128], *path = NULL;
    if (epoch == NULL && output != NULL) {
        err_set(&err, ERR_REQUEST, "--output needs an epoch to save: a number, \"last\" or \"best\"");
        return client_fail(&err);
    }
    int code = epoch != NULL ? check_epoch(epoch) : 0;
    snprintf(rest, sizeof rest, "/weights%s%.10s", epoch != NULL ? "/" : "", epoch != NULL ? epoch : "");
    if (code == 0)
        code = client_job_path(client, rest, &path);
    if (code == 0 && epoch == NULL)
        code = list_weights(client, path);
    else if (code == 0) {
        snprintf(name, sizeof name, "%.64s-epoch-%.10s.safetensors", args->argument[0], epoch);
        code = client_save(client, path, output != NULL ? output : name);
    }
    free(path);
    return code;
}

/* --- export --- */

int command_export(struct client *client) {
    const struct args *args = client->args;
    const char *epoch = args->arguments_n > 1 ? args->argument[1] : "last", *output = args->option[OPTION_OUTPUT];
    char rest[64], name[128], *path = NULL;
    int code = check_epoch(epoch);
    snprintf(rest, sizeof rest, "/onnx?epoch=%.10s&normalize=%s", epoch,
             args->option[OPTION_NORMALIZE] != NULL ? "true" : "false");
    if (code == 0)
        code = client_job_path(client, rest, &path);
    snprintf(name, sizeof name, "%.64s-epoch-%.10s.onnx", args->argument[0], epoch);
    if (code == 0)
        code = client_save(client, path, output != NULL ? output : name);
    free(path);
    return code;
}

/* --- predictions --- */

enum { PREDICTIONS_DEFAULT = 50, PREDICTIONS_MOST = 100000000, PREDICTIONS_PAGE = 1000, ONE_HOT_MAX = 257 };

struct printing {
    const struct client *client;
    const json_t *names; /* of classes, or NULL */
    struct table table;
    long left;
    bool one_hot;
};

static const char *class_name(const struct printing *printing, const json_t *item, const char *key, char room[FORMAT_MAX]) {
    const char *name = json_string_value(json_array_get(printing->names, (size_t)field_int(item, key)));
    snprintf(room, FORMAT_MAX, "%lld", (long long)field_int(item, key));
    return name != NULL ? name : room;
}

/* [0, 1, 0] as "010". */
static void write_one_hot(const json_t *vector, char *ret_text, size_t size) {
    size_t n = json_array_size(vector), at = 0;
    for (; at < n && at + 1 < size; at++)
        ret_text[at] = json_integer_value(json_array_get(vector, at)) == 1 ? '1' : '0';
    ret_text[at] = '\0';
}

static void add_prediction(struct printing *printing, const json_t *item) {
    char index[FORMAT_MAX], label[FORMAT_MAX], predicted[FORMAT_MAX], share[FORMAT_MAX], one_hot[ONE_HOT_MAX];
    snprintf(index, sizeof index, "%lld", (long long)field_int(item, "index"));
    write_one_hot(json_object_get(item, "one_hot"), one_hot, sizeof one_hot);
    table_row(&printing->table,
              (const char *[]){index, class_name(printing, item, "label", label),
                               class_name(printing, item, "predicted", predicted),
                               format_share(share, field_real(item, "probability")),
                               field_int(item, "label") == field_int(item, "predicted") ? "" : "wrong", one_hot});
}

static int take_page(struct printing *printing, const json_t *page) {
    const json_t *item;
    size_t i;
    int code = 0;
    json_array_foreach(json_object_get(page, "items"), i, item) {
        if (printing->client->json)
            code = results_print_json(item);
        else
            add_prediction(printing, item);
        printing->left--;
        if (code != 0)
            break;
    }
    return code;
}

static int fetch_predictions(struct printing *printing, const char *base) {
    int code = 0;
    for (int64_t after = 0, next = 0; code == 0 && printing->left > 0; after = next) {
        char path[160];
        json_t *page = NULL;
        snprintf(path, sizeof path, "%s?after=%lld&limit=%ld%s", base, (long long)after,
                 printing->left < PREDICTIONS_PAGE ? printing->left : (long)PREDICTIONS_PAGE,
                 printing->one_hot ? "&one_hot=true" : "");
        code = client_get(printing->client, path, &page);
        if (code == 0)
            code = take_page(printing, page);
        next = field_int(page, "next");
        json_decref(page);
        if (next <= after || term_flush() != 0)
            break;
    }
    return code;
}

static int print_predictions(const struct client *client, const char *base, long limit) {
    struct printing printing = {.client = client, .left = limit, .one_hot = client->args->option[OPTION_ONE_HOT] != NULL};
    struct err err = {0};
    json_t *job = NULL, *body = NULL;
    char path[96];
    snprintf(path, sizeof path, "/v1/jobs/%s", client->args->argument[0]);
    int code = client_get(client, path, &job);
    if (code == 0 && !client->json)
        printing.names = results_class_names(client, job, &body);
    table_init(&printing.table, printing.one_hot ? "rllrll" : "rllrl");
    table_row(&printing.table, (const char *[]){"IMAGE", "TRUE CLASS", "PREDICTED", "PROBABILITY", "", "ONE-HOT"});
    if (code == 0)
        code = fetch_predictions(&printing, base);
    if (code == 0 && !client->json && table_print(&printing.table, &client->term, true, &err) != 0)
        code = client_fail(&err);
    table_done(&printing.table);
    json_decref(job);
    json_decref(body);
    return code;
}

int command_predictions(struct client *client) {
    const char *output = client->args->option[OPTION_OUTPUT];
    struct err err = {0};
    char *path = NULL;
    long limit = 0;
    if (output != NULL && client->args->option[OPTION_ONE_HOT] != NULL) {
        err_set(&err, ERR_REQUEST, "--one-hot is for what is printed; the file of --output has softmax, labels and predicted");
        return client_fail(&err);
    }
    int code = client_number(client, OPTION_LIMIT, PREDICTIONS_MOST, PREDICTIONS_DEFAULT, &limit);
    if (code == 0)
        code = client_job_path(client, output != NULL ? "/predictions?format=safetensors" : "/predictions", &path);
    if (code == 0)
        code = output != NULL ? client_save(client, path, output) : print_predictions(client, path, limit);
    free(path);
    return code;
}
