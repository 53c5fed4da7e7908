/* PATCH /v1/datasets/{id}/content: an archive comes in pieces, each written to disk as it comes; the last one starts the import.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/api/private.h"

struct upload {
    int fd;             /* appends; holds the upload's lock */
    int64_t offset;     /* where the body's bytes begin */
    uint64_t discarded; /* bytes since a write failed */
    struct err fault;
};

static int check_offset(struct request *request, const struct dataset *dataset, int64_t there, int64_t size, struct err *err) {
    int64_t offset = 0;
    if (target_number(&request->target, "offset", 0, INT64_C(1) << 53, -1, &offset, err) < 0)
        return -1;
    if (offset < 0)
        return err_at(err, ERR_FIELD, "?offset", "offset is missing: how many bytes of the archive were sent before");
    if (offset != there)
        return err_at(err, ERR_CONFLICT, "?offset", "offset is %lld, but %lld bytes have arrived: go on with offset=%lld",
                      (long long)offset, (long long)there, (long long)there);
    if (size > dataset->archive_bytes - there)
        return err_set(err, ERR_TOO_LARGE, "the body has %lld bytes; of the %lld that were announced, %lld are missing",
                       (long long)size, (long long)dataset->archive_bytes, (long long)(dataset->archive_bytes - there));
    return sched_upload_check(request->api->options.sched, size, err);
}

static int open_upload(struct request *request, const struct dataset *dataset, int64_t size, struct err *err) {
    struct upload *upload = calloc(1, sizeof *upload);
    if (upload == NULL)
        return err_set(err, ERR_MEMORY, "cannot take the content of a data set: out of memory");
    if (sched_upload_open(request->api->options.sched, dataset, &upload->fd, &upload->offset, err) < 0) {
        free(upload);
        return -1;
    }
    request->upload = upload;
    return check_offset(request, dataset, upload->offset, size, err);
}

int upload_begin(struct request *request, struct err *err) {
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    struct dataset dataset = {0};
    int64_t size = 0;
    if (length == NULL || !number_parse(length, &size))
        return err_at(err, ERR_REQUEST, "Content-Length", "Content-Length is missing; content is not taken in chunks");
    if (request_dataset(request, &dataset, err) < 0)
        return -1;
    int failed = dataset.state == DATASET_UPLOADING ? open_upload(request, &dataset, size, err)
                                                    : err_set(err, ERR_CONFLICT, "data set \"%s\" is %s; it takes no content",
                                                              dataset.name, dataset_state_name(dataset.state));
    dataset_done(&dataset);
    return failed;
}

bool upload_take(struct request *request, const char *data, size_t size) {
    struct upload *upload = request->upload;
    while (size > 0 && upload->fault.code == ERR_NONE) {
        ssize_t n = write(upload->fd, data, size);
        if (n < 0 && errno != EINTR)
            err_errno(&upload->fault, errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO, errno,
                      "cannot write what was sent of the data set");
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    upload->discarded += size;
    return upload->discarded <= BODY_DISCARD_MAX;
}

void upload_end(struct request *request) {
    if (request->upload == NULL)
        return;
    close(request->upload->fd);
    free(request->upload);
    request->upload = NULL;
}

static int arrived(struct request *request, struct dataset *dataset, struct err *err) {
    struct sched *sched = request->api->options.sched;
    if (sched_upload_offset(sched, dataset) == dataset->archive_bytes) {
        request->wrote = true;
        if (sched_upload_done(sched, dataset, err) < 0)
            return -1;
        dataset->state = DATASET_QUEUED;
    }
    return answer_dataset(request, MHD_HTTP_OK, dataset, err);
}

int handle_dataset_content(struct request *request, struct err *err) {
    struct dataset dataset = {0};
    struct err fault = request->upload->fault;
    if (fault.code != ERR_NONE)
        return err_set(err, fault.code, "%s", fault.text);
    if (request_dataset(request, &dataset, err) < 0)
        return -1;
    int failed = arrived(request, &dataset, err);
    dataset_done(&dataset);
    return failed;
}
