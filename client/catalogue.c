/* Commands on what the server has: devices, datasets, presets, version. */
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/table.h"
#include "client/text.h"
#include "common/version.h"

static int finish(struct table *table, const struct client *client) {
    struct err err = {0};
    table_print(table, &client->term, true, &err);
    table_done(table);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

/* --- devices --- */

/* "onednn 2.6.3 (f32 bf16), ref 1 (f32)" */
static void describe_backends(char *ret_text, size_t size, const json_t *backends) {
    const json_t *backend, *precision;
    size_t i, j, used = 0;
    ret_text[0] = '\0';
    json_array_foreach(backends, i, backend) {
        char precisions[64] = "";
        json_array_foreach(json_object_get(backend, "precisions"), j, precision) {
            size_t n = strlen(precisions);
            const char *name = json_string_value(precision);
            snprintf(precisions + n, sizeof precisions - n, "%s%s", j == 0 ? "" : " ", name == NULL ? "?" : name);
        }
        int n = snprintf(ret_text + used, size - used, "%s%s %s (%s)", i == 0 ? "" : ", ", field_text(backend, "name"),
                         field_text(backend, "version"), precisions);
        if (n < 0 || (size_t)n >= size - used)
            return; /* cut: a terminal shows no more anyway */
        used += (size_t)n;
    }
}

static void add_device(struct table *table, const json_t *device) {
    char backends[512], threads[FORMAT_MAX], memory[FORMAT_MAX];
    describe_backends(backends, sizeof backends, json_object_get(device, "backends"));
    snprintf(threads, sizeof threads, "%lld", (long long)field_int(device, "threads"));
    table_row(table, (const char *[]){field_text(device, "id"), field_text(device, "state"), threads,
                                      format_bytes(memory, (double)field_int(device, "memory_bytes")), field_text(device, "name"),
                                      backends});
}

static void say_unusable(const struct client *client, const json_t *device) {
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(device, "unusable"), i, item) client_say(
        client, "%s cannot use %s: %s", field_text(device, "id"), field_text(item, "name"), field_text(item, "reason"));
}

int command_devices(struct client *client) {
    json_t *body = NULL;
    int code = client_object(client, "GET", "/v1/devices", &body);
    if (code != 0 || body == NULL)
        return code;
    struct table table;
    const json_t *device, *items = json_object_get(body, "items");
    size_t i;
    table_init(&table, "llrrll");
    table_row(&table, (const char *[]){"DEVICE", "STATE", "THREADS", "MEMORY", "NAME", "BACKENDS"});
    json_array_foreach(items, i, device) add_device(&table, device);
    code = finish(&table, client);
    json_array_foreach(items, i, device) say_unusable(client, device);
    if (strcmp(field_text(body, "state"), "probing") == 0)
        client_say(client, "The server is still looking for devices.");
    if (strcmp(field_text(body, "state"), "failed") == 0)
        client_say(client, "The server could not look for devices: %s", field_text(body, "reason"));
    json_decref(body);
    return code;
}

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
    code = finish(&table, client);
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
    code = finish(&table, client);
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
