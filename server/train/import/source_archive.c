/* Entries of zip and tar archives by libarchive: see source.h. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/train/import/names.h"
#include "server/train/import/source.h"

enum { BLOCK_BYTES = 1 << 16, SHOWN_BYTES = 200 };

struct tape {
    struct archive *archive;
    struct archive_entry *entry;
    struct guard *guard;
    int fd;
    bool opened;
    uint64_t size, got; /* of the entry: as promised, read */
};

static int failure(struct tape *tape, struct err *err) {
    const char *reason = archive_error_string(tape->archive);
    if (archive_errno(tape->archive) == ENOMEM)
        return err_set(err, ERR_MEMORY, "out of memory while reading the archive");
    return err_set(err, ERR_DATA, "the archive is damaged or cut short: %s", reason != NULL ? reason : "no reason told");
}

/* Only what is needed: no other format's parser ever sees a byte. */
static int choose_formats(struct archive *archive) {
    int rc = archive_read_support_filter_gzip(archive) | archive_read_support_filter_xz(archive) |
             archive_read_support_filter_zstd(archive);
    return rc | archive_read_support_format_tar(archive) | archive_read_support_format_zip(archive);
}

int archive_open(int fd, struct guard *guard, void **ret_self, struct err *err) {
    struct tape *tape = calloc(1, sizeof *tape);
    struct archive *archive = tape == NULL ? NULL : archive_read_new();
    if (archive == NULL) {
        free(tape);
        close(fd);
        return err_set(err, ERR_MEMORY, "out of memory for an archive");
    }
    *tape = (struct tape){.archive = archive, .guard = guard, .fd = fd};
    if (choose_formats(archive) != ARCHIVE_OK) {
        err_set(err, ERR_INTERNAL, "libarchive lacks a format: %s", archive_error_string(archive));
        archive_kind.close(tape);
        return -1;
    }
    *ret_self = tape;
    return 0;
}

static void archive_close(void *self) {
    struct tape *tape = self;
    archive_read_free(tape->archive);
    close(tape->fd);
    free(tape);
}

static int check_type(struct archive_entry *entry, struct err *err) {
    if (archive_entry_hardlink(entry) != NULL || archive_entry_symlink(entry) != NULL)
        return err_set(err, ERR_DATA, "it is a link; only files and folders can be imported");
    if (archive_entry_is_encrypted(entry))
        return err_set(err, ERR_DATA, "it is encrypted");
    mode_t type = archive_entry_filetype(entry);
    if (type == AE_IFREG || type == AE_IFDIR)
        return 0;
    return err_set(err, ERR_DATA, "it is neither a file nor a folder");
}

/* Its name; as bytes where libarchive cannot make UTF-8 of them, so that the check names what is wrong. */
static const char *name_of(struct archive_entry *entry) {
    const char *name = archive_entry_pathname_utf8(entry);
    if (name == NULL)
        name = archive_entry_pathname(entry);
    while (name != NULL && strncmp(name, "./", 2) == 0)
        name += 2;
    return name;
}

/* A folder's name is checked here; that of a file by whoever asked for it. */
static int check_folder(const char *name, struct err *err) {
    char text[IMPORT_NAME_MAX + 2];
    size_t length = strlen(name);
    while (length > 0 && name[length - 1] == '/')
        length--;
    if (length == 0 && name[0] == '/')
        return err_set(err, ERR_DATA, "its name is absolute");
    if (length == 0 || (length == 1 && name[0] == '.'))
        return 0;
    if (length >= sizeof text)
        return err_set(err, ERR_DATA, "its name has more than %d bytes", IMPORT_NAME_MAX);
    memcpy(text, name, length);
    text[length] = '\0';
    return name_check(text, err);
}

static int begin_file(struct tape *tape, const char *name, struct err *err) {
    tape->got = 0;
    tape->size = archive_entry_size_is_set(tape->entry) ? (uint64_t)archive_entry_size(tape->entry) : UINT64_MAX;
    if (tape->size == UINT64_MAX || tape->size <= tape->guard->request->limits.bytes)
        return 0;
    return err_set(err, ERR_TOO_LARGE, "%.*s has %ju bytes; at most %ju are unpacked", SHOWN_BYTES, name, (uintmax_t)tape->size,
                   (uintmax_t)tape->guard->request->limits.bytes);
}

/* *ret_name: NULL for a folder. */
static int look(struct tape *tape, const char **ret_name, struct err *err) {
    const char *name = name_of(tape->entry);
    if (name == NULL)
        return err_set(err, ERR_DATA, "an entry has a name that is not UTF-8");
    bool folder = archive_entry_filetype(tape->entry) == AE_IFDIR;
    *ret_name = name;
    if (check_type(tape->entry, err) != 0)
        return -1;
    if (folder && check_folder(name, err) != 0)
        return -1;
    if (folder)
        *ret_name = NULL;
    return folder ? 0 : begin_file(tape, name, err);
}

/* The first header is read after the sandbox is closed, not when the file is opened. */
static int open_once(struct tape *tape, struct err *err) {
    if (tape->opened)
        return 0;
    tape->opened = true;
    if (archive_read_open_fd(tape->archive, tape->fd, BLOCK_BYTES) != ARCHIVE_OK)
        return err_set(err, ERR_DATA, "it is no zip and no tar (plain, gzip, xz or zstd)");
    return 0;
}

/* A tar ends with blocks of zeros; libarchive takes one for whole that was cut between two entries. before: how far it was read
 * when the last entry had been. */
static int check_end(struct tape *tape, int64_t before, struct err *err) {
    enum { BLOCK = 512 };
    bool tar = (archive_format(tape->archive) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;
    int64_t end = (before + BLOCK - 1) / BLOCK * BLOCK + BLOCK;
    if (!tar || archive_filter_bytes(tape->archive, 0) >= end)
        return 0;
    return err_set(err, ERR_DATA, "the archive is cut short: its end is not marked");
}

static int archive_next(void *self, const char **ret_name, struct err *err) {
    struct tape *tape = self;
    *ret_name = NULL;
    if (open_once(tape, err) != 0)
        return -1;
    while (*ret_name == NULL) {
        int64_t before = archive_filter_bytes(tape->archive, 0);
        int rc = archive_read_next_header(tape->archive, &tape->entry);
        if (rc == ARCHIVE_EOF)
            return check_end(tape, before, err);
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return failure(tape, err);
        if (guard_entry(tape->guard, err) != 0 || look(tape, ret_name, err) != 0)
            return -1;
    }
    return 0;
}

static int archive_read(void *self, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    struct tape *tape = self;
    la_ssize_t n = archive_read_data(tape->archive, to, size);
    if (n < 0)
        return failure(tape, err);
    int64_t read = archive_filter_bytes(tape->archive, -1);
    if (read > 0 && (uint64_t)read > tape->guard->progress.bytes)
        tape->guard->progress.bytes = (uint64_t)read;
    tape->got += (uint64_t)n;
    if (tape->size != UINT64_MAX && (tape->got > tape->size || (n == 0 && size > 0 && tape->got < tape->size)))
        return err_set(err, ERR_DATA, "its header promises %ju bytes, %s%ju are there", (uintmax_t)tape->size,
                       tape->got > tape->size ? "at least " : "", (uintmax_t)tape->got);
    *ret_n = (size_t)n;
    return 0;
}

const struct source_kind archive_kind = {archive_next, archive_read, archive_close};
