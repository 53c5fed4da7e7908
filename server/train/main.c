/* residuum-worker: trains one job, or tells what this machine can do. Its protocol is common/event.h. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/version.h"
#include "server/train/job.h"
#include "server/train/probe.h"
#include "server/train/stop.h"

static const char usage[] = "usage: residuum-worker            train the job whose line stands on standard input\n"
                            "       residuum-worker --probe    print devices, backends and data sets as JSON\n"
                            "       residuum-worker --version\n";

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

static enum worker_exit probe(int fd) {
    json_t *document = probe_json();
    char *text = document == NULL ? NULL : json_text(document);
    json_decref(document);
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
        fputs(usage, stdout);
        return WORKER_EXIT_DONE;
    }
    bool probing = argc == 2 && strcmp(argv[1], "--probe") == 0;
    if (argc != 1 && !probing) {
        fputs(usage, stderr);
        return WORKER_EXIT_USAGE;
    }
    int fd = take_stdout();
    if (fd < 0)
        return WORKER_EXIT_RETRY;
    if (probing)
        return probe(fd);
    stop_init();
    return job_run(fd);
}
