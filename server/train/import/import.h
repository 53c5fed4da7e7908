/* Brings a foreign data set in: reads an archive or a directory that nobody has looked at, and gives images of one shape with
 * their classes. Everything that parses what users send lies in this folder and runs in `residuum-worker --import` alone.
 *
 * Containers: zip, tar (plain, gzip, xz, zstd), or a directory. They are streamed: no entry is ever written by its name.
 * Formats, told by content:
 * - folders: PNG and JPEG in [train|test|val|valid|validation/]CLASS/FILE, below one common prefix. Without test/, val/ is the
 *   test set; beside test/, its images are training images. Class names are those of the folders, sorted by bytes or, when all
 *   are numbers, by value. Images of a part take turns by class, within a class by file name, so that the result depends neither
 *   on the container nor on the order in it.
 * - cifar-10, cifar-100: data_batch_*.bin, test_batch.bin, batches.meta.txt; train.bin, test.bin, fine_label_names.txt.
 * - idx: the four files of the MNIST family, gzip or not.
 * - npz: x_train, y_train, x_test, y_test; x is uint8 and [n,H,W], [n,H,W,C] or [n,C,H,W], C is 1 or 3; y whole numbers.
 * Images: alpha and transparent colours are composited on white, 16 bits are scaled to 8, an orientation in Exif is ignored, CMYK
 * is refused. With channels 1, grey is (299 R + 587 G + 114 B) / 1000, rounded.
 *
 * Refused with the entry's name: names that are absolute, climb, or are not UTF-8; links and devices; duplicates; encrypted
 * entries; archives in archives; and what exceeds a limit. */
#ifndef TRAIN_IMPORT_IMPORT_H
#define TRAIN_IMPORT_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/dataset.h"
#include "common/err.h"

enum {
    IMPORT_SIDE_MIN = 8,
    IMPORT_SIDE_MAX = 224,     /* of a stored image */
    IMPORT_SOURCE_SIDE = 8192, /* of an image that is to be resized */
    IMPORT_SOURCE_PIXELS = 1 << 25,
    IMPORT_ENTRY_IMAGE = 64 << 20, /* bytes of one PNG or JPEG */
    IMPORT_SCANS_MAX = 100,        /* of a progressive JPEG */
    IMPORT_NAME_MAX = 1024,
    IMPORT_COMPONENT_MAX = 255,
    IMPORT_DEPTH_MAX = 16,
    IMPORT_SKIPPED_MAX = 1000,      /* listed; more are counted */
    IMPORT_SKIPPED_BYTES = 3 << 17, /* of names and reasons: the card must fit into a line of the protocol */
    IMPORT_RATIO_FREE = 64 << 20,   /* bytes that may be produced before the ratio counts */
    IMPORT_SHEET_COLUMNS = 25,
    IMPORT_SHEET_SIDE = 64 /* of an image on the sheet, at most */
};

enum import_fit { IMPORT_CROP, IMPORT_PAD, IMPORT_STRETCH };

struct import_options {
    int height, width; /* 0: as the images are, which must all have one size */
    enum import_fit fit;
    int channels; /* 0: one if all images are grey, else three */
    bool skip_damaged;
};

/* What a source may cost. bytes: produced by decompressing, in all; ratio: bytes produced per byte of the source. */
struct import_limits {
    uint64_t bytes, entries, images, ratio, seconds;
};

struct import_progress {
    uint64_t entries, images, bytes; /* bytes: of the source, as far as it is read */
    uint64_t total_bytes;            /* 0: unknown */
};

/* Asked some times a second, by one thread; true: stop. */
typedef bool import_watch_fn(void *arg, const struct import_progress *progress);

struct import_request {
    const char *source;  /* absolute path of a file or directory */
    const char *scratch; /* a directory to keep pixels in, in a file without a name */
    struct import_options options;
    struct import_limits limits;
    import_watch_fn *watch;
    void *arg;
};

/* An image in the pixels of a set: [channels,H,W] at this offset; of one channel in a set of three: grey. */
struct import_image {
    uint64_t at;
    uint8_t label, channels;
    bool test;
};

struct import_skipped {
    char *entry, *reason;
};

/* What was read. Images of the training set come first unless has_test is false: then nothing is said about sets yet. */
struct import_set {
    const char *format; /* "folders", "cifar-10", ... */
    int channels, height, width, classes;
    char *class_names[DATASET_CLASSES_MAX];
    bool has_test;
    struct import_image *images;
    size_t n;
    const uint8_t *pixels; /* mapped, read-only */
    size_t pixels_bytes;
    struct import_skipped skipped[IMPORT_SKIPPED_MAX];
    size_t skipped_n, skipped_bytes, skipped_total;
    uint64_t entries;
};

enum import_result { IMPORT_DONE, IMPORT_STOPPED, IMPORT_FAILED };

/* Reads a source. The same source gives the same set, by however many threads. On failure err says why and ret_entry which entry
 * is to blame ("" for none; bytes that are no UTF-8 are shown as "?"). */
enum import_result import_read(const struct import_request *request, struct import_set *ret_set,
                               char ret_entry[IMPORT_NAME_MAX + 1], struct err *err);
void import_set_done(struct import_set *set); /* accepts zeroed memory */

/* --- sandbox.c --- */

struct import_protection {
    bool no_new_privileges, seccomp;
    int landlock; /* version of its interface; 0: the kernel has none */
};

/* Gives up, for this process and for ever, what an import does not need: with Landlock, every file but those below source (read)
 * and out (read and write); with seccomp, every system call that is not on a list, so sockets and programs; files larger than
 * file_bytes, core dumps, many descriptors. To be called by the only thread. What the kernel does not have is told in
 * ret_protection, anything else that goes wrong is a failure. */
int import_sandbox(const char *source, const char *out, uint64_t file_bytes, struct import_protection *ret_protection,
                   struct err *err);

/* --- sheet.c --- */

/* Where a set's images are after it was stored: pixels [n,C,H,W] and labels [n]. */
struct import_stored {
    int n, channels, height, width, classes;
    const uint8_t *pixels, *labels;
};

/* A PNG with the first IMPORT_SHEET_COLUMNS images of every class, a row a class, one pixel of black between. Larger images are
 * made smaller by whole factors, so that a side has IMPORT_SHEET_SIDE pixels at most. Caller frees
 * *ret_png. */
int import_sheet(const struct import_stored *stored, uint8_t **ret_png, size_t *ret_size, struct err *err);

#endif
