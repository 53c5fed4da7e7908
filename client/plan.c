/* The command plan: whether a job fits into the memory of a GPU, one of the server's or another. */
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/problem.h"
#include "common/json.h"

enum { DOES_NOT_FIT = 1, UNPROCESSABLE = 422 };

/* A job that is planned for one device after the other. */
struct planning {
    const struct client *client;
    char *text; /* its description */
    size_t size;
    struct table table; /* of the devices */
    bool fits;          /* on one of them */
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
                {"free", "free_bytes"}};
    struct table table;
    char title[160], batch[FORMAT_MAX];
    snprintf(title, sizeof title, "%s (compute capability %s)", field_text(gpu, "device"), field_text(gpu, "compute"));
    table_init(&table, "lr");
    table_row(&table, (const char *[]){title, ""});
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        add_bytes(&table, rows[i].what, gpu, rows[i].field);
    table_row(&table, (const char *[]){"largest batch_size", format_count(batch, field_int(gpu, "largest_batch"))});
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

static void add_row(struct planning *planning, const json_t *device, const char *needs, const char *free_text,
                    const char *largest, bool fits) {
    planning->fits = planning->fits || fits;
    table_row(&planning->table, (const char *[]){field_text(device, "id"), field_text(device, "name"), needs, free_text, largest,
                                                 fits ? "yes" : "no"});
}

static int add_gpu(struct planning *planning, const json_t *device) {
    json_t *answer = NULL;
    char needs[FORMAT_MAX] = "-", free_text[FORMAT_MAX] = "-", largest[FORMAT_MAX] = "-";
    int code = ask(planning, field_text(device, "id"), &answer);
    const json_t *gpu = json_object_get(answer, "gpu");
    if (gpu != NULL && planning->client->json)
        code = print_line(gpu);
    if (gpu != NULL) {
        format_bytes(needs, (double)field_int(gpu, "need.total_bytes"));
        format_bytes(free_text, (double)field_int(gpu, "free_bytes"));
        format_count(largest, field_int(gpu, "largest_batch"));
    }
    if (code == 0)
        add_row(planning, device, needs, free_text, largest, field_true(gpu, "fits"));
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

static int plan_all(struct planning *planning) {
    json_t *body = NULL;
    const json_t *device, *devices;
    size_t i;
    int code = client_get(planning->client, "/v1/devices", &body), gpus = 0;
    devices = json_object_get(body, "items");
    table_init(&planning->table, "llrrrl");
    table_row(&planning->table, (const char *[]){"DEVICE", "NAME", "NEEDS", "FREE", "LARGEST BATCH", "FITS"});
    json_array_foreach(devices, i, device) {
        if (code == 0 && field_text(device, "compute")[0] != '\0') {
            code = add_gpu(planning, device);
            gpus++;
        }
    }
    json_array_foreach(devices, i, device) {
        if (code == 0 && gpus == 0)
            code = add_processor(planning, device);
    }
    if (code == 0 && json_array_size(devices) == 0)
        client_say(planning->client, "The server has not found its devices yet; name a GPU with --gpu.");
    if (code == 0 && !planning->client->json)
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
    if (code == 0)
        code = name != NULL ? plan_one(&planning, name) : plan_all(&planning);
    free(planning.text);
    return code == 0 && !planning.fits ? DOES_NOT_FIT : code;
}
