/* What the commands share: sending, failing, speaking. See command.h. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/problem.h"
#include "client/text.h"
#include "common/json.h"

int client_fail(const struct err *err) {
    term_flush(); /* so that both outputs appear in order where they go to one place */
    fputs("residuum: ", stderr);
    text_put(stderr, err->text, strlen(err->text), TEXT_LINE);
    fputc('\n', stderr);
    return err_exit(err->code);
}

static int out_of_memory(void) {
    struct err err = {0};
    err_set(&err, ERR_MEMORY, "out of memory");
    return client_fail(&err);
}

void client_say(const struct client *client, const char *format, ...) {
    if (client->quiet || term_flush() != 0) /* who reads no results needs no messages on them */
        return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_put(stderr, text, strlen(text), TEXT_LINE);
    fputc('\n', stderr);
}

void client_print_json(const char *json, size_t size) {
    while (size > 0 && (json[size - 1] == '\n' || json[size - 1] == '\r' || json[size - 1] == ' '))
        size--;
    text_put_json(stdout, json, size);
    putchar('\n');
}

int client_send(const struct client *client, const struct http_request *request, struct http_response *ret_response) {
    struct err err = {0};
    struct http_response response = {0};
    if (http_send(client->http, request, &response, &err) != 0)
        return client_fail(&err);
    if (response.status >= 200 && response.status < 300) {
        *ret_response = response;
        return 0;
    }
    problem_print(stderr, &response);
    int code = problem_exit(&response);
    http_response_done(&response);
    return code;
}

int client_table(const struct client *client, struct table *table) {
    struct err err = {0};
    table_print(table, &client->term, true, &err);
    table_done(table);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

int client_number(const struct client *client, enum option option, long most, long otherwise, long *ret_value) {
    const char *text = client->args->option[option];
    struct err err = {0};
    char *end = NULL;
    long value = text == NULL ? otherwise : strtol(text, &end, 10);
    if (text != NULL && (end == text || *end != '\0' || value < 1 || value > most)) {
        err_set(&err, ERR_REQUEST, "--%s %.40s: it must be a whole number from 1 to %ld", option_rows[option].name, text, most);
        return client_fail(&err);
    }
    *ret_value = value;
    return 0;
}

static int parse_object(const struct http_response *response, json_t **ret_body) {
    struct err err = {0}, why = {0};
    json_t *body = json_parse(response->body, response->size, &why);
    if (body != NULL && json_is_object(body)) {
        *ret_body = body;
        return 0;
    }
    json_decref(body);
    err_set(&err, ERR_PROTOCOL, "the server's answer is no JSON object (%s); is it a residuum server?",
            why.text[0] == '\0' ? "it is something else" : why.text);
    return client_fail(&err);
}

int client_get(const struct client *client, const char *path, json_t **ret_body) {
    struct http_response response = {0};
    int code = client_send(client, &(struct http_request){.method = "GET", .path = path}, &response);
    if (code == 0)
        code = parse_object(&response, ret_body);
    http_response_done(&response);
    return code;
}

int client_object(const struct client *client, const char *method, const char *path, json_t **ret_body) {
    struct http_response response = {0};
    int code = client_send(client, &(struct http_request){.method = method, .path = path}, &response);
    *ret_body = NULL;
    if (code == 0)
        code = parse_object(&response, ret_body); /* with --json as well: what is printed as JSON is JSON */
    if (code == 0 && client->json) {
        client_print_json(response.body, response.size);
        json_decref(*ret_body);
        *ret_body = NULL;
    }
    http_response_done(&response);
    return code;
}

static bool is_job_id(const char *id) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return id[0] != '\0' && strspn(id, allowed) == strlen(id) && strlen(id) <= 64;
}

const char *client_job_id(const json_t *job) {
    const char *id = field_text(job, "id");
    return is_job_id(id) ? id : "";
}

int client_job_path(const struct client *client, const char *rest, char **ret_path) {
    const char *id = client->args->argument[0];
    struct err err = {0};
    if (!is_job_id(id)) {
        err_set(&err, ERR_REQUEST, "\"%.80s\" is no job id; \"residuum ls\" prints ids such as job_4hXw0rQm1c8ZtTqv9LxK2b", id);
        return client_fail(&err);
    }
    return asprintf(ret_path, "/v1/jobs/%s%s", id, rest) < 0 ? out_of_memory() : 0;
}
