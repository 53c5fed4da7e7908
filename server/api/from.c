/* "from" of a job: whether there is what it wants to start from. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"
#include "server/api/submit.h"

/* The last kept epoch, or the wanted one when it is among them. */
static int choose_epoch(const struct sched *sched, const char *id, int *epoch, struct err *err) {
    struct sched_weights weights;
    struct err why = {0};
    if (sched_weights_find(sched, id, *epoch > 0 ? *epoch : WEIGHTS_NEWEST, &weights, &why) != 0)
        return err_at(err, why.code == ERR_NOT_FOUND ? ERR_FIELD : why.code, *epoch > 0 ? "/from/epoch" : "/from/job", "%s",
                      why.text);
    *epoch = weights.epoch;
    return 0;
}

static int check_resume(const struct job *job, const struct spec *spec, const char *dataset, struct err *err) {
    if (!job_state_ended(job->state))
        return err_at(err, ERR_FIELD, "/from/job", "job %s is %s; \"resume\" needs a job that has ended", job->id,
                      job_state_name(job->state));
    if (strcmp(job->dataset, dataset) != 0)
        return err_at(err, ERR_FIELD, "/dataset", "names another data set than job %s was trained on", job->id);
    if (job->epochs_done < 1)
        return err_at(err, ERR_FIELD, "/from/job", "job %s has not finished an epoch, so there is nothing to resume", job->id);
    if (spec->epochs <= job->epochs_done)
        return err_at(err, ERR_FIELD, "/epochs",
                      "is %d; job %s has finished %d, and with \"resume\" these are counted too, so it must be at least %d",
                      spec->epochs, job->id, job->epochs_done, job->epochs_done + 1);
    json_t *old = json_parse(job->spec, strlen(job->spec), err), *new = spec_to_json(spec);
    int failed = -1;
    if (old != NULL && new == NULL)
        err_set(err, ERR_MEMORY, "out of memory while comparing two jobs");
    else if (old != NULL)
        failed = spec_check_resume(old, new, job->id, err);
    json_decref(old);
    json_decref(new);
    return failed;
}

int from_check(struct api *api, struct spec *spec, const char *dataset, struct err *err) {
    struct job job = {0};
    struct err why = {0};
    if (spec->from.job[0] == '\0')
        return 0;
    if (store_job_get(api->options.store, &api->viewer, spec->from.job, &job, &why) != 0)
        return err_at(err, why.code == ERR_NOT_FOUND ? ERR_FIELD : why.code, "/from/job", "%s", why.text);
    int failed = spec->from.resume ? check_resume(&job, spec, dataset, err)
                                   : choose_epoch(api->options.sched, job.id, &spec->from.epoch, err);
    job_done(&job);
    return failed;
}

int from_initial(struct api *api, const struct spec *spec, struct sched_initial *ret_initial, struct err *err) {
    struct sched_initial initial = {.kind = INITIAL_WEIGHTS, .job = spec->from.job, .epoch = spec->from.epoch};
    if (spec->from.resume) {
        struct job job = {0};
        if (store_job_get(api->options.store, &api->viewer, spec->from.job, &job, err) != 0)
            return -1;
        initial.kind = INITIAL_CHECKPOINT;
        initial.epoch = job.best_epoch;
        job_done(&job);
    }
    *ret_initial = initial;
    return 0;
}
