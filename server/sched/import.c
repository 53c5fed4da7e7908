/* Imports of data sets, one after another, each by a worker of low priority. It writes into a new directory of its own, which
 * becomes DATA/datasets/ID before the row says "ready": whatever ends in between leaves a row that still waits. What the worker
 * says is not trusted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/dataset.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/sha256.h"
#include "server/sched/private.h"

enum { IMPORT_NICE = 19, MS = 1000, ENTRIES_MAX = 1000000, RATIO_MAX = 200, IMAGES_MAX = 2000000 };
static const char what[] = "the import";

enum import_phase {
    IMPORT_RUNNING, /* its worker lives */
    IMPORT_ENDED,   /* what has become of it is still to be written */
    IMPORT_FILED    /* that is written, not yet committed */
};

struct importing {
    struct sched *sched;
    char id[JOB_ID_MAX];
    char out[PATH_MAX]; /* where the worker writes; "" once it is the data set's directory */
    enum import_phase phase;
    struct errand *errand;
    json_t *told;     /* its last line of progress; NULL: none yet */
    json_t *card;     /* of success */
    struct err fault; /* of failure */
    char *entry;      /* of the archive, to blame for it; NULL: none */
    bool same;        /* another data set holds the same */
};

static void remove_out(struct importing *importing) {
    struct err why = {0};
    if (importing->out[0] != '\0' && file_remove_tree(importing->out, &why) != 0)
        log_line("warning", "directory-kept", "dataset", importing->id, "reason", why.text, (char *)NULL);
    importing->out[0] = '\0';
}

static void importing_free(struct importing *importing) {
    errand_free(importing->errand);
    remove_out(importing);
    json_decref(importing->told);
    json_decref(importing->card);
    free(importing->entry);
    free(importing);
}

void imports_stop(struct sched *sched, const char *id) {
    struct importing *importing = sched->importing;
    if (importing == NULL || (id != NULL && strcmp(importing->id, id) != 0))
        return;
    importing_free(importing);
    sched->importing = NULL;
    sched->look_imports = true;
}

const json_t *sched_import_progress(const struct sched *sched, const char *id) {
    const struct importing *importing = sched->importing;
    return importing != NULL && strcmp(importing->id, id) == 0 ? importing->told : NULL;
}

/* --- what the worker says --- */

static void hear_progress(struct importing *importing, json_t *line) {
    static const char *const numbers[] = {"entries", "images", "bytes"};
    json_t *told = json_object(), *total = json_object_get(line, "total_bytes"), *phase = json_object_get(line, "phase");
    int rc = json_object_set(told, "phase", phase);
    bool fits = json_is_string(phase) && (json_is_integer(total) || json_is_null(total));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        fits = fits && json_is_integer(json_object_get(line, numbers[i]));
        rc |= json_object_set(told, numbers[i], json_object_get(line, numbers[i]));
    }
    rc |= json_object_set(told, "total_bytes", total);
    if (!fits)
        err_set(&importing->fault, ERR_PROTOCOL, "%s told its progress in another form than common/event.h says", what);
    if (rc == 0 && fits) {
        json_decref(importing->told);
        importing->told = json_incref(told);
    }
    json_decref(told);
}

static void hear_card(struct importing *importing, json_t *line) {
    struct dataset_import *import = NULL;
    json_t *card = json_object_get(line, "card");
    if (dataset_card_read(card, &import, &importing->fault) == 0)
        importing->card = json_incref(card);
    dataset_import_free(import);
}

static void hear_error(struct importing *importing, json_t *line) {
    const char *code = json_string_value(json_object_get(line, "code"));
    const char *text = json_string_value(json_object_get(line, "text"));
    const char *entry = json_string_value(json_object_get(line, "entry"));
    enum err_code known = ERR_WORKER;
    if (code == NULL || text == NULL || !err_parse(code, &known) || known == ERR_NONE)
        err_set(&importing->fault, ERR_PROTOCOL, "%s failed without saying why as common/event.h says", what);
    else
        err_set(&importing->fault, known, "%s", text);
    free(importing->entry);
    importing->entry = entry != NULL ? strdup(entry) : NULL;
}

static void hear(void *arg, const char *text, size_t size) {
    struct importing *importing = arg;
    json_t *line = json_parse(text, size, &importing->fault);
    const char *type = json_string_value(json_object_get(line, "type"));
    if (type != NULL && strcmp(type, "import") == 0)
        hear_progress(importing, line);
    else if (type != NULL && strcmp(type, "imported") == 0 && importing->card == NULL)
        hear_card(importing, line);
    else if (type != NULL && strcmp(type, "error") == 0)
        hear_error(importing, line);
    else
        err_set(&importing->fault, ERR_PROTOCOL, "%s said something that common/event.h does not know", what);
    json_decref(line);
}

static void ended(void *arg, const char *answer, size_t size, const struct err *why) {
    struct importing *importing = arg;
    (void)size;
    errand_free(importing->errand);
    importing->errand = NULL;
    importing->phase = IMPORT_ENDED;
    if (answer == NULL)
        err_set(&importing->fault, why->code, "%s", why->text);
    else if (importing->card == NULL)
        err_set(&importing->fault, ERR_PROTOCOL, "%s ended without a card", what);
    loop_again(importing->sched->options.loop);
}

/* --- start --- */

/* What an import may produce: no more than half of what the disk has, as pixels are kept twice for a while. */
static int64_t bytes_max(const struct sched *sched) {
    struct statvfs disk;
    int64_t max = sched->options.dataset_max_bytes, half = max;
    if (statvfs(sched->data_dir, &disk) == 0)
        half = (int64_t)disk.f_bavail / 2 * (int64_t)disk.f_frsize;
    return half < max ? half : max;
}

static char *make_line(const struct importing *importing, const struct dataset *dataset) {
    const struct sched *sched = importing->sched;
    char source[PATH_MAX];
    json_t *options = json_parse(dataset->options, strlen(dataset->options), NULL);
    if (dataset_path(sched, "uploads", dataset->id, source, NULL) != 0) {
        json_decref(options);
        return NULL;
    }
    json_t *limits =
        json_pack("{s:I, s:i, s:i, s:i, s:I}", "bytes", (json_int_t)bytes_max(sched), "entries", ENTRIES_MAX, "ratio", RATIO_MAX,
                  "images", IMAGES_MAX, "seconds", (json_int_t)(sched->options.import_timeout_ms / MS));
    return launch_line(json_pack("{s:i, s:s, s:s, s:s, s:s, s:o, s:o}", "protocol", EVENT_PROTOCOL, "source", source, "out",
                                 importing->out, "name", dataset->name, "archive_sha256", dataset->archive_sha256, "options",
                                 options, "limits", limits));
}

static int make_out(struct importing *importing, struct err *err) {
    char out[PATH_MAX];
    if (dataset_path(importing->sched, "datasets", "", out, err) != 0 || file_mkdirs(out, err) != 0 ||
        dataset_path(importing->sched, "datasets", ".import-XXXXXX", out, err) != 0)
        return -1;
    if (mkdtemp(out) == NULL)
        return err_errno(err, errno == ENOSPC ? ERR_FULL : ERR_IO, errno, "cannot make a directory for an import");
    memcpy(importing->out, out, sizeof importing->out);
    return 0;
}

static int launch(struct importing *importing, const struct dataset *dataset, struct err *err) {
    if (make_out(importing, err) != 0)
        return -1;
    char *line = make_line(importing, dataset);
    if (line == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while starting %s", what);
    struct errand_options options = {.sched = importing->sched,
                                     .what = what,
                                     .args = (const char *const[]){"--import", NULL},
                                     .question = line,
                                     .holds_input = true,
                                     .line = hear,
                                     .nice = IMPORT_NICE,
                                     .answer_max = EVENT_LINE_MAX,
                                     .timeout_ms =
                                         importing->sched->options.import_timeout_ms + importing->sched->options.stop_timeout_ms,
                                     .fn = ended,
                                     .arg = importing};
    int rc = errand_new(&options, &importing->errand, err);
    free(line);
    return rc;
}

/* A walk over data sets: the first one that waits is started. What cannot be started has failed, as the next one would too. */
static int start(void *arg, const struct dataset *dataset) {
    struct sched *sched = arg;
    if (dataset->state != DATASET_QUEUED)
        return 0;
    struct importing *importing = calloc(1, sizeof *importing);
    if (importing == NULL) {
        sched_pause(sched);
        sched->look_imports = true;
        return 1;
    }
    *importing = (struct importing){.sched = sched};
    memcpy(importing->id, dataset->id, sizeof importing->id);
    sched->importing = importing;
    importing->told =
        json_pack("{s:s, s:i, s:i, s:i, s:n}", "phase", "reading", "entries", 0, "images", 0, "bytes", 0, "total_bytes");
    if (launch(importing, dataset, &importing->fault) == 0) {
        log_line("info", "import-started", "dataset", dataset->id, (char *)NULL);
        return 1;
    }
    importing->phase = IMPORT_ENDED;
    loop_again(sched->options.loop);
    return 1;
}

static void start_next(struct sched *sched) {
    struct err why = {0};
    if (!sched->look_imports || sched->importing != NULL)
        return;
    sched->look_imports = false;
    if (store_dataset_list(sched->options.store, &daemon_viewer, start, sched, &why) != 0)
        log_line("error", "imports-unknown", "reason", why.text, (char *)NULL);
}

/* --- end --- */

/* What makes two data sets the same: images, labels, shape and classes. */
static int digest(const json_t *card, char ret_sha256[65], struct err *err) {
    json_t *content = json_pack("{s:O, s:O, s:O}", "shape", json_object_get(card, "shape"), "classes",
                                json_object_get(card, "classes"), "sha256", json_object_get(card, "sha256"));
    char *text = content != NULL ? json_text(content) : NULL;
    json_decref(content);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory at the end of an import");
    sha256_hex(text, strlen(text), ret_sha256);
    free(text);
    return 0;
}

/* Gives the worker's directory its name. Done once, also when the commit fails. */
static int place(struct importing *importing, struct err *err) {
    char path[PATH_MAX], folder[PATH_MAX];
    if (importing->out[0] == '\0')
        return 0;
    if (dataset_path(importing->sched, "datasets", importing->id, path, err) != 0 ||
        dataset_path(importing->sched, "datasets", "", folder, err) != 0)
        return -1;
    if (rename(importing->out, path) != 0)
        return err_errno(err, ERR_IO, errno, "cannot rename %s to %s", importing->out, path);
    importing->out[0] = '\0';
    return file_sync_dir(folder, err);
}

static int file_ready(struct importing *importing, struct err *err) {
    char content[65], *text = json_text(importing->card);
    int rc =
        text == NULL ? err_set(err, ERR_MEMORY, "out of memory at the end of an import") : digest(importing->card, content, err);
    if (rc == 0)
        rc = store_dataset_ready(importing->sched->options.store, importing->id, text, content, &importing->same, err);
    free(text);
    return rc;
}

/* Writes what has become of the data set. */
static void file(struct importing *importing) {
    struct sched *sched = importing->sched;
    struct err why = {0};
    if (importing->fault.code == ERR_NONE)
        place(importing, &importing->fault);
    int rc = importing->fault.code == ERR_NONE ? file_ready(importing, &why)
                                               : store_dataset_failed(sched->options.store, importing->id, &importing->fault,
                                                                      importing->entry != NULL ? importing->entry : "", &why);
    if (rc != 0) {
        log_line("error", "import-not-filed", "dataset", importing->id, "reason", why.text, (char *)NULL);
        sched_pause(sched);
        return;
    }
    importing->phase = IMPORT_FILED;
    loop_again(sched->options.loop);
}

static void finish(struct importing *importing) {
    struct sched *sched = importing->sched;
    bool failed = importing->fault.code != ERR_NONE;
    log_line("info", failed ? "import-failed" : "imported", "dataset", importing->id, "reason",
             failed ? importing->fault.text : NULL, (char *)NULL);
    if (failed || importing->same)
        dataset_remove(sched, importing->id);
    else
        dataset_remove_upload(sched, importing->id);
    imports_stop(sched, NULL);
}

void imports_committed(struct sched *sched, bool committed) {
    struct importing *importing = sched->importing;
    if (importing != NULL && importing->phase == IMPORT_FILED && committed)
        finish(importing);
    else if (importing != NULL && importing->phase == IMPORT_FILED)
        importing->phase = IMPORT_ENDED;
    else if (importing != NULL && importing->phase == IMPORT_ENDED && committed && !sched->paused && !sched->draining)
        file(importing);
    if (committed && !sched->paused && !sched->draining)
        start_next(sched);
}
