/* residuum-worker: trains one job, tells what this machine can do, looks into a network, imports a data set, or checks a device.
 * Its protocol is common/event.h. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/version.h"
#include "server/train/import_job.h"
#include "server/train/inspect.h"
#include "server/train/job.h"
#include "server/train/probe.h"
#include "server/train/selfcheck.h"
#include "server/train/stop.h"

static const char usage[] = "usage: residuum-worker            train the job whose line stands on standard input\n"
                            "       residuum-worker --probe    print devices, backends and data sets as JSON\n"
                            "       residuum-worker --inspect  answer the question about a network on standard input\n"
                            "       residuum-worker --import   import the data set whose line stands on standard input\n"
                            "       residuum-worker --version\n";

static void print_usage(FILE *to) {
    fputs(usage, to);
    fputs(selfcheck_usage, to);
}

/* Keeps the real standard output for ourselves and points descriptor 1 at standard error, so that no library's print can get
 * between our lines. */
static int take_stdout(void) {
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        perror("residuum-worker: cannot set standard output aside");
        return -1;
    }
    return fd;
}

/* Modes that print one document. */
static const struct mode {
    const char *flag;
    json_t *(*document)(void); /* NULL: out of memory */
} modes[] = {{"--probe", probe_json}, {"--inspect", inspect_json}};

static const struct mode *find_mode(const char *flag) {
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(modes[i].flag, flag) == 0)
            return &modes[i];
    return NULL;
}

static enum worker_exit print(int fd, json_t *steal_document) {
    char *text = steal_document == NULL ? NULL : json_text(steal_document);
    json_decref(steal_document);
    if (text == NULL) {
        fputs("residuum-worker: out of memory\n", stderr);
        return WORKER_EXIT_RETRY;
    }
    int rc = dprintf(fd, "%s\n", text);
    free(text);
    return rc < 0 ? WORKER_EXIT_RETRY : WORKER_EXIT_DONE;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("residuum-worker " RESIDUUM_VERSION);
        return WORKER_EXIT_DONE;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return WORKER_EXIT_DONE;
    }
    const struct mode *mode = argc == 2 ? find_mode(argv[1]) : NULL;
    bool checks = argc > 1 && strcmp(argv[1], "--self-check") == 0;
    bool imports = argc == 2 && strcmp(argv[1], "--import") == 0;
    if (argc != 1 && mode == NULL && !checks && !imports) {
        print_usage(stderr);
        return WORKER_EXIT_USAGE;
    }
    int fd = take_stdout();
    if (fd < 0)
        return WORKER_EXIT_RETRY;
    if (checks)
        return selfcheck_run(fd, (const char *const *)argv + 2);
    if (mode != NULL)
        return print(fd, mode->document());
    stop_init();
    return imports ? import_job_run(fd) : job_run(fd);
}
