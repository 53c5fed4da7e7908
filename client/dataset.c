/* The command dataset: what may be done with a data set, and all of it but sending one. */
#include "client/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/format.h"
#include "common/json.h"

int dataset_path(const char *name, const char *rest, char **ret_path) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    struct err err = {0};
    if (name[0] == '\0' || name[0] == '.' || strspn(name, allowed) != strlen(name) || strlen(name) > 63)
        err_set(&err, ERR_REQUEST, "\"%.80s\" cannot be the name of a data set; \"residuum dataset ls\" prints the names", name);
    else if (asprintf(ret_path, "/v1/datasets/%s%s", name, rest) < 0)
        err_set(&err, ERR_MEMORY, "out of memory");
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

/* --- show --- */

static void add_pair(struct table *table, const char *name, const char *value) {
    if (value[0] != '\0')
        table_row(table, (const char *[]){name, value});
}

/* "24 training and 6 test images of 3x32x32 in 3 classes" */
static void add_images(struct table *table, const json_t *dataset) {
    char text[200], train[FORMAT_MAX], test[FORMAT_MAX];
    const json_t *shape = json_object_get(dataset, "shape");
    if (!json_is_array(shape))
        return;
    snprintf(text, sizeof text, "%s for training, %s for the test, %lldx%lldx%lld",
             format_count(train, field_int(dataset, "train_images")), format_count(test, field_int(dataset, "test_images")),
             (long long)json_integer_value(json_array_get(shape, 0)), (long long)json_integer_value(json_array_get(shape, 1)),
             (long long)json_integer_value(json_array_get(shape, 2)));
    add_pair(table, "Images", text);
}

static void add_classes(struct table *table, const json_t *dataset) {
    const json_t *name, *card = json_object_get(dataset, "card");
    size_t i;
    json_array_foreach(json_object_get(dataset, "classes"), i, name) {
        char text[320], train[FORMAT_MAX], test[FORMAT_MAX];
        const json_t *train_n = json_array_get(field_at(card, "train.per_class"), i);
        const json_t *test_n = json_array_get(field_at(card, "test.per_class"), i);
        snprintf(text, sizeof text, json_is_integer(train_n) ? "%.200s (%s, %s)" : "%.200s", json_string_value(name),
                 format_count(train, json_integer_value(train_n)), format_count(test, json_integer_value(test_n)));
        add_pair(table, i == 0 ? "Classes" : " ", text);
    }
}

static void add_skipped(struct table *table, const json_t *dataset) {
    char text[64];
    if (field_int(dataset, "card.skipped_total") == 0)
        return;
    snprintf(text, sizeof text, "%lld damaged images", (long long)field_int(dataset, "card.skipped_total"));
    add_pair(table, "Left out", text);
}

static int show(struct client *client) {
    char *path = NULL;
    json_t *dataset = NULL;
    struct err err = {0};
    struct table table;
    int code = dataset_path(client->args->argument[1], "", &path);
    if (code == 0)
        code = client_object(client, "GET", path, &dataset);
    free(path);
    if (code != 0 || dataset == NULL)
        return code;
    table_init(&table, "ll");
    add_pair(&table, "Name", field_text(dataset, "name"));
    add_pair(&table, "Title", field_text(dataset, "title"));
    add_pair(&table, "Id", field_text(dataset, "id"));
    add_pair(&table, "State", field_text(dataset, "state"));
    add_pair(&table, "Reason", field_text(dataset, "reason"));
    add_pair(&table, "Entry", field_text(dataset, "failure.entry"));
    add_pair(&table, "Source", field_text(dataset, "source"));
    add_images(&table, dataset);
    add_classes(&table, dataset);
    add_skipped(&table, dataset);
    add_pair(&table, "SHA-256", field_text(dataset, "card.sha256"));
    json_decref(dataset);
    table_print(&table, &client->term, false, &err);
    table_done(&table);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

/* --- sheet, rm --- */

static int sheet(struct client *client) {
    const char *name = client->args->argument[1], *output = client->args->option[OPTION_OUTPUT];
    char *path = NULL, file[80];
    int code = dataset_path(name, "/sheet", &path);
    snprintf(file, sizeof file, "%.63s.png", name);
    if (code == 0)
        code = client_save(client, path, output != NULL ? output : file);
    free(path);
    return code;
}

static int rm(struct client *client) {
    char *path = NULL;
    struct http_response response = {0};
    int code = dataset_path(client->args->argument[1], "", &path);
    if (code == 0)
        code = client_send(client, &(struct http_request){.method = "DELETE", .path = path}, &response);
    if (code == 0)
        client_say(client, "%s is deleted.", client->args->argument[1]);
    http_response_done(&response);
    free(path);
    return code;
}

/* --- the command --- */

static const struct action {
    const char *name, *what; /* what: its argument; NULL: none */
    command_fn *run;
} actions[] = {{"add", "FILE", dataset_add},
               {"ls", NULL, command_datasets},
               {"show", "NAME", show},
               {"sheet", "NAME", sheet},
               {"rm", "NAME", rm}};
enum { ACTIONS_N = sizeof actions / sizeof actions[0] };

static int refuse_action(const char *name) {
    const char *names[ACTIONS_N];
    struct err err = {0};
    for (int i = 0; i < ACTIONS_N; i++)
        names[i] = actions[i].name;
    const char *near = json_nearest(name, names, ACTIONS_N);
    err_set(&err, ERR_REQUEST, "residuum dataset cannot \"%.40s\"%s%s; it can add, ls, show, sheet and rm", name,
            near != NULL ? "; did you mean " : "", near != NULL ? near : "");
    return client_fail(&err);
}

int command_dataset(struct client *client) {
    const struct args *args = client->args;
    struct err err = {0};
    for (int i = 0; i < ACTIONS_N; i++) {
        if (strcmp(actions[i].name, args->argument[0]) != 0)
            continue;
        if ((actions[i].what != NULL) == (args->arguments_n == 2))
            return actions[i].run(client);
        err_set(&err, ERR_REQUEST, "it is: residuum dataset %s %s", actions[i].name,
                actions[i].what != NULL ? actions[i].what : "");
        return client_fail(&err);
    }
    return refuse_action(args->argument[0]);
}
