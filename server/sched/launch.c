/* How a worker is started: a table of launchers, one row today; another (srun) is another row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/sched/private.h"

typedef void argv_fn(const struct sched *sched, const char *const *args, const char *ret_argv[LAUNCH_ARGS_MAX]);

static void argv_local(const struct sched *sched, const char *const *args, const char *ret_argv[LAUNCH_ARGS_MAX]) {
    int n = 0;
    ret_argv[n++] = sched->worker_path;
    while (args != NULL && *args != NULL && n < LAUNCH_ARGS_MAX - 1)
        ret_argv[n++] = *args++;
    ret_argv[n] = NULL;
}

static const struct launcher {
    const char *name;
    argv_fn *argv;
} launchers[] = {
    {"local", argv_local},
};

int launch_worker(const struct sched *sched, const struct launch *launch, struct proc *ret_proc, struct err *err) {
    const char *argv[LAUNCH_ARGS_MAX];
    launchers[0].argv(sched, launch->args, argv);
    struct proc_options options = {
        .argv = argv, .dir = launch->dir, .nice = launch->nice, .env = launch->env != NULL ? launch->env->entries : NULL};
    return proc_spawn(&options, ret_proc, err);
}

/* --- the environment of a GPU's worker --- */

static int add(struct launch_env *env, const char *name, const char *value, const char *behind) {
    int n = 0;
    while (env->entries[n] != NULL)
        n++;
    if (n < LAUNCH_ENV_MAX && asprintf(&env->entries[n], "%s=%s%s", name, value, behind) >= 0)
        return 0;
    env->entries[n] = NULL;
    return -1;
}

/* What its self-check allowed, as long as driver, cuDNN and worker are those it was made with: names separated by commas. */
static char *features_text(const struct device *device, const json_t *card) {
    const json_t *feature;
    size_t i;
    char *text = strdup("");
    if (device == NULL || !check_holds(device, card))
        return text;
    json_array_foreach(json_object_get(device->record, "features"), i, feature) {
        char *longer = NULL;
        const char *name = json_string_value(feature);
        int rc = text == NULL || name == NULL ? -1 : asprintf(&longer, "%s%s%s", text, i > 0 ? "," : "", name);
        free(text);
        text = rc >= 0 ? longer : NULL;
    }
    return text;
}

static int fill(const struct sched *sched, const char *id, const json_t *card, struct launch_env *env) {
    char *features = features_text(device_find(sched, id), card);
    int rc = features == NULL ? -1 : add(env, "RESIDUUM_GPU_FEATURES", features, "");
    free(features);
    if (rc != 0 || add(env, "CUDA_VISIBLE_DEVICES", id, "") != 0 || add(env, "CUDA_DEVICE_ORDER", "PCI_BUS_ID", "") != 0 ||
        add(env, "RESIDUUM_PLAN_CACHE", sched->data_dir, "/plan-cache") != 0)
        return -1;
    return add(env, "RESIDUUM_SELF_CHECK", sched->data_dir, "/self-check");
}

int launch_env_make(const struct sched *sched, const char *device, struct launch_env *ret_env, struct err *err) {
    struct launch_env env = {0};
    const json_t *card = device_card(sched, device);
    if (sched_device_is_gpu(card) && fill(sched, device, card, &env) != 0) {
        launch_env_done(&env);
        return err_set(err, ERR_MEMORY, "out of memory while starting a worker");
    }
    *ret_env = env;
    return 0;
}

void launch_env_done(struct launch_env *env) {
    for (int n = 0; n < LAUNCH_ENV_MAX; n++)
        free(env->entries[n]);
    *env = (struct launch_env){0};
}

/* --- lines --- */

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

json_t *launch_dataset(const struct sched *sched, const struct job *job) {
    char dir[PATH_MAX];
    if (job->dataset[0] == '\0')
        return json_null();
    return dataset_path(sched, "datasets", job->dataset, dir, NULL) == 0 ? json_pack("{s:s}", "dir", dir) : NULL;
}

char *launch_start_line(const struct sched *sched, const struct job *job, const char *dir) {
    json_t *spec = json_parse(job->spec, strlen(job->spec), NULL);
    return launch_line(json_pack("{s:i, s:s, s:i, s:s, s:s, s:i, s:o, s:o}", "protocol", EVENT_PROTOCOL, "job", job->id,
                                 "attempt", job->attempt, "device", job->device, "dir", dir, "epochs_known", job->epochs_done,
                                 "dataset", launch_dataset(sched, job), "spec", spec));
}
