/* The command plan: whether a job fits into the memory of a GPU, one of the server's or another. */
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/problem.h"
#include "common/json.h"

enum { DOES_NOT_FIT = 1, UNPROCESSABLE = 422, BATCH_MOST = 4096 }; /* the most that a job's batch_size may be */

/* A job that is planned for one device after the other. */
struct planning {
    const struct client *client;
    char *text; /* its description */
    size_t size;
    const json_t *spec; /* the same; NULL: no JSON, which the server tells */
    struct table table; /* of the devices */
    bool fits;          /* on one of them */
    int rows;           /* devices on which it may run */
    bool gpu_takes;     /* one of them is a GPU that gets jobs */
};

static int out_of_memory(void) {
    struct err err = {0};
    err_set(&err, ERR_MEMORY, "out of memory while planning a job");
    return client_fail(&err);
}

/* Asks for a dry run, on a GPU unless that is NULL. A job that cannot run there is no failure: *ret_answer is NULL then, and the
 * server's reason is printed. */
static int ask(const struct planning *planning, const char *gpu, json_t **ret_answer) {
    char *name = gpu != NULL ? http_escape(gpu) : NULL, *path = NULL;
    struct err err = {0};
    if ((gpu != NULL && name == NULL) ||
        asprintf(&path, "/v1/jobs?dry_run=true%s%s", gpu != NULL ? "&gpu=" : "", gpu != NULL ? name : "") < 0) {
        curl_free(name);
        return out_of_memory();
    }
    struct http_request request = {.method = "POST", .path = path, .body = planning->text, .body_size = planning->size};
    struct http_response response = {0};
    int code = http_send(planning->client->http, &request, &response, &err) != 0 ? client_fail(&err) : 0;
    curl_free(name);
    free(path);
    *ret_answer = NULL;
    if (code == 0 && response.status == 200 && (*ret_answer = json_parse(response.body, response.size, &err)) == NULL) {
        err.code = err.code == ERR_JSON ? ERR_PROTOCOL : err.code; /* the server's, not the user's */
        code = client_fail(&err);
    }
    if (code == 0 && response.status != 200) {
        problem_print(stderr, &response);
        code = response.status == UNPROCESSABLE ? 0 : problem_exit(&response);
    }
    http_response_done(&response);
    return code;
}

static int print_line(const json_t *value) {
    char *text = json_text(value);
    if (text == NULL)
        return out_of_memory();
    client_print_json(text, strlen(text));
    free(text);
    return 0;
}

/* --- one GPU --- */

static void add_bytes(struct table *table, const char *what, const json_t *value, const char *field) {
    char bytes[FORMAT_MAX];
    table_row(table, (const char *[]){what, format_bytes(bytes, (double)field_int(value, field))});
}

static int print_gpu(const struct client *client, const json_t *gpu) {
    static const struct {
        const char *what, *field;
    } rows[] = {{"to train", "need.train_bytes"},
                {"to evaluate", "need.evaluate_bytes"},
                {"images", "need.data_bytes"},
                {"workspace of cuDNN", "need.workspace_bytes"},
                {"CUDA itself, about", "need.context_bytes"},
                {"all together", "need.total_bytes"},
                {"memory of the card", "memory_bytes"}};
    struct table table;
    int64_t largest = field_int(gpu, "largest_batch");
    char title[160], batch[FORMAT_MAX];
    snprintf(title, sizeof title, "%s (compute capability %s)", field_text(gpu, "device"), field_text(gpu, "compute"));
    table_init(&table, "lr");
    table_row(&table, (const char *[]){title, ""});
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        add_bytes(&table, rows[i].what, gpu, rows[i].field);
    if (field_int(gpu, "free_bytes") < field_int(gpu, "memory_bytes"))
        add_bytes(&table, "free of that", gpu, "free_bytes");
    const char *what = largest == BATCH_MOST ? "largest batch_size (the most there is)" : "largest batch_size";
    table_row(&table, (const char *[]){what, format_count(batch, largest)});
    int code = client_table(client, &table);
    if (code == 0)
        printf("%s\n", field_true(gpu, "fits") ? "The job fits." : "The job does not fit.");
    return code;
}

static int plan_one(struct planning *planning, const char *name) {
    json_t *answer = NULL;
    int code = ask(planning, name, &answer);
    const json_t *gpu = json_object_get(answer, "gpu");
    if (answer != NULL)
        code = planning->client->json ? print_line(gpu) : print_gpu(planning->client, gpu);
    planning->fits = field_true(gpu, "fits");
    json_decref(answer);
    return code;
}

/* --- the devices of the server --- */

static void add_row(struct planning *planning, const json_t *device, const char *needs, const char *memory, const char *largest,
                    bool fits) {
    planning->fits = planning->fits || fits;
    table_row(&planning->table, (const char *[]){field_text(device, "id"), field_text(device, "name"), needs, memory, largest,
                                                 fits ? "yes" : "no"});
}

static int add_gpu(struct planning *planning, const json_t *device) {
    json_t *answer = NULL;
    char needs[FORMAT_MAX] = "-", memory[FORMAT_MAX], largest[FORMAT_MAX] = "-";
    int code = ask(planning, field_text(device, "id"), &answer);
    const json_t *gpu = json_object_get(answer, "gpu");
    if (gpu != NULL && planning->client->json)
        code = print_line(gpu);
    if (gpu != NULL) {
        format_bytes(needs, (double)field_int(gpu, "need.total_bytes"));
        format_count(largest, field_int(gpu, "largest_batch"));
    }
    if (code == 0)
        add_row(planning, device, needs, format_bytes(memory, (double)field_int(device, "memory_bytes")), largest,
                field_true(gpu, "fits"));
    json_decref(answer);
    return code;
}

/* A processor has no plan of its own: the estimate is the same for all. */
static int add_processor(struct planning *planning, const json_t *device) {
    json_t *answer = NULL;
    char needs[FORMAT_MAX] = "-", memory[FORMAT_MAX];
    int64_t all = field_int(device, "memory_bytes");
    int code = ask(planning, NULL, &answer);
    int64_t need = field_int(answer, "memory_bytes");
    if (answer != NULL)
        format_bytes(needs, (double)need);
    if (code == 0)
        add_row(planning, device, needs, format_bytes(memory, (double)all), "-", answer != NULL && need <= all);
    json_decref(answer);
    return code;
}

static bool is_gpu(const json_t *device) {
    return field_text(device, "compute")[0] != '\0';
}

/* Whether a field of the job is left to the server, or names this. */
static bool wants(const struct planning *planning, const char *field, const char *name) {
    const char *wanted = field_text(planning->spec, field);
    return wanted[0] == '\0' || strcmp(wanted, "auto") == 0 || strcmp(wanted, name) == 0;
}

/* Whether a device has what the job names: as the server looks at it. */
static bool offers(const struct planning *planning, const json_t *device) {
    const char *wanted = field_text(planning->spec, "precision");
    const json_t *backend, *precision;
    size_t i, k;
    if (!wants(planning, "device", field_text(device, "id")))
        return false;
    json_array_foreach(json_object_get(device, "backends"), i, backend) {
        if (!wants(planning, "backend", field_text(backend, "name")))
            continue;
        json_array_foreach(json_object_get(backend, "precisions"), k, precision) {
            const char *name = json_string_value(precision);
            if (name != NULL && strcmp(wanted[0] != '\0' ? wanted : "f32", name) == 0)
                return true;
        }
    }
    return false;
}

/* A row for each device of a kind on which the job may run. Returns 0 or the exit code. */
static int add_devices(struct planning *planning, const json_t *devices, bool gpus) {
    const json_t *device;
    size_t i;
    int code = 0;
    json_array_foreach(devices, i, device) {
        if (code != 0 || is_gpu(device) != gpus || !offers(planning, device))
            continue;
        code = gpus ? add_gpu(planning, device) : add_processor(planning, device);
        planning->rows++;
        planning->gpu_takes = planning->gpu_takes || (gpus && strcmp(field_text(device, "state"), "drained") != 0);
    }
    return code;
}

/* Where no device takes the job, the server says why. */
static int explain(struct planning *planning, const json_t *devices) {
    json_t *answer = NULL;
    if (json_array_size(devices) == 0)
        client_say(planning->client, "The server has not found its devices yet; name a GPU with --gpu.");
    int code = json_array_size(devices) > 0 ? ask(planning, NULL, &answer) : 0;
    json_decref(answer);
    return code;
}

static int plan_all(struct planning *planning) {
    json_t *body = NULL;
    int code = client_get(planning->client, "/v1/devices", &body);
    const json_t *devices = json_object_get(body, "items");
    table_init(&planning->table, "llrrrl");
    table_row(&planning->table, (const char *[]){"DEVICE", "NAME", "NEEDS", "MEMORY", "LARGEST BATCH", "FITS"});
    if (code == 0)
        code = add_devices(planning, devices, true);
    if (code == 0 && !planning->gpu_takes) /* a processor is for what no GPU takes */
        code = add_devices(planning, devices, false);
    if (code == 0 && planning->rows == 0)
        code = explain(planning, devices);
    if (code == 0 && planning->rows > 0 && !planning->client->json)
        code = client_table(planning->client, &planning->table);
    else
        table_done(&planning->table);
    json_decref(body);
    return code;
}

int command_plan(struct client *client) {
    struct planning planning = {.client = client};
    const char *name = client->args->option[OPTION_GPU];
    int code = client_description(client, &planning.text, &planning.size);
    json_t *spec = code == 0 ? json_parse(planning.text, planning.size, NULL) : NULL;
    planning.spec = spec;
    if (code == 0)
        code = name != NULL ? plan_one(&planning, name) : plan_all(&planning);
    json_decref(spec);
    free(planning.text);
    return code == 0 && !planning.fits ? DOES_NOT_FIT : code;
}
