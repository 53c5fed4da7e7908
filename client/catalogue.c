/* Commands on what the server has: datasets, presets, version. */
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/table.h"
#include "client/text.h"
#include "common/version.h"

/* --- datasets --- */

static const char *availability(const json_t *dataset) {
    const json_t *available = json_object_get(dataset, "available");
    if (json_is_true(available))
        return "yes";
    return json_is_false(available) ? "no" : "(probing)";
}

static void add_dataset(struct table *table, const json_t *dataset) {
    char shape[3 * FORMAT_MAX], classes[FORMAT_MAX], train[FORMAT_MAX], test[FORMAT_MAX];
    const json_t *size = json_object_get(dataset, "shape");
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)json_integer_value(json_array_get(size, 0)),
             (long long)json_integer_value(json_array_get(size, 1)), (long long)json_integer_value(json_array_get(size, 2)));
    table_row(table, (const char *[]){field_text(dataset, "name"), availability(dataset), shape,
                                      format_count(classes, (int64_t)json_array_size(json_object_get(dataset, "classes"))),
                                      format_count(train, field_int(dataset, "train_images")),
                                      format_count(test, field_int(dataset, "test_images")), field_text(dataset, "title")});
}

int command_datasets(struct client *client) {
    json_t *body = NULL;
    int code = client_object(client, "GET", "/v1/datasets", &body);
    if (code != 0 || body == NULL)
        return code;
    struct table table;
    const json_t *dataset, *items = json_object_get(body, "items");
    size_t i;
    table_init(&table, "lllrrrl");
    table_row(&table, (const char *[]){"DATASET", "THERE", "IMAGE", "CLASSES", "TRAIN", "TEST", "TITLE"});
    json_array_foreach(items, i, dataset) add_dataset(&table, dataset);
    code = client_table(client, &table);
    json_array_foreach(items, i, dataset) if (field_text(dataset, "reason")[0] != '\0')
        client_say(client, "%s: %s", field_text(dataset, "name"), field_text(dataset, "reason"));
    json_decref(body);
    return code;
}

/* --- presets, version --- */

int command_presets(struct client *client) {
    json_t *body = NULL;
    int code = client_object(client, "GET", "/v1/presets", &body);
    if (code != 0 || body == NULL)
        return code;
    struct table table;
    const json_t *preset;
    size_t i;
    table_init(&table, "llll");
    table_row(&table, (const char *[]){"PRESET", "RESIDUAL", "TITLE", "PAPER"});
    json_array_foreach(json_object_get(body, "items"), i, preset)
        table_row(&table, (const char *[]){field_text(preset, "name"), field_true(preset, "residual") ? "yes" : "no",
                                           field_text(preset, "title"), field_text(preset, "paper")});
    code = client_table(client, &table);
    json_decref(body);
    return code;
}

int command_version(struct client *client) {
    json_t *body = NULL;
    if (!client->json)
        printf("client  %s (libcurl %s, jansson %s)\n", RESIDUUM_VERSION, curl_version_info(CURLVERSION_NOW)->version,
               jansson_version_str());
    int code = client_object(client, "GET", "/v1/version", &body);
    if (code != 0 || body == NULL)
        return code;
    char line[256];
    snprintf(line, sizeof line, "server  %s (API %lld, SQLite %s, libmicrohttpd %s) at %s", field_text(body, "version"),
             (long long)field_int(body, "api"), field_text(body, "sqlite"), field_text(body, "microhttpd"),
             http_server(client->http));
    text_put(stdout, line, strlen(line), TEXT_LINE);
    putchar('\n');
    json_decref(body);
    return 0;
}
