/* What is found while a source is read, before it is known what it is. */
#ifndef TRAIN_IMPORT_GATHER_H
#define TRAIN_IMPORT_GATHER_H

#include "server/train/import/guard.h"
#include "server/train/import/names.h"
#include "server/train/import/pool.h"
#include "server/train/import/source.h"

enum { BLOCKS_MAX = 64 };

/* Images of one array or one file of records, and their labels: in IDX and npz these come from two entries. */
struct block {
    size_t name_at; /* orders the blocks of a part */
    bool test;
    uint64_t at; /* in the store: n fitted images, one after the other */
    size_t n;
    int channels, height, width; /* of each */
    uint8_t *labels;
    size_t labels_n;
};

struct gather {
    const struct import_request *request;
    struct guard guard;
    struct store store;
    struct source source;
    struct names names;
    size_t name_at;    /* of the entry that is being read */
    const char *blame; /* the name of the entry that a failure is about; NULL: none */

    /* images */
    struct pool *pool;
    uint8_t *bytes; /* of one encoded image */
    size_t bytes_room;
    struct found *found;
    size_t found_n;
    size_t *others; /* where the names begin of what is no image */
    size_t others_n, others_room;

    /* arrays */
    const char *format; /* NULL: none seen */
    struct block blocks[BLOCKS_MAX];
    size_t blocks_n;
    char *class_names[DATASET_CLASSES_MAX]; /* where a file tells them */
    int class_names_n;
};

/* Reads every entry of the source. */
int gather_all(struct gather *gather, struct err *err);
void gather_done(struct gather *gather);

/* Notes the format of an array; ERR_DATA when another one was seen. */
int gather_format(struct gather *gather, const char *format, struct err *err);

/* The block of a part, by a name (cifar), or of the whole part (SIZE_MAX); made when there is none. */
int gather_block(struct gather *gather, bool test, size_t name_at, struct block **ret_block, struct err *err);

/* --- stream.c: an entry, perhaps decompressed --- */

struct stream {
    struct source *source;
    struct inflater *inflater; /* NULL: as it is */
};

/* As the entry is, or, when it begins as gzip does, decompressed. */
int stream_open(struct source *source, struct stream *ret_stream, struct err *err);
int stream_read(struct stream *stream, uint8_t *to, size_t size, size_t *ret_n, struct err *err);
/* Reads exactly size bytes; ERR_DATA with what when there are less. */
int stream_exactly(struct stream *stream, uint8_t *to, size_t size, const char *what, struct err *err);
/* ERR_DATA when anything is left. */
int stream_end(struct stream *stream, struct err *err);
void stream_close(struct stream *stream);

/* --- records.c: images without a format of their own, one after the other --- */

struct records {
    int channels, height, width;
    bool planar;  /* [C,H,W], not [H,W,C] */
    size_t lead;  /* bytes before the pixels */
    size_t label; /* which of them is the label; only where lead > 0 */
    size_t n;     /* how many; SIZE_MAX: up to the end */
};

/* Appends fitted images, and labels where there is a lead, to a block that has no images yet. */
int records_read(struct gather *gather, struct stream *stream, const struct records *records, struct block *block,
                 struct err *err);

/* Labels of a block that has none yet: n whole numbers of item bytes each, little-endian, 0 to 255. */
int labels_read(struct stream *stream, size_t n, size_t item, struct block *block, struct err *err);

/* --- formats: each looks whether an entry is one of its own, by name and how it begins; *ret_taken says so --- */

int cifar_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err);
int idx_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err);
int npz_take(struct gather *gather, const char *base, bool *ret_taken, struct err *err);

/* --- what came of it: fill set but for pixels and entries --- */

int arrays_finish(struct gather *gather, struct import_set *set, struct err *err);
int folders_finish(struct gather *gather, struct import_set *set, struct err *err);

/* The set's channels, height and width of the images' own; ERR_DATA where two sizes differ. */
int shape_begin(const struct gather *gather, struct import_set *set, int channels, int height, int width, struct err *err);

#endif
