/* The command devices: what the server trains on, how its GPUs are, and which devices get no jobs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"

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

/* --- GPUs --- */

static bool is_gpu(const json_t *device) {
    return field_text(device, "compute")[0] != '\0';
}

/* "not done" for one that made none. */
static void describe_check(char *ret_text, size_t size, const json_t *check) {
    char at[FORMAT_MAX];
    if (json_is_object(check))
        snprintf(ret_text, size, "%s %s", field_true(check, "passed") ? "passed" : "failed",
                 format_time(at, field_text(check, "at")));
    else
        snprintf(ret_text, size, "not done");
}

/* "61 C, 93 % busy, 412 W, 4.0 GiB used"; what is not told is left out. */
static void describe_telemetry(char *ret_text, size_t size, const json_t *telemetry) {
    double degrees = field_real(telemetry, "temperature_c"), share = field_real(telemetry, "utilization");
    double watts = field_real(telemetry, "power_w"), bytes = field_real(telemetry, "memory_used_bytes");
    char parts[4][FORMAT_MAX + 8] = {"", "", "", ""}, number[FORMAT_MAX];
    size_t used = 0;
    if (isfinite(degrees))
        snprintf(parts[0], sizeof parts[0], "%.0f C", degrees);
    if (isfinite(share))
        snprintf(parts[1], sizeof parts[1], "%.0f %% busy", 100 * share);
    if (isfinite(watts))
        snprintf(parts[2], sizeof parts[2], "%.0f W", watts);
    if (isfinite(bytes))
        snprintf(parts[3], sizeof parts[3], "%s used", format_bytes(number, bytes));
    ret_text[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i][0] != '\0' && used < size)
            used += (size_t)snprintf(ret_text + used, size - used, "%s%s", used > 0 ? ", " : "", parts[i]);
    }
}

static void add_gpu(struct table *table, const json_t *device) {
    char free_bytes[FORMAT_MAX], check[64], telemetry[128];
    describe_check(check, sizeof check, json_object_get(device, "self_check"));
    describe_telemetry(telemetry, sizeof telemetry, json_object_get(device, "telemetry"));
    table_row(table,
              (const char *[]){field_text(device, "id"), field_text(device, "compute"), field_text(device, "driver"),
                               format_bytes(free_bytes, (double)field_int(device, "memory_free_bytes")), check, telemetry});
}

static int print_gpus(const struct client *client, const json_t *devices) {
    struct table table;
    const json_t *device;
    size_t i;
    int n = 0;
    table_init(&table, "lllrll");
    table_row(&table, (const char *[]){"GPU", "COMPUTE", "DRIVER", "FREE", "SELF-CHECK", "NOW"});
    json_array_foreach(devices, i, device) {
        if (!is_gpu(device))
            continue;
        add_gpu(&table, device);
        n++;
    }
    if (n > 0) {
        putchar('\n');
        return client_table(client, &table);
    }
    table_done(&table);
    return 0;
}

/* --- messages --- */

static void say_more(const struct client *client, const json_t *device) {
    const char *id = field_text(device, "id"), *reason = field_text(device, "reason"), *note = field_text(device, "note");
    const json_t *item;
    size_t i;
    if (strcmp(field_text(device, "state"), "drained") == 0)
        client_say(client, "%s gets no jobs: %s", id, reason);
    else if (reason[0] != '\0')
        client_say(client, "%s: %s", id, reason);
    if (note[0] != '\0')
        client_say(client, "%s: %s", id, note);
    json_array_foreach(json_object_get(device, "unusable"), i, item) {
        const char *name = field_text(item, "name");
        if (strcmp(id, "cpu") == 0 && strcmp(name, "cudnn") == 0) /* the processor lists what told no device */
            client_say(client, "No GPU: %s", field_text(item, "reason"));
        else
            client_say(client, "%s cannot use %s: %s", id, name, field_text(item, "reason"));
    }
}

static int list(const struct client *client) {
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
    code = client_table(client, &table);
    if (code == 0)
        code = print_gpus(client, items);
    json_array_foreach(items, i, device) say_more(client, device);
    if (strcmp(field_text(body, "state"), "probing") == 0)
        client_say(client, "The server is still looking for devices.");
    if (strcmp(field_text(body, "state"), "failed") == 0)
        client_say(client, "The server could not look for devices: %s", field_text(body, "reason"));
    json_decref(body);
    return code;
}

/* Puts a device back. */
static int resume(const struct client *client, const char *id) {
    char *name = http_escape(id), *path = NULL;
    struct err err = {0};
    json_t *device = NULL;
    if (name == NULL || asprintf(&path, "/v1/devices/%s/resume", name) < 0) {
        curl_free(name);
        err_set(&err, ERR_MEMORY, "out of memory");
        return client_fail(&err);
    }
    int code = client_object(client, "POST", path, &device);
    if (device != NULL)
        client_say(client, "%s gets jobs again.", field_text(device, "id"));
    json_decref(device);
    curl_free(name);
    free(path);
    return code;
}

int command_devices(struct client *client) {
    const char *id = client->args->option[OPTION_RESUME];
    return id != NULL ? resume(client, id) : list(client);
}
