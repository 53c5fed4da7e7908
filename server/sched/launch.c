/* How a worker is started: a table of launchers, one row today; another (srun) is another row. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

#include "server/sched/private.h"

typedef void argv_fn(const struct sched *sched, const char *mode, const char *ret_argv[LAUNCH_ARGS_MAX]);

static void argv_local(const struct sched *sched, const char *mode, const char *ret_argv[LAUNCH_ARGS_MAX]) {
    ret_argv[0] = sched->worker_path;
    ret_argv[1] = mode; /* NULL: the job comes on standard input */
    ret_argv[2] = NULL;
}

static const struct launcher {
    const char *name;
    argv_fn *argv;
} launchers[] = {
    {"local", argv_local},
};

int launch_worker(const struct sched *sched, const struct launch *launch, struct proc *ret_proc, struct err *err) {
    const char *argv[LAUNCH_ARGS_MAX];
    launchers[0].argv(sched, launch->mode, argv);
    struct proc_options options = {.argv = argv, .dir = launch->dir, .nice = launch->nice};
    return proc_spawn(&options, ret_proc, err);
}

char *launch_line(json_t *steal) {
    char *text = steal != NULL ? json_text(steal) : NULL;
    json_decref(steal);
    size_t length = text != NULL ? strlen(text) : 0;
    char *ended = text != NULL ? realloc(text, length + 2) : NULL;
    if (ended == NULL) {
        free(text);
        return NULL;
    }
    memcpy(ended + length, "\n", 2);
    return ended;
}

char *launch_start_line(const struct job *job, const char *dir) {
    json_t *spec = json_parse(job->spec, strlen(job->spec), NULL);
    return launch_line(json_pack("{s:i, s:s, s:i, s:s, s:i, s:o}", "protocol", EVENT_PROTOCOL, "job", job->id, "attempt",
                                 job->attempt, "dir", dir, "epochs_known", job->epochs_done, "spec", spec));
}
