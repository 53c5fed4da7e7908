/* What a finished job predicted for every test image: pages of JSON, or the binary file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/dataset.h"
#include "server/api/private.h"
#include "server/api/tensors.h"

enum { LIMIT_MAX = 1000, LIMIT_DEFAULT = 100 };

/* predictions.safetensors as common/event.h describes it, open. */
struct predictions {
    struct tensors file;
    struct tensor softmax, labels, predicted;
    int64_t images, classes;
    int fd;
    uint64_t size;
};

static int read_shapes(struct predictions *p, struct err *err) {
    if (tensors_init(p->fd, p->size, &p->file, err) != 0 || tensors_find(&p->file, "softmax", "F32", 2, &p->softmax, err) != 0 ||
        tensors_find(&p->file, "labels", "I32", 1, &p->labels, err) != 0 ||
        tensors_find(&p->file, "predicted", "I32", 1, &p->predicted, err) != 0)
        return -1;
    p->images = p->softmax.shape[0];
    p->classes = p->softmax.shape[1];
    if (p->labels.shape[0] == p->images && p->predicted.shape[0] == p->images && p->classes <= DATASET_CLASSES_MAX)
        return 0;
    return err_set(err, ERR_DATA, "the tensors of the predictions do not fit together");
}

static void predictions_done(struct predictions *p) {
    tensors_done(&p->file);
    if (p->fd >= 0)
        close(p->fd);
}

static int predictions_open(struct request *request, const struct job *job, struct predictions *ret_predictions,
                            struct err *err) {
    struct predictions p = {.fd = -1};
    struct err why = {0};
    if (sched_file_open(request->api->options.sched, job->id, "predictions.safetensors", &p.fd, &p.size, &why) != 0)
        return err_set(err, why.code, "%s",
                       why.code == ERR_NOT_FOUND ? "there are no predictions of this job; they are made when its training ends"
                                                 : why.text);
    if (read_shapes(&p, err) != 0) {
        predictions_done(&p);
        return -1;
    }
    *ret_predictions = p;
    return 0;
}

/* --- pages --- */

struct page_wanted {
    int64_t first, count;
    bool one_hot;
};

struct values {
    float *softmax;
    int32_t *labels, *predicted;
};

static void values_done(struct values *values) {
    free(values->softmax);
    free(values->labels);
    free(values->predicted);
}

static int read_values(const struct predictions *p, const struct page_wanted *page, struct values *ret_values, struct err *err) {
    size_t n = (size_t)page->count;
    struct values values = {.softmax = calloc(n * (size_t)p->classes + 1, sizeof(float)),
                            .labels = calloc(n + 1, sizeof(int32_t)),
                            .predicted = calloc(n + 1, sizeof(int32_t))};
    int failed = 0;
    if (values.softmax == NULL || values.labels == NULL || values.predicted == NULL)
        failed = err_set(err, ERR_MEMORY, "cannot read predictions: out of memory");
    if (failed == 0 &&
        (tensors_read(&p->file, &p->softmax, page->first * p->classes, page->count * p->classes, values.softmax, err) != 0 ||
         tensors_read(&p->file, &p->labels, page->first, page->count, values.labels, err) != 0 ||
         tensors_read(&p->file, &p->predicted, page->first, page->count, values.predicted, err) != 0))
        failed = -1;
    for (size_t i = 0; i < n && failed == 0; i++) {
        if (values.predicted[i] < 0 || values.predicted[i] >= p->classes || values.labels[i] < 0 ||
            values.labels[i] >= p->classes)
            failed = err_set(err, ERR_DATA, "the predictions name a class that there is not");
    }
    if (failed != 0)
        values_done(&values);
    else
        *ret_values = values;
    return failed;
}

/* 9 digits give back the same f32. */
static void write_real(struct text *text, float value) {
    if (isfinite(value))
        text_printf(text, "%.9g", (double)value);
    else
        text_puts(text, "null");
}

static void write_item(struct text *text, const struct values *values, int64_t classes, int64_t i,
                       const struct page_wanted *page) {
    const float *softmax = values->softmax + i * classes;
    int32_t predicted = values->predicted[i];
    text_printf(text, "%s{\"index\":%lld,\"label\":%d,\"predicted\":%d,\"probability\":", i > 0 ? "," : "",
                (long long)(page->first + i), (int)values->labels[i], (int)predicted);
    write_real(text, softmax[predicted]);
    if (page->one_hot) {
        for (int64_t k = 0; k < classes; k++)
            text_printf(text, "%s%d", k == 0 ? ",\"one_hot\":[" : ",", k == predicted);
        text_puts(text, "]");
    }
    for (int64_t k = 0; k < classes; k++) {
        text_puts(text, k == 0 ? ",\"softmax\":[" : ",");
        write_real(text, softmax[k]);
    }
    text_puts(text, "]}");
}

static int answer_page(struct request *request, const struct predictions *p, struct page_wanted *page, struct err *err) {
    struct values values;
    struct text text = {0};
    if (page->first > p->images)
        page->first = p->images;
    if (page->count > p->images - page->first)
        page->count = p->images - page->first;
    if (read_values(p, page, &values, err) != 0)
        return -1;
    text_puts(&text, "{\"items\":[");
    for (int64_t i = 0; i < page->count; i++)
        write_item(&text, &values, p->classes, i, page);
    values_done(&values);
    int64_t end = page->first + page->count;
    text_printf(&text, "],\"images\":%lld,\"classes\":%lld,\"next\":", (long long)p->images, (long long)p->classes);
    if (end < p->images)
        text_printf(&text, "%lld}", (long long)end);
    else
        text_puts(&text, "null}");
    int failed = answer_text(request, MHD_HTTP_OK, "application/json", &text, err);
    text_done(&text);
    return failed;
}

static int read_page_wanted(const struct request *request, struct page_wanted *ret_page, struct err *err) {
    const char *one_hot = target_param(&request->target, "one_hot");
    ret_page->one_hot = one_hot != NULL && strcmp(one_hot, "true") == 0;
    if (one_hot != NULL && !ret_page->one_hot && strcmp(one_hot, "false") != 0)
        return err_at(err, ERR_FIELD, "?one_hot", "one_hot is \"%.40s\"; it must be true or false", one_hot);
    if (target_number(&request->target, "after", 0, INT32_MAX, 0, &ret_page->first, err) < 0)
        return -1;
    return target_number(&request->target, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &ret_page->count, err);
}

/* --- formats --- */

enum format { FORMAT_JSON, FORMAT_SAFETENSORS, FORMAT_F32 };

static int read_format(const struct request *request, enum format *ret_format, struct err *err) {
    static const char *const names[] = {[FORMAT_JSON] = "json", [FORMAT_SAFETENSORS] = "safetensors", [FORMAT_F32] = "f32"};
    const char *name = target_param(&request->target, "format");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (name != NULL && strcmp(name, names[i]) != 0)
            continue;
        *ret_format = (enum format)i;
        return 0;
    }
    return err_at(err, ERR_FIELD, "?format", "format is \"%.40s\"; it must be json, safetensors or f32", name);
}

/* The whole file, or only the softmax within it. */
static int answer_file(struct request *request, const struct job *job, struct predictions *p, enum format format,
                       struct err *err) {
    bool whole = format == FORMAT_SAFETENSORS;
    struct download download = {.type = "application/octet-stream",
                                .steal_fd = p->fd,
                                .offset = whole ? 0 : p->softmax.offset,
                                .size = whole ? p->size : p->softmax.bytes};
    snprintf(download.name, sizeof download.name, "%s-%s", job->id, whole ? "predictions.safetensors" : "softmax.f32");
    p->fd = -1;
    return answer_download(request, &download, err);
}

int handle_predictions(struct request *request, struct err *err) {
    struct page_wanted page;
    enum format format = FORMAT_JSON;
    struct job job = {0};
    struct predictions p;
    if (read_format(request, &format, err) < 0 || read_page_wanted(request, &page, err) < 0 ||
        request_job(request, &job, err) < 0)
        return -1;
    int failed = predictions_open(request, &job, &p, err);
    if (failed == 0) {
        failed = format == FORMAT_JSON ? answer_page(request, &p, &page, err) : answer_file(request, &job, &p, format, err);
        predictions_done(&p);
    }
    job_done(&job);
    return failed;
}
