/* residuum dataset add: announces an archive, sends it, goes on after broken connections, waits for the import. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/backoff.h"
#include "client/dataset.h"
#include "client/field.h"
#include "client/interrupt.h"
#include "client/problem.h"
#include "client/text.h"
#include "common/json.h"
#include "common/sha256.h"

enum { NAME_MAX_BYTES = 32, TRIES_MAX = 8, RETRY_BASE_MS = 400, RETRY_CAP_MS = 8000, LOOK_MS = 300, INTERRUPTED = 130 };

struct adding {
    const struct client *client;
    FILE *file;
    int64_t bytes;
    char sha256[65], name[81];
    char *path; /* "/v1/datasets/ds_..." */
};

/* --- the file --- */

static int open_archive(struct adding *adding, const char *path, struct err *err) {
    struct stat st;
    adding->file = fopen(path, "rb");
    if (adding->file == NULL)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %.200s", path);
    if (fstat(fileno(adding->file), &st) == 0 && S_ISDIR(st.st_mode))
        return err_set(err, ERR_REQUEST, "%.200s is a directory; pack it: tar -cf set.tar -C %.200s .", path, path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return err_set(err, ERR_REQUEST, "%.200s is no file with something in it", path);
    adding->bytes = st.st_size;
    if (sha256_hex_file(fileno(adding->file), adding->sha256) != 0)
        return err_errno(err, ERR_IO, errno, "cannot read %.200s", path);
    return 0;
}

/* "flowers" of "dir/flowers.tar.gz", as long as a name may be. */
static void name_of(const char *path, char ret_name[NAME_MAX_BYTES + 1]) {
    const char *base = strrchr(path, '/');
    base = base != NULL ? base + 1 : path;
    snprintf(ret_name, NAME_MAX_BYTES + 1, "%.*s", (int)strcspn(base, "."), base);
}

/* --- the announcement --- */

/* An option that is a JSON number, or (size) two of them with a comma. */
static json_t *number(const char *text) {
    char list[64];
    snprintf(list, sizeof list, strchr(text, ',') != NULL ? "[%.50s]" : "%.50s", text);
    json_t *value = json_loads(list, JSON_DECODE_ANY, NULL);
    return value != NULL ? value : json_string(text); /* the server says what is wrong with it */
}

static json_t *options_json(const struct args *args) {
    static const struct {
        enum option option;
        const char *key;
    } numbers[] = {
        {OPTION_SIZE, "size"}, {OPTION_CHANNELS, "channels"}, {OPTION_TEST_FRACTION, "test_fraction"}, {OPTION_SEED, "seed"}};
    json_t *options = json_object();
    int rc = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (args->option[numbers[i].option] != NULL)
            rc |= json_object_set_new(options, numbers[i].key, number(args->option[numbers[i].option]));
    }
    if (args->option[OPTION_FIT] != NULL)
        rc |= json_object_set_new(options, "fit", json_string(args->option[OPTION_FIT]));
    if (args->option[OPTION_SKIP_DAMAGED] != NULL)
        rc |= json_object_set_new(options, "skip_damaged", json_true());
    return json_whole(options, rc);
}

static int announce(struct adding *adding, int64_t *ret_offset) {
    struct err err = {0};
    struct http_response response = {0};
    json_t *body = json_pack("{s:s, s:I, s:s, s:o}", "name", adding->name, "bytes", (json_int_t)adding->bytes, "sha256",
                             adding->sha256, "options", options_json(adding->client->args));
    char *text = body != NULL ? json_text(body) : NULL;
    json_decref(body);
    if (text == NULL) {
        err_set(&err, ERR_REQUEST, "the data set cannot be announced: --name or an option is not UTF-8 text");
        return client_fail(&err);
    }
    struct http_request request = {.method = "POST", .path = "/v1/datasets", .body = text, .body_size = strlen(text)};
    int code = client_send(adding->client, &request, &response);
    json_t *dataset = code == 0 ? json_parse(response.body, response.size, NULL) : NULL;
    if (code == 0)
        code = dataset_path(field_text(dataset, "id"), "", &adding->path);
    *ret_offset = field_int(dataset, "upload.offset");
    json_decref(dataset);
    http_response_done(&response);
    free(text);
    return code;
}

/* --- the content --- */

/* Sends from an offset. Returns 0 when all has arrived, -1 when it is worth another try, or the exit code. */
static int send_from(struct adding *adding, int64_t offset, bool last_try) {
    char path[160];
    struct err err = {0};
    struct http_response response = {0};
    snprintf(path, sizeof path, "%s/content?offset=%lld", adding->path, (long long)offset);
    if (fseeko(adding->file, offset, SEEK_SET) != 0) {
        err_errno(&err, ERR_IO, errno, "cannot read the archive");
        return client_fail(&err);
    }
    struct http_request request = {.method = "PATCH", .path = path, .send = adding->file, .send_size = adding->bytes - offset};
    if (http_send(adding->client->http, &request, &response, &err) != 0)
        return interrupt_seen() ? INTERRUPTED : last_try ? client_fail(&err) : -1;
    int code = response.status >= 200 && response.status < 300 ? 0 : -1;
    if (code != 0 && (last_try || !(response.status == 409 || http_try_later(response.status)))) {
        problem_print(stderr, &response);
        code = problem_exit(&response);
    }
    http_response_done(&response);
    return code;
}

/* Asks where to go on. Returns 0, -1 when the server does not answer, or the exit code. */
static int ask_offset(const struct adding *adding, int64_t *offset, bool *ret_sent) {
    struct err err = {0};
    struct http_response response = {0};
    if (http_send(adding->client->http, &(struct http_request){.method = "GET", .path = adding->path}, &response, &err) != 0)
        return -1;
    json_t *dataset = response.status == 200 ? json_parse(response.body, response.size, NULL) : NULL;
    *offset = field_int(dataset, "upload.offset");
    *ret_sent = dataset != NULL && strcmp(field_text(dataset, "state"), "uploading") != 0;
    int code = dataset != NULL || http_try_later(response.status) ? (dataset != NULL ? 0 : -1) : problem_exit(&response);
    if (code > 0)
        problem_print(stderr, &response);
    json_decref(dataset);
    http_response_done(&response);
    return code;
}

static int send_all(struct adding *adding, int64_t offset) {
    bool sent = false;
    int code = send_from(adding, offset, false);
    for (int tries = 1; code < 0 && !sent; tries++) {
        if (interrupt_wait_ms(backoff_next_ms(tries, RETRY_BASE_MS, RETRY_CAP_MS, 0)))
            return INTERRUPTED;
        int64_t there = offset;
        code = ask_offset(adding, &there, &sent);
        if (there > offset) /* what arrives is worth going on */
            tries = 1;
        offset = there;
        if (code == 0 && !sent) {
            client_say(adding->client, "Going on at byte %lld of %lld.", (long long)offset, (long long)adding->bytes);
            code = send_from(adding, offset, tries >= TRIES_MAX);
        } else if (code < 0 && tries >= TRIES_MAX) {
            struct err err = {0};
            err_set(&err, ERR_NETWORK, "the server does not answer any more; the same command goes on later");
            code = client_fail(&err);
        }
    }
    return code;
}

/* --- the import --- */

/* What a job's "dataset" is to be. */
static void print_name(const char *name) {
    text_put(stdout, name, strlen(name), TEXT_LINE);
    putchar('\n');
}

static int report(const struct adding *adding, const json_t *dataset) {
    const char *name = field_text(dataset, "name"), *entry = field_text(dataset, "failure.entry");
    if (strcmp(field_text(dataset, "state"), "failed") == 0) {
        client_say(adding->client, "The import failed: %s%s%s", field_text(dataset, "failure.text"), entry[0] != '\0' ? ": " : "",
                   entry);
        return 1;
    }
    if (strcmp(name, adding->name) != 0)
        client_say(adding->client, "The data set %s holds the same already.", name);
    print_name(name);
    return 0;
}

static int wait_for_import(const struct adding *adding) {
    for (;;) {
        json_t *dataset = NULL;
        int code = client_get(adding->client, adding->path, &dataset);
        const char *state = field_text(dataset, "state");
        bool ended = strcmp(state, "ready") == 0 || strcmp(state, "failed") == 0;
        if (code == 0 && ended)
            code = report(adding, dataset);
        json_decref(dataset);
        if (code != 0 || ended)
            return code;
        if (interrupt_wait_ms(LOOK_MS))
            return INTERRUPTED;
    }
}

static int add(struct adding *adding) {
    int64_t offset = 0;
    int code = announce(adding, &offset);
    if (code == 0)
        code = send_all(adding, offset);
    if (code == 0 && adding->client->args->option[OPTION_WAIT] != NULL)
        return wait_for_import(adding);
    if (code == 0) {
        print_name(adding->name);
        client_say(adding->client, "It is being imported; \"residuum dataset show %s\" tells how far.", adding->name);
    }
    return code;
}

int dataset_add(struct client *client) {
    const char *path = client->args->argument[1], *name = client->args->option[OPTION_NAME];
    struct adding adding = {.client = client};
    struct err err = {0};
    if (name != NULL)
        snprintf(adding.name, sizeof adding.name, "%s", name);
    else
        name_of(path, adding.name);
    interrupt_catch();
    int code = open_archive(&adding, path, &err) == 0 ? add(&adding) : client_fail(&err);
    if (adding.file != NULL)
        fclose(adding.file);
    free(adding.path);
    return code;
}
