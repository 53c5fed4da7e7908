/* The commands verify and receipt: whether a job comes out the same again, and what that hangs on. */
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/results.h"
#include "client/table.h"
#include "client/watch.h"

enum { EXIT_DIFFERS = 1 };

/* --- verify --- */

static int print_json(const json_t *verification) {
    json_t *line = json_pack("{s:O}", "verification", verification);
    int code = results_print_json(line);
    json_decref(line);
    return code;
}

static void print_text(const json_t *job, const char *result) {
    if (strcmp(result, "identical") == 0)
        printf("identical: the weights are the same after each of %lld epochs\n", (long long)field_int(job, "epochs_done"));
    else if (strcmp(result, "differs") == 0)
        printf("differs: the weights are not the same after epoch %lld\n", (long long)field_int(job, "verification.epoch"));
    else
        printf("%s: the verifying job ended without an answer\n", result);
}

/* watched: the exit code of following the job; it counts where there is no answer. */
static int tell(const struct client *client, const char *id, int watched) {
    char path[96];
    json_t *job = NULL;
    snprintf(path, sizeof path, "/v1/jobs/%.64s", id);
    int code = client_get(client, path, &job);
    const json_t *verification = json_object_get(job, "verification");
    const char *result = field_text(verification, "result");
    if (code == 0 && client->json)
        code = print_json(verification);
    else if (code == 0)
        print_text(job, result);
    if (code == 0)
        code = strcmp(result, "identical") == 0 ? 0 : strcmp(result, "differs") == 0 || watched == 0 ? EXIT_DIFFERS : watched;
    json_decref(job);
    return code;
}

static int follow(const struct client *client, const json_t *job) {
    enum { EXIT_JOB = 1 };
    const char *id = client_job_id(job);
    client_say(client, "%s runs %s again.", id, client->args->argument[0]);
    int watched = watch_job(client, id);
    return watched == 0 || watched == EXIT_JOB ? tell(client, id, watched) : watched;
}

int command_verify(struct client *client) {
    char *path = NULL;
    json_t *job = NULL;
    struct client plain = *client; /* the answer to the request is not printed: what came out is */
    plain.json = false;
    int code = client_job_path(client, "/verify", &path);
    if (code == 0)
        code = client_object(&plain, "POST", path, &job);
    if (code == 0)
        code = follow(client, job);
    json_decref(job);
    free(path);
    return code;
}

/* --- receipt --- */

static void add_attempt(struct table *table, const json_t *attempt) {
    char number[24], threads[24];
    snprintf(number, sizeof number, "%lld", (long long)field_int(attempt, "attempt"));
    snprintf(threads, sizeof threads, "%lld", (long long)field_int(attempt, "threads"));
    table_row(table, (const char *[]){number, field_text(attempt, "program"), field_text(attempt, "backend"),
                                      field_text(attempt, "backend_version"), field_text(attempt, "algorithms"),
                                      field_text(attempt, "precision"), threads, field_text(attempt, "device")});
}

static void add_epoch(struct table *table, const json_t *epoch) {
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)field_int(epoch, "epoch"));
    table_row(table, (const char *[]){number, field_text(epoch, "weights_sha256")});
}

static int print_tables(const struct client *client, const json_t *receipt) {
    struct table attempts, epochs;
    struct err err = {0};
    const json_t *item;
    size_t i;
    table_init(&attempts, "rlllllrl");
    table_row(&attempts,
              (const char *[]){"ATTEMPT", "PROGRAM", "BACKEND", "VERSION", "ALGORITHMS", "PRECISION", "THREADS", "DEVICE"});
    json_array_foreach(json_object_get(receipt, "attempts"), i, item) add_attempt(&attempts, item);
    table_init(&epochs, "rl");
    table_row(&epochs, (const char *[]){"EPOCH", "SHA-256 OF THE WEIGHTS"});
    json_array_foreach(json_object_get(receipt, "epochs"), i, item) add_epoch(&epochs, item);
    if (table_print(&attempts, &client->term, true, &err) == 0) {
        putchar('\n');
        table_print(&epochs, &client->term, true, &err);
    }
    table_done(&attempts);
    table_done(&epochs);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

static int print_receipt(const struct client *client, const json_t *receipt) {
    struct table facts;
    struct err err = {0};
    const json_t *last =
        json_array_get(json_object_get(receipt, "attempts"), json_array_size(json_object_get(receipt, "attempts")) - 1);
    char seed[32];
    snprintf(seed, sizeof seed, "%lld", (long long)field_int(receipt, "seed"));
    table_init(&facts, "ll");
    table_row(&facts, (const char *[]){"Job", field_text(receipt, "job")});
    table_row(&facts, (const char *[]){"Seed", seed});
    table_row(&facts, (const char *[]){"Spec", field_text(receipt, "spec_sha256")});
    table_row(&facts, (const char *[]){"Data", field_text(last, "data_sha256")});
    table_print(&facts, &client->term, false, &err);
    table_done(&facts);
    if (err.code != ERR_NONE)
        return client_fail(&err);
    putchar('\n');
    if (!field_true(receipt, "uniform"))
        client_say(client, "Not all attempts ran alike: another run need not give the same weights.");
    return print_tables(client, receipt);
}

int command_receipt(struct client *client) {
    char *path = NULL;
    json_t *receipt = NULL;
    int code = client_job_path(client, "/receipt", &path);
    if (code == 0)
        code = client_object(client, "GET", path, &receipt);
    if (code == 0 && receipt != NULL)
        code = print_receipt(client, receipt);
    json_decref(receipt);
    free(path);
    return code;
}
