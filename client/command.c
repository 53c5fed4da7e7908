/* The command table, and what is derived from it: see command.h. */
#include "client/command.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"

const struct option_row option_rows[OPTIONS_N] = {
    [OPTION_SERVER] = {"server", "URL", "the server's address", 's', true},
    [OPTION_JSON] = {"json", NULL, "print JSON: one object, or one object a line", 'j', true},
    [OPTION_QUIET] = {"quiet", NULL, "no messages and no progress, only results and errors", 'q', true},
    [OPTION_HELP] = {"help", NULL, "print help, of a command when one is named", 'h', true},
    [OPTION_VERSION] = {"version", NULL, "print the client's version", 'V', true},
    [OPTION_WATCH] = {"watch", NULL, "follow the job until it ends", 'w', false},
    [OPTION_DRY_RUN] = {"dry-run", NULL, "only check the job: shapes, parameters, FLOPs, memory", 'n', false},
    [OPTION_NAME] = {"name", "TEXT", "name the job or data set, whatever the file says", 0, false},
    [OPTION_STATE] = {"state", "LIST", "only jobs in these states, separated by commas", 0, false},
    [OPTION_LIMIT] = {"limit", "N", "print the first N of them (default: 50)", 0, false},
    [OPTION_DOT] = {"dot", NULL, "print Graphviz DOT instead of a table", 0, false},
    [OPTION_LAYERS] = {"layers", NULL, "print JSON to be edited and submitted as \"model\"", 0, false},
    [OPTION_EPOCH] = {"epoch", "N", "of this epoch (default: the last one)", 0, false},
    [OPTION_CONFUSED] = {"confused", "K", "the K most confused classes and pairs (default: 4)", 0, false},
    [OPTION_OUTPUT] = {"output", "FILE", "save to FILE, or to standard output for \"-\"", 'o', false},
    [OPTION_ONE_HOT] = {"one-hot", NULL, "print the predicted class as a one-hot vector, too", 0, false},
    [OPTION_GPU] = {"gpu", "NAME", "on this GPU: of the server by its id, or h100, ...", 0, false},
    [OPTION_RESUME] = {"resume", "DEVICE", "give jobs to a drained device again", 0, false},
    [OPTION_WAIT] = {"wait", NULL, "until the import has ended; 1 when it failed", 0, false},
    [OPTION_SIZE] = {"size", "N", "make all images N x N, or H,W (8 to 224)", 0, false},
    [OPTION_FIT] = {"fit", "FIT", "of other shapes: crop (default), pad, stretch", 0, false},
    [OPTION_CHANNELS] = {"channels", "N", "1 (grey) or 3 (colour), whatever the images have", 0, false},
    [OPTION_TEST_FRACTION] = {"test-fraction", "F", "for the test, where there is none (default: 0.2)", 0, false},
    [OPTION_SEED] = {"seed", "N", "of that choice (default: 1)", 0, false},
    [OPTION_SKIP_DAMAGED] = {"skip-damaged", NULL, "leave damaged images out", 0, false},
    [OPTION_ONNX] = {"onnx", NULL, "as ONNX (the default)", 0, false},
    [OPTION_NORMALIZE] = {"normalize", NULL, "take pixels of 0 to 255, normalized in the network", 0, false},
};

#define BIT(option) (1u << (option))

const struct command commands[] = {
    {"submit", "FILE|-", 1, 1, BIT(OPTION_WATCH) | BIT(OPTION_DRY_RUN) | BIT(OPTION_NAME), false, "queue a job",
     "Sends the job description in FILE, or on standard input for \"-\", and prints the\n"
     "id of the queued job. The smallest description is\n"
     "  {\"dataset\": \"fashion-mnist\", \"model\": \"resnet20\"}\n"
     "and every other field has a default; \"residuum show JOB\" prints them all.\n"
     "When the network fails the request is repeated with the same Idempotency-Key, so\n"
     "that the job is queued once. With --watch the exit code is that of watch.\n",
     command_submit},
    {"plan", "FILE|-", 1, 1, BIT(OPTION_GPU), false, "tell whether a job fits into a GPU's memory",
     "Queues nothing. Prints what the job in FILE needs of a GPU's memory and the\n"
     "largest batch size that fits: on the GPU that --gpu names, which the server need\n"
     "not have (a100, b200, h100, r3090, r4090, r5090, t4), else on each device of the\n"
     "server to which it may go. The exit code is 0 when the job fits (on one of them)\n"
     "and 1 when not.\n"
     "With --json each GPU is a line.\n",
     command_plan},
    {"ls", "", 0, 0, BIT(OPTION_STATE) | BIT(OPTION_LIMIT), false, "list jobs, newest first",
     "States are queued, starting, running, succeeded, failed and cancelled. A job\n"
     "without a name is shown by its model in parentheses. With --json each line is\n"
     "one job.\n",
     command_ls},
    {"show", "JOB", 1, 1, 0, false, "print a job with every field of its description", "", command_show},
    {"watch", "JOB", 1, 1, 0, false, "follow a job to its end",
     "Prints a line per epoch with loss and accuracy on training and test images, a\n"
     "progress bar on a terminal or a progress line about every 2 s elsewhere, and at\n"
     "the end the test accuracy, the confusion matrix and the job's page's address.\n"
     "Lost connections are taken up again without losing or repeating anything. Ctrl-C\n"
     "leaves the job running. With --json each event is a line\n"
     "  {\"event\": \"job|progress|epoch\", \"id\": N, \"data\": {...}}\n"
     "with the epochs finished before (\"id\": null) and the job as it is first.\n"
     "The exit code is 0 when the job succeeded and 1 when it failed or was cancelled.\n",
     command_watch},
    {"cancel", "JOB", 1, 1, 0, false, "cancel a job",
     "A queued job ends at once, a running one when its worker has stopped. Cancelling\n"
     "twice is fine; a job that succeeded or failed cannot be cancelled (exit code 5).\n",
     command_cancel},
    {"retry", "JOB", 1, 1, 0, false, "queue a failed or cancelled job again", "It goes on from its last checkpoint.\n",
     command_retry},
    {"rm", "JOB", 1, 1, 0, false, "delete an ended job and everything it produced", "", command_rm},
    {"log", "JOB", 1, 1, 0, false, "print the end of what the job's worker logged", "", command_log},
    {"graph", "JOB", 1, 1, BIT(OPTION_DOT) | BIT(OPTION_LAYERS), false, "print the job's network, layer by layer",
     "Shapes are channels x height x width of each layer's output, FLOPs those of one\n"
     "image's forward pass. \"residuum graph JOB --dot | dot -Tsvg > net.svg\" draws it.\n",
     command_graph},
    {"report", "JOB", 1, 1, BIT(OPTION_EPOCH) | BIT(OPTION_CONFUSED), false, "print precision, recall and F1 of every class",
     "On the test images after the last epoch, or another one, with the classes and\n"
     "pairs that are confused most.\n",
     command_report},
    {"weights", "JOB [EPOCH]", 1, 2, BIT(OPTION_OUTPUT), false, "list the weights a job keeps, or save those of an epoch",
     "EPOCH is a number, \"last\", or \"best\" (by the validation set). The file is in the\n"
     "safetensors format, with PyTorch's names; without --output it is called\n"
     "JOB-epoch-EPOCH.safetensors.\n",
     command_weights},
    {"export", "JOB [EPOCH]", 1, 2, BIT(OPTION_ONNX) | BIT(OPTION_NORMALIZE) | BIT(OPTION_OUTPUT), false,
     "save the whole network as an ONNX file",
     "EPOCH is a number, \"last\" (the default), or \"best\" (by the validation set). The\n"
     "network has the input \"image\" and the outputs \"logits\" and \"softmax\"; what else\n"
     "is to know stands in the file's metadata. Without --output it is called\n"
     "JOB-epoch-EPOCH.onnx.\n",
     command_export},
    {"predictions", "JOB", 1, 1, BIT(OPTION_LIMIT) | BIT(OPTION_OUTPUT) | BIT(OPTION_ONE_HOT), false,
     "print what the network says of the test images",
     "With --output all of them are saved as a safetensors file: softmax, labels and\n"
     "predicted. With --json each line is one image.\n",
     command_predictions},
    {"verify", "JOB", 1, 1, 0, false, "run a job again and compare the weights",
     "Follows the new job as watch does and says what came out: the exit code is 0\n"
     "when the weights are identical after every epoch, and 1 when they differ. With\n"
     "--json the last line is {\"verification\": {...}}.\n",
     command_verify},
    {"receipt", "JOB", 1, 1, 0, false, "print what decides a job's weights, and their hashes", "", command_receipt},
    {"epochs", "JOB", 1, 1, 0, false, "print the finished epochs", "With --json each line is one epoch.\n", command_epochs},
    {"devices", "", 0, 0, BIT(OPTION_RESUME), false, "list what the server can train on",
     "A drained device gets no jobs, since it failed or did not pass its self-check.\n"
     "Have it examined; --resume, or a restart of the server, puts it back.\n",
     command_devices},
    {"datasets", "", 0, 0, 0, false, "list the data sets", "", command_datasets},
    {"dataset", "DO [WHAT]", 1, 2,
     BIT(OPTION_NAME) | BIT(OPTION_WAIT) | BIT(OPTION_SIZE) | BIT(OPTION_FIT) | BIT(OPTION_CHANNELS) | BIT(OPTION_TEST_FRACTION) |
         BIT(OPTION_SEED) | BIT(OPTION_SKIP_DAMAGED) | BIT(OPTION_OUTPUT),
     false, "import, show or delete a data set",
     "residuum dataset add FILE     send an archive and have it imported\n"
     "residuum dataset ls           the same as residuum datasets\n"
     "residuum dataset show NAME    what it holds, or how far its import is\n"
     "residuum dataset sheet NAME   save 25 images of each class as NAME.png\n"
     "residuum dataset rm NAME      delete it; one that jobs use is kept\n"
     "An archive is a zip or a tar (plain, gz, xz, zst) with a folder of PNG and JPEG\n"
     "images per class, perhaps below train/ and test/; with the binary files of\n"
     "CIFAR-10 or CIFAR-100; with the IDX files of the MNIST family; or a NumPy .npz.\n"
     "Without --name it is called as the file. When the connection breaks, sending\n"
     "goes on where it was; after that, the same command goes on, too.\n",
     command_dataset},
    {"presets", "", 0, 0, 0, false, "list the model presets", "", command_presets},
    {"version", "", 0, 0, 0, false, "print the versions of client and server", "", command_version},
    {"help", "[COMMAND]", 0, 1, 0, true, "print this help, or that of a command", "", command_help_of},
};
const size_t commands_n = sizeof commands / sizeof commands[0];

const struct command *command_find(const char *name) {
    for (size_t i = 0; i < commands_n; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* --- parsing --- */

static int unknown_command(const char *name, struct err *err) {
    const char *names[sizeof commands / sizeof commands[0]];
    for (size_t i = 0; i < commands_n; i++)
        names[i] = commands[i].name;
    const char *near = json_nearest(name, names, commands_n);
    if (near != NULL)
        return err_set(err, ERR_REQUEST, "there is no command \"%.80s\"; did you mean \"%s\"?", name, near);
    return err_set(err, ERR_REQUEST, "there is no command \"%.80s\"; \"residuum help\" lists them", name);
}

static int unknown_option(const char *name, size_t n, struct err *err) {
    char given[80];
    const char *names[OPTIONS_N];
    snprintf(given, sizeof given, "%.*s", (int)n, name);
    for (size_t i = 0; i < OPTIONS_N; i++)
        names[i] = option_rows[i].name;
    const char *near = json_nearest(given, names, OPTIONS_N);
    if (near != NULL)
        return err_set(err, ERR_REQUEST, "there is no option --%s; did you mean --%s?", given, near);
    return err_set(err, ERR_REQUEST, "there is no option --%s; \"residuum help\" lists them", given);
}

/* Takes the option in *at (and the word behind it when that is its value). */
static int take_value(struct args *args, int option, const char *attached, int words, char **argv, int *at, struct err *err) {
    const struct option_row *row = &option_rows[option];
    if (row->value == NULL && attached != NULL)
        return err_set(err, ERR_REQUEST, "the option --%s takes no value", row->name);
    if (row->value != NULL && attached == NULL && *at + 1 >= words)
        return err_set(err, ERR_REQUEST, "the option --%s needs a value: --%s %s", row->name, row->name, row->value);
    if (args->option[option] != NULL && row->value != NULL)
        return err_set(err, ERR_REQUEST, "the option --%s is given twice", row->name);
    if (row->value == NULL)
        args->option[option] = "";
    else
        args->option[option] = attached != NULL ? attached : argv[++*at];
    return 0;
}

static int take_long(struct args *args, int words, char **argv, int *at, struct err *err) {
    const char *name = argv[*at] + 2;
    size_t n = strcspn(name, "=");
    for (int i = 0; i < OPTIONS_N; i++)
        if (strlen(option_rows[i].name) == n && strncmp(option_rows[i].name, name, n) == 0)
            return take_value(args, i, name[n] == '=' ? name + n + 1 : NULL, words, argv, at, err);
    return unknown_option(name, n, err);
}

static int take_letter(struct args *args, int words, char **argv, int *at, struct err *err) {
    const char *word = argv[*at];
    for (int i = 0; i < OPTIONS_N; i++)
        if (option_rows[i].letter == word[1] && word[2] == '\0')
            return take_value(args, i, NULL, words, argv, at, err);
    return err_set(err, ERR_REQUEST, "there is no option \"%.80s\"; \"residuum help\" lists them", word);
}

static int take_argument(struct args *args, const char *word, struct err *err) {
    if (args->command == NULL) {
        args->command = command_find(word);
        return args->command != NULL ? 0 : unknown_command(word, err);
    }
    if (args->arguments_n >= args->command->most)
        return err_set(err, ERR_REQUEST, "\"%.80s\" is too much: residuum %s %s", word, args->command->name,
                       args->command->arguments);
    args->argument[args->arguments_n++] = word;
    return 0;
}

/* That the command takes the options given, and has the arguments it needs. */
static int check_fit(const struct args *args, struct err *err) {
    const struct command *command = args->command;
    for (int i = 0; i < OPTIONS_N && command != NULL; i++)
        if (args->option[i] != NULL && !option_rows[i].global && (command->options & BIT(i)) == 0)
            return err_set(err, ERR_REQUEST, "residuum %s takes no option --%s; \"residuum help %s\" lists its options",
                           command->name, option_rows[i].name, command->name);
    if (args->option[OPTION_HELP] != NULL || args->option[OPTION_VERSION] != NULL)
        return 0;
    if (command == NULL)
        return err_set(err, ERR_REQUEST, "no command is given; \"residuum help\" lists them");
    if (args->arguments_n < command->least)
        return err_set(err, ERR_REQUEST, "something is missing: residuum %s %s", command->name, command->arguments);
    return 0;
}

int command_parse(int words, char **argv, struct args *ret_args, struct err *err) {
    struct args args = {0};
    bool options_over = false;
    int rc = 0;
    for (int at = 0; at < words && rc == 0; at++) {
        const char *word = argv[at];
        if (options_over || word[0] != '-' || word[1] == '\0') /* "-" alone is standard input */
            rc = take_argument(&args, word, err);
        else if (strcmp(word, "--") == 0)
            options_over = true;
        else if (word[1] == '-')
            rc = take_long(&args, words, argv, &at, err);
        else
            rc = take_letter(&args, words, argv, &at, err);
    }
    if (rc == 0)
        rc = check_fit(&args, err);
    if (rc == 0)
        *ret_args = args;
    return rc;
}

/* --- help --- */

enum { OPTION_COLUMN = 21 };

static void print_option(FILE *file, const struct option_row *row) {
    char text[64], letter[8] = "    ";
    if (row->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(text, sizeof text, "%s--%s%s%s", letter, row->name, row->value == NULL ? "" : " ",
             row->value == NULL ? "" : row->value);
    fprintf(file, "  %-*s %s\n", OPTION_COLUMN, text, row->help);
}

static void print_global_options(FILE *file) {
    fputs("\nOptions of every command:\n", file);
    for (int i = 0; i < OPTIONS_N; i++)
        if (option_rows[i].global)
            print_option(file, &option_rows[i]);
}

void command_usage(FILE *file) {
    fputs("Usage: residuum COMMAND [ARGUMENT] [OPTION...]\n\nCommands:\n", file);
    for (size_t i = 0; i < commands_n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %s", commands[i].name, commands[i].arguments);
        fprintf(file, "  %-*s %s\n", OPTION_COLUMN, text, commands[i].help);
    }
    print_global_options(file);
    fputs("\nEnvironment:\n"
          "  RESIDUUM_SERVER      the server's address (default: " CLIENT_SERVER_DEFAULT ")\n"
          "  NO_COLOR             when set: no colours\n"
          "  TERM=dumb            no colours and no progress bar\n"
          "\nExit codes:\n"
          "  0    it worked; watch: the job succeeded; verify: the weights are identical\n"
          "  1    the watched job failed or was cancelled; verify: the weights differ;\n"
          "       plan: the job does not fit\n"
          "  2    wrong usage, or the server refused the input\n"
          "  3    not allowed\n"
          "  4    not found\n"
          "  5    a conflict with the job's state, or a limit was reached\n"
          "  6    the network failed, or the server did not answer in time\n"
          "  7    the server failed, or the output could not be written\n"
          "  130  interrupted\n",
          file);
}

void command_help(FILE *file, const struct command *command) {
    fprintf(file, "Usage: residuum %s%s%s%s\n\n%s: %s.\n", command->name, command->arguments[0] == '\0' ? "" : " ",
            command->arguments, command->options == 0 ? "" : " [OPTION...]", command->name, command->help);
    if (command->details[0] != '\0')
        fprintf(file, "\n%s", command->details);
    for (int i = 0, first = 1; i < OPTIONS_N; i++)
        if ((command->options & BIT(i)) != 0) {
            fputs(first ? "\nOptions:\n" : "", file);
            first = 0;
            print_option(file, &option_rows[i]);
        }
    print_global_options(file);
}

int command_help_of(struct client *client) {
    const struct args *args = client->args;
    if (args->arguments_n == 0) {
        command_usage(stdout);
        return 0;
    }
    const struct command *command = command_find(args->argument[0]);
    if (command != NULL) {
        command_help(stdout, command);
        return 0;
    }
    struct err err = {0};
    unknown_command(args->argument[0], &err);
    return client_fail(&err);
}
