/* Options: one table, from which the help comes too. */
#include "server/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/version.h"

enum kind { KIND_TEXT, KIND_NUMBER, KIND_FLAG, KIND_HELP, KIND_VERSION };

static const struct option_row {
    const char *name, *value, *help;
    enum kind kind;
    size_t offset, size; /* in struct options */
} rows[] = {
    {"--data", "DIR", "where jobs and the database lie (default: $XDG_STATE_HOME/residuum or ~/.local/state/residuum)", KIND_TEXT,
     offsetof(struct options, data), sizeof((struct options *)0)->data},
    {"--listen", "ADDR:PORT", "address of the HTTP API; port 0: the kernel picks (default: 127.0.0.1:8080)", KIND_TEXT,
     offsetof(struct options, listen), sizeof((struct options *)0)->listen},
    {"--allow-remote", NULL, "permit an address that other machines can reach; there are no accounts yet", KIND_FLAG,
     offsetof(struct options, allow_remote), 0},
    {"--web", "DIR", "the dashboard's files (default: beside this program, or ../share/residuum/web)", KIND_TEXT,
     offsetof(struct options, web), sizeof((struct options *)0)->web},
    {"--worker", "PATH", "the worker program (default: beside this program, or in ../lib/residuum)", KIND_TEXT,
     offsetof(struct options, worker), sizeof((struct options *)0)->worker},
    {"--worker-silence", "SECONDS", "kill a worker that says nothing for so long (default: 1800)", KIND_NUMBER,
     offsetof(struct options, silence_s), 0},
    {"--worker-grace", "SECONDS", "how long a worker may take to stop before it is killed (default: 15)", KIND_NUMBER,
     offsetof(struct options, grace_s), 0},
    {"--probe-timeout", "SECONDS", "how long the search for devices may take (default: 60)", KIND_NUMBER,
     offsetof(struct options, probe_s), 0},
    {"--inspect-timeout", "SECONDS", "how long a question about a network may take (default: 30)", KIND_NUMBER,
     offsetof(struct options, inspect_s), 0},
    {"--import-timeout", "SECONDS", "how long the import of a data set may take (default: 3600)", KIND_NUMBER,
     offsetof(struct options, import_s), 0},
    {"--dataset-max", "MIB", "the largest archive that may be uploaded, and data set made of it, in MiB (default: 20480)",
     KIND_NUMBER, offsetof(struct options, dataset_mib), 0},
    {"--queue-max", "JOBS", "how many jobs may wait before no more are taken (default: 1000)", KIND_NUMBER,
     offsetof(struct options, queue_max), 0},
    {"--self-check", NULL,
     "do not serve, but check whether the GPU computes what it should; on a new GPU or driver, do this first", KIND_FLAG,
     offsetof(struct options, self_check), 0},
    {"--device", "ID", "of --self-check: the device to check, as /v1/devices lists it (default: the first GPU)", KIND_TEXT,
     offsetof(struct options, device), sizeof((struct options *)0)->device},
    {"--brief", NULL, "of --self-check: only what takes some seconds, as at the daemon's start", KIND_FLAG,
     offsetof(struct options, brief), 0},
    {"--version", NULL, "print the version", KIND_VERSION, 0, 0},
    {"--help", NULL, "print this", KIND_HELP, 0, 0},
};
enum { ROWS_N = sizeof rows / sizeof rows[0], NUMBER_MAX = 1000000 };

static void print_help(void) {
    puts("Usage: residuumd [OPTION]...\nThe Residuum daemon: trains neural networks as jobs; HTTP API, queue and dashboard.\n");
    for (size_t i = 0; i < ROWS_N; i++)
        printf("  %s%s%s\n      %s\n", rows[i].name, rows[i].value != NULL ? " " : "", rows[i].value != NULL ? rows[i].value : "",
               rows[i].help);
    puts("\nThe first line on standard output is the address, which also stands in DIR/address. SIGTERM and SIGINT drain: "
         "running\n"
         "jobs save a checkpoint and are queued again; a second signal does not wait for that.");
}

static int set_text(struct options *options, const struct option_row *row, const char *value, struct err *err) {
    size_t length = strlen(value);
    if (length == 0 || length >= row->size)
        return err_set(err, ERR_REQUEST, "%s has %zu bytes; 1 to %zu are possible", row->name, length, row->size - 1);
    memcpy((char *)options + row->offset, value, length + 1);
    return 0;
}

static int set_number(struct options *options, const struct option_row *row, const char *value, struct err *err) {
    char *end;
    long number = strtol(value, &end, 10);
    if (*value == '\0' || *end != '\0' || number < 1 || number > NUMBER_MAX)
        return err_set(err, ERR_REQUEST, "%s %s: '%.40s' is not a number from 1 to %d", row->name, row->value, value, NUMBER_MAX);
    *(int *)(void *)((char *)options + row->offset) = (int)number;
    return 0;
}

/* 0: set; 1: answered, nothing more to do; -1: wrong. */
static int apply(struct options *options, const struct option_row *row, const char *value, struct err *err) {
    if (row->value != NULL && value == NULL)
        return err_set(err, ERR_REQUEST, "%s needs a value: %s %s", row->name, row->name, row->value);
    if (row->value == NULL && value != NULL)
        return err_set(err, ERR_REQUEST, "%s takes no value", row->name);
    switch (row->kind) {
    case KIND_TEXT:
        return set_text(options, row, value, err);
    case KIND_NUMBER:
        return set_number(options, row, value, err);
    case KIND_FLAG:
        *(bool *)((char *)options + row->offset) = true;
        return 0;
    case KIND_HELP:
        print_help();
        return 1;
    case KIND_VERSION:
        puts("residuumd " RESIDUUM_VERSION);
        return 1;
    }
    return 0;
}

static const struct option_row *find(const char *argument, size_t length) {
    for (size_t i = 0; i < ROWS_N; i++) {
        if (strlen(rows[i].name) == length && strncmp(rows[i].name, argument, length) == 0)
            return &rows[i];
    }
    return NULL;
}

/* "--name value" and "--name=value". */
static int arguments(int argc, char **argv, struct options *options, struct err *err) {
    for (int i = 1; i < argc; i++) {
        size_t length = strcspn(argv[i], "=");
        const struct option_row *row = find(argv[i], length);
        if (row == NULL)
            return err_set(err, ERR_REQUEST, "there is no option '%.60s'", argv[i]);
        const char *value = argv[i][length] == '=' ? argv[i] + length + 1 : NULL;
        if (value == NULL && row->value != NULL && i + 1 < argc)
            value = argv[++i];
        int rc = apply(options, row, value, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int fits(int n, size_t size, struct err *err) {
    return n >= 0 && (size_t)n < size ? 0 : err_set(err, ERR_REQUEST, "a path is longer than %zu bytes", size - 1);
}

static int default_data(struct options *options, struct err *err) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state != NULL && state[0] == '/')
        return fits(snprintf(options->data, sizeof options->data, "%s/residuum", state), sizeof options->data, err);
    if (home == NULL || home[0] != '/')
        return err_set(err, ERR_REQUEST, "neither XDG_STATE_HOME nor HOME says where data belongs: give --data DIR");
    return fits(snprintf(options->data, sizeof options->data, "%s/.local/state/residuum", home), sizeof options->data, err);
}

/* In the build folder all lies beside the program; installed, it lies in ../lib/residuum and ../share/residuum. Of the two places
 * the second is the answer when neither is there, so that a message names where an installation has it. */
static int beside_or(const char *dir, const char *name, const char *installed, char *ret_path, size_t size, struct err *err) {
    if (fits(snprintf(ret_path, size, "%s/%s", dir, name), size, err) != 0)
        return -1;
    if (access(ret_path, R_OK) == 0)
        return 0;
    return fits(snprintf(ret_path, size, "%s/%s/%s", dir, installed, name), size, err);
}

static int default_paths(struct options *options, struct err *err) {
    char dir[PATH_MAX];
    if (file_exe_dir(dir, sizeof dir, err) != 0)
        return -1;
    if (options->worker[0] == '\0' &&
        beside_or(dir, "residuum-worker", "../lib/residuum", options->worker, sizeof options->worker, err) != 0)
        return -1;
    if (options->web[0] != '\0')
        return 0;
    return beside_or(dir, "web", "../share/residuum", options->web, sizeof options->web, err);
}

/* A worker runs in its job's directory, so that a path from the command line must not depend on ours. */
static int make_absolute(struct options *options, struct err *err) {
    char resolved[PATH_MAX];
    if (strchr(options->worker, '/') != NULL && realpath(options->worker, resolved) != NULL)
        memcpy(options->worker, resolved, strlen(resolved) + 1);
    if (options->worker[0] != '/')
        return err_set(err, ERR_REQUEST, "there is no worker program %.200s: give its path with --worker", options->worker);
    return 0;
}

int options_parse(int argc, char **argv, struct options *ret_options, int *ret_status, struct err *err) {
    struct options options = {.listen = "127.0.0.1:8080",
                              .silence_s = 1800,
                              .grace_s = 15,
                              .probe_s = 60,
                              .inspect_s = 30,
                              .queue_max = 1000,
                              .import_s = 3600,
                              .dataset_mib = 20480};
    int rc = arguments(argc, argv, &options, err);
    if (rc > 0) {
        *ret_status = 0;
        return -1;
    }
    if (rc == 0 && !options.self_check && (options.brief || options.device[0] != '\0'))
        rc = err_set(err, ERR_REQUEST, "--device and --brief belong to --self-check");
    if (rc != 0 || (options.data[0] == '\0' && default_data(&options, err) != 0) || default_paths(&options, err) != 0 ||
        make_absolute(&options, err) != 0)
        return -1;
    *ret_options = options;
    return 0;
}
