/* Opens imported data sets: see imported.h. */
#include "server/train/imported.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "server/train/data.h"

enum { CARD_BYTES_MAX = 1 << 22 };

static int path_in(const char *dir, const char *name, char ret_path[PATH_MAX], struct err *err) {
    int n = snprintf(ret_path, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX ? 0 : err_set(err, ERR_IO, "the path %.100s... is too long", dir);
}

static int read_card(const char *dir, struct dataset_import **ret_import, struct err *err) {
    char path[PATH_MAX], *text;
    size_t size;
    if (path_in(dir, DATASET_CARD_FILE, path, err) != 0 || file_read(path, CARD_BYTES_MAX, &text, &size, err) != 0)
        return -1;
    struct err reason = {0};
    json_t *document = json_parse(text, size, &reason);
    free(text);
    if (document == NULL)
        return err_set(err, reason.code == ERR_JSON ? ERR_DATA : reason.code, "%s: %s", path, reason.text);
    int rc = dataset_card_read(document, ret_import, err);
    json_decref(document);
    return rc;
}

static int map_open(int fd, const char *path, struct imported *imported, struct err *err) {
    struct stat st;
    uint64_t want = imported->import->bytes;
    if (fstat(fd, &st) != 0)
        return err_errno(err, ERR_IO, errno, "cannot look at %s", path);
    if ((uint64_t)st.st_size != want)
        return err_set(err, ERR_DATA, "%s has %jd bytes; its card says %ju", path, (intmax_t)st.st_size, (uintmax_t)want);
    void *bytes = mmap(NULL, want, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return err_errno(err, ERR_MEMORY, errno, "cannot map %s", path);
    imported->bytes = bytes;
    return 0;
}

static int map_data(const char *dir, struct imported *imported, struct err *err) {
    char path[PATH_MAX];
    if (path_in(dir, DATASET_DATA_FILE, path, err) != 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", path);
    int rc = map_open(fd, path, imported, err);
    close(fd);
    return rc;
}

int imported_open(const json_t *dataset, struct imported **ret_imported, struct err *err) {
    *ret_imported = NULL;
    if (dataset == NULL || json_is_null(dataset))
        return 0;
    const char *dir = json_string_value(json_object_get(dataset, "dir"));
    if (dir == NULL || dir[0] != '/')
        return err_set(err, ERR_REQUEST, "\"dataset\" needs an absolute \"dir\"");
    struct imported *imported = calloc(1, sizeof *imported);
    if (imported == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a data set");
    if (read_card(dir, &imported->import, err) != 0 || map_data(dir, imported, err) != 0) {
        imported_free(imported);
        return -1;
    }
    *ret_imported = imported;
    return 0;
}

void imported_free(struct imported *imported) {
    if (imported == NULL)
        return;
    if (imported->bytes != NULL)
        munmap((void *)imported->bytes, imported->import->bytes);
    dataset_import_free(imported->import);
    free(imported);
}

const struct dataset_card *imported_card(const struct imported *imported) {
    return imported != NULL ? &imported->import->card : NULL;
}

int imported_load(const struct imported *imported, bool train, struct image_set *ret_set, struct err *err) {
    const struct dataset_import *import = imported->import;
    const struct dataset_part *part = train ? &import->train : &import->test;
    int n = train ? import->card.train_images : import->card.test_images;
    const uint8_t *labels = imported->bytes + part->labels_at;
    for (int i = 0; i < n; i++)
        if (labels[i] >= import->card.classes)
            return err_set(err, ERR_DATA, "label %d of the %s images is %d; there are %d classes", i, train ? "training" : "test",
                           labels[i], import->card.classes);
    *ret_set = (struct image_set){
        .n = n, .pixels = (uint8_t *)imported->bytes + part->pixels_at, .labels = (uint8_t *)labels, .borrowed = true};
    return 0;
}
