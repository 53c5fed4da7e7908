/* The command submit: sends a job description, again when the network fails, never twice. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/backoff.h"
#include "client/buffer.h"
#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/interrupt.h"
#include "client/problem.h"
#include "client/results.h"
#include "client/watch.h"
#include "common/file.h"
#include "common/json.h"

enum { BODY_MAX = 256 * 1024, TRIES_MAX = 5, RETRY_BASE_MS = 400, RETRY_CAP_MS = 5000 };

/* --- the description --- */

static int read_stdin(char **ret_text, size_t *ret_size, struct err *err) {
    struct buffer text = {0};
    char piece[4096];
    enum buffer_result result = buffer_add(&text, "", 0, BODY_MAX);
    for (size_t n; result == BUFFER_OK && (n = fread(piece, 1, sizeof piece, stdin)) > 0;)
        result = buffer_add(&text, piece, n, BODY_MAX);
    if (result == BUFFER_OK && ferror(stdin))
        err_errno(err, ERR_IO, errno, "cannot read standard input");
    if (result == BUFFER_LIMIT)
        err_set(err, ERR_TOO_LARGE, "standard input has more than %d bytes, the most a job description may have", (int)BODY_MAX);
    if (result == BUFFER_MEMORY)
        err_set(err, ERR_MEMORY, "out of memory while reading standard input");
    if (err->code != ERR_NONE) {
        buffer_done(&text);
        return -1;
    }
    *ret_text = text.data;
    *ret_size = text.size;
    return 0;
}

/* Replaces "name" in a description. */
static int rename_job(const char *name, char **text, size_t *size, struct err *err) {
    json_t *spec = json_parse(*text, *size, err);
    if (spec == NULL)
        return -1;
    char *renamed = NULL;
    json_t *value = json_string(name);
    if (!json_is_object(spec))
        err_set(err, ERR_JSON, "the job description is not a JSON object");
    else if (value == NULL)
        err_set(err, ERR_REQUEST, "--name is not UTF-8 text");
    else if (json_object_set(spec, "name", value) != 0 || (renamed = json_text(spec)) == NULL)
        err_set(err, ERR_MEMORY, "out of memory while naming the job");
    json_decref(value);
    json_decref(spec);
    if (renamed == NULL)
        return -1;
    free(*text);
    *text = renamed;
    *size = strlen(renamed);
    return 0;
}

int client_description(const struct client *client, char **ret_text, size_t *ret_size) {
    const char *file = client->args->argument[0], *name = client->args->option[OPTION_NAME];
    struct err err = {0};
    int rc = strcmp(file, "-") == 0 ? read_stdin(ret_text, ret_size, &err) : file_read(file, BODY_MAX, ret_text, ret_size, &err);
    if (rc == 0 && name != NULL)
        rc = rename_job(name, ret_text, ret_size, &err);
    if (rc == 0)
        return 0;
    int code = client_fail(&err);
    return err.code == ERR_MEMORY ? code : err_exit(ERR_REQUEST); /* whatever is wrong with a local file is wrong usage */
}

/* --- sending --- */

/* Waits before try number attempt + 1, saying why. False when that try is not to be. */
static bool wait_for_retry(const struct client *client, int attempt, const char *why, int64_t retry_after_s) {
    if (attempt + 1 >= TRIES_MAX)
        return false;
    client_say(client, "%s; trying again.", why);
    return !interrupt_wait_ms(backoff_next_ms(attempt, RETRY_BASE_MS, RETRY_CAP_MS, retry_after_s));
}

/* Sends until there is an answer that trying again would not change. Returns 0 with any status, or an exit code. */
static int send_patiently(const struct client *client, const struct http_request *request, struct http_response *ret_response) {
    for (int attempt = 0;; attempt++) {
        struct err err = {0};
        char why[64];
        int rc = http_send(client->http, request, ret_response, &err);
        if (rc == 0 && !http_try_later(ret_response->status))
            return 0;
        if (rc != 0 && err.code != ERR_NETWORK)
            return client_fail(&err);
        snprintf(why, sizeof why, "The server answered with status %ld", rc == 0 ? ret_response->status : 0);
        bool again = wait_for_retry(client, attempt, rc == 0 ? why : err.text, rc == 0 ? ret_response->retry_after_s : 0);
        if (!again)
            return rc == 0 ? 0 : client_fail(&err);
        http_response_done(ret_response);
    }
}

static int submit(const struct client *client, const char *path, const char *key, json_t **ret_answer,
                  struct http_response *ret_response) {
    char *text = NULL;
    size_t size = 0;
    int code = client_description(client, &text, &size);
    if (code == 0) {
        struct http_request request = {.method = "POST", .path = path, .body = text, .body_size = size, .idempotency_key = key};
        code = send_patiently(client, &request, ret_response);
    }
    free(text);
    if (code == 0 && (ret_response->status < 200 || ret_response->status > 299)) {
        problem_print(stderr, ret_response);
        return problem_exit(ret_response);
    }
    struct err err = {0};
    if (code == 0 && (*ret_answer = json_parse(ret_response->body, ret_response->size, &err)) == NULL) {
        err.code = err.code == ERR_JSON ? ERR_PROTOCOL : err.code; /* this time it is not our user's JSON */
        code = client_fail(&err);
    }
    return code;
}

/* --- what came back --- */

/* The memory is that of the GPU which would take the job, if one would. */
static int print_dry_run(const struct client *client, const json_t *answer) {
    char parameters[FORMAT_MAX], flops[FORMAT_MAX], memory[FORMAT_MAX], steps[FORMAT_MAX];
    const json_t *gpu = json_object_get(answer, "gpu");
    double bytes = (double)(gpu != NULL ? field_int(gpu, "need.total_bytes") : field_int(answer, "memory_bytes"));
    int code = results_print_graph(client, json_object_get(answer, "graph"));
    if (code == 0)
        printf("\n%s parameters, %s FLOPs an image, about %s of memory on %s, %s steps an epoch\n",
               format_count(parameters, field_int(answer, "parameters")), format_flops(flops, (double)field_int(answer, "flops")),
               format_bytes(memory, bytes), gpu != NULL ? "a GPU" : "the processor",
               format_count(steps, field_int(answer, "steps_per_epoch")));
    return code;
}

static void say_queued(const struct client *client, const json_t *job, bool replayed) {
    int64_t before = field_int(job, "position");
    if (replayed)
        client_say(client, "The job was queued by an earlier try.");
    else if (strcmp(field_text(job, "state"), "queued") == 0)
        client_say(client, "Queued, %lld job%s before it: %s/#/jobs/%s", (long long)before, before == 1 ? "" : "s",
                   http_server(client->http), client_job_id(job));
}

static int finish(const struct client *client, const json_t *answer, const struct http_response *response) {
    bool watch = client->args->option[OPTION_WATCH] != NULL;
    struct err err = {0};
    if (client->args->option[OPTION_DRY_RUN] != NULL && !client->json)
        return print_dry_run(client, answer);
    if (client->args->option[OPTION_DRY_RUN] == NULL && client_job_id(answer)[0] == '\0') {
        err_set(&err, ERR_PROTOCOL, "the server's answer holds no job id; is it a residuum server?");
        return client_fail(&err);
    }
    if (client->json && !watch)
        client_print_json(response->body, response->size);
    if (client->json && !watch)
        return 0;
    if (!client->json)
        printf("%s\n", client_job_id(answer));
    if (term_flush() != 0)
        return 0; /* term_finish says so */
    say_queued(client, answer, response->replayed);
    return watch ? watch_job(client, client_job_id(answer)) : 0;
}

int command_submit(struct client *client) {
    bool dry_run = client->args->option[OPTION_DRY_RUN] != NULL;
    struct err err = {0};
    char key[33];
    if (dry_run && client->args->option[OPTION_WATCH] != NULL)
        err_set(&err, ERR_REQUEST, "--dry-run queues nothing, so there is nothing to --watch");
    else if (backoff_key(key) != 0)
        err_set(&err, ERR_INTERNAL, "the kernel gives no random numbers for an Idempotency-Key");
    if (err.code != ERR_NONE)
        return client_fail(&err);
    json_t *answer = NULL;
    struct http_response response = {0};
    int code = submit(client, dry_run ? "/v1/jobs?dry_run=true" : "/v1/jobs", dry_run ? NULL : key, &answer, &response);
    if (code == 0)
        code = finish(client, answer, &response);
    json_decref(answer);
    http_response_done(&response);
    return code;
}
