/* The table of commands and options: usage, help and parsing come from the same rows. */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/http.h"
#include "client/table.h"
#include "client/term.h"
#include "common/err.h"

#define CLIENT_SERVER_DEFAULT "http://127.0.0.1:8080"

/* --- options --- */

enum option {
    OPTION_SERVER,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_WATCH,
    OPTION_DRY_RUN,
    OPTION_NAME,
    OPTION_STATE,
    OPTION_LIMIT,
    OPTION_DOT,
    OPTION_LAYERS,
    OPTION_EPOCH,
    OPTION_CONFUSED,
    OPTION_OUTPUT,
    OPTION_ONE_HOT,
    OPTION_GPU,
    OPTION_RESUME,
    OPTION_WAIT,
    OPTION_SIZE,
    OPTION_FIT,
    OPTION_CHANNELS,
    OPTION_TEST_FRACTION,
    OPTION_SEED,
    OPTION_SKIP_DAMAGED,
    OPTION_ONNX,
    OPTION_NORMALIZE
};
enum { OPTIONS_N = OPTION_NORMALIZE + 1 };

struct option_row {
    const char *name;  /* without the dashes */
    const char *value; /* what help calls its value; NULL: it takes none */
    const char *help;
    char letter; /* its short form, or 0 */
    bool global; /* every command takes it */
};

extern const struct option_row option_rows[OPTIONS_N];

/* --- commands --- */

enum { ARGUMENTS_MAX = 2 };

struct args {
    const struct command *command; /* NULL: none was named */
    const char *option[OPTIONS_N]; /* the value, "" for one that takes none, NULL when it was not given */
    const char *argument[ARGUMENTS_MAX];
    int arguments_n;
};

/* What a command runs with. */
struct client {
    const struct args *args;
    struct http *http; /* NULL for commands that need no server */
    struct term term;
    bool json, quiet;
};

/* Returns the exit code. */
typedef int command_fn(struct client *client);

struct command {
    const char *name;
    const char *arguments; /* as usage shows them, "" for none */
    int least, most;       /* number of arguments */
    unsigned options;      /* bit set of 1 << enum option, beside the global ones */
    bool offline;          /* needs no server */
    const char *help;      /* one line */
    const char *details;   /* whole sentences, lines of at most 80 columns */
    command_fn *run;
};

extern const struct command commands[];
extern const size_t commands_n;

const struct command *command_find(const char *name); /* NULL when there is none */

/* Fills *ret_args from the words after the program's name. The strings are argv's. ERR_REQUEST for what is not in the tables,
 * with the nearest name. */
int command_parse(int words, char **argv, struct args *ret_args, struct err *err);

void command_usage(FILE *file);                               /* one screen: commands, options, environment, exit codes */
void command_help(FILE *file, const struct command *command); /* one command in full */

/* --- what commands share (client.c) --- */

/* Sends a request; a failure or an answer other than 2xx is printed. Returns 0 with *ret_response to be freed, or the exit code.
 */
int client_send(const struct client *client, const struct http_request *request, struct http_response *ret_response);

/* The same for a request without a body, whose answer is a JSON object. *ret_body is a new reference. With --json the answer is
 * printed as it came, *ret_body is NULL and 0 is returned: there is nothing left to do. */
int client_object(const struct client *client, const char *method, const char *path, json_t **ret_body);

/* GET of a JSON object, never printed. */
int client_get(const struct client *client, const char *path, json_t **ret_body);

/* "/v1/jobs/" + the command's argument, a job's id, + rest. Returns 0, or the exit code after printing why the id cannot be one.
 */
int client_job_path(const struct client *client, const char *rest, char **ret_path);

/* The id in the server's JSON of a job: one that may stand in a path and on a terminal; "" if it sent something else. Borrowed.
 */
const char *client_job_id(const json_t *job);

/* The value of a numeric option, or otherwise when it was not given. Returns 0, or the exit code after printing what is wrong. */
int client_number(const struct client *client, enum option option, long most, long otherwise, long *ret_value);

/* Saves the answer of a GET as a file, whole or not at all; "-": to standard output. Returns 0 or the exit code. (files.c) */
int client_save(const struct client *client, const char *path, const char *name);

/* Prints a table with a heading and ends it. Returns 0 or the exit code. */
int client_table(const struct client *client, struct table *table);

/* Prints an error to standard error; returns its exit code. */
int client_fail(const struct err *err);

/* A message for people on standard error, unless --quiet. */
void client_say(const struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints JSON text and a newline, safe on a terminal. */
void client_print_json(const char *json, size_t size);

/* Reads the job description that the command's argument names, with --name in place of its own. The caller frees. Returns 0, or
 * the exit code after printing what is wrong. (submit.c) */
int client_description(const struct client *client, char **ret_text, size_t *ret_size);

/* --- the commands, by file --- */

command_fn command_submit;                                                                   /* submit.c */
command_fn command_plan;                                                                     /* plan.c */
command_fn command_ls, command_show, command_cancel, command_retry, command_rm, command_log; /* jobs.c */
command_fn command_epochs, command_graph;                                                    /* results.c */
command_fn command_report;                                                                   /* scores.c */
command_fn command_weights, command_export, command_predictions;                             /* files.c */
command_fn command_verify, command_receipt;                                                  /* verify.c */
command_fn command_watch;                                                                    /* watch.c */
command_fn command_devices;                                                                  /* devices.c */
command_fn command_dataset;                                                                  /* dataset.c */
command_fn command_datasets, command_presets, command_version;                               /* catalogue.c */
command_fn command_help_of;                                                                  /* command.c */

#endif
