/* residuum, the command-line client: reads the command line, prepares what the command needs, runs it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "common/version.h"

static const char *server_of(const struct args *args) {
    const char *from_environment = getenv("RESIDUUM_SERVER");
    if (args->option[OPTION_SERVER] != NULL)
        return args->option[OPTION_SERVER];
    return from_environment != NULL && from_environment[0] != '\0' ? from_environment : CLIENT_SERVER_DEFAULT;
}

static int run(const struct args *args) {
    struct client client = {.args = args,
                            .term = term_of_stdout(),
                            .json = args->option[OPTION_JSON] != NULL,
                            .quiet = args->option[OPTION_QUIET] != NULL};
    struct err err = {0};
    if (!args->command->offline && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        err_set(&err, ERR_MEMORY, "libcurl cannot start; most likely memory ran out");
    if (err.code != ERR_NONE || (!args->command->offline && http_new(server_of(args), &client.http, &err) != 0))
        return client_fail(&err);
    int code = args->command->run(&client);
    http_free(client.http);
    curl_global_cleanup();
    return code;
}

static int print_help(const struct args *args) {
    if (args->command != NULL)
        command_help(stdout, args->command);
    else
        command_usage(stdout);
    return 0;
}

int main(int argc, char **argv) {
    struct args args = {0};
    struct err err = {0};
    int code = 0;
    signal(SIGPIPE, SIG_IGN); /* a broken connection is an error of a request, a broken output is term_finish's */
    if (command_parse(argc - 1, argv + 1, &args, &err) != 0)
        code = client_fail(&err);
    else if (args.option[OPTION_HELP] != NULL)
        code = print_help(&args);
    else if (args.option[OPTION_VERSION] != NULL)
        printf("residuum %s\n", RESIDUUM_VERSION);
    else
        code = run(&args);
    return term_finish(code);
}
