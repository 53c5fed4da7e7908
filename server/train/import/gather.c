/* Reads entries and gives each to the format that knows it: see gather.h. */
#include "server/train/import/gather.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *base_of(const char *name) {
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

int gather_format(struct gather *gather, const char *format, struct err *err) {
    if (gather->format != NULL && strcmp(gather->format, format) != 0)
        return err_set(err, ERR_DATA, "it is of the format %s, an entry before it of %s: a source has one format", format,
                       gather->format);
    gather->format = format;
    return 0;
}

int gather_block(struct gather *gather, bool test, size_t name_at, struct block **ret_block, struct err *err) {
    for (size_t i = 0; i < gather->blocks_n; i++)
        if (gather->blocks[i].test == test && gather->blocks[i].name_at == name_at) {
            *ret_block = &gather->blocks[i];
            return 0;
        }
    if (gather->blocks_n == BLOCKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "there are more than %d files of records", BLOCKS_MAX);
    *ret_block = &gather->blocks[gather->blocks_n++];
    **ret_block = (struct block){.test = test, .name_at = name_at};
    return 0;
}

/* --- images --- */

static int grow(struct gather *gather, struct err *err) {
    size_t room = gather->bytes_room > 0 ? 2 * gather->bytes_room : 1 << 16;
    if (gather->bytes_room >= IMPORT_ENTRY_IMAGE)
        return err_set(err, ERR_DATA, "the image has more than %d bytes", IMPORT_ENTRY_IMAGE);
    uint8_t *bytes = realloc(gather->bytes, room);
    if (bytes == NULL)
        return err_set(err, ERR_MEMORY, "out of memory: an image has %zu bytes", room);
    gather->bytes = bytes;
    gather->bytes_room = room;
    return 0;
}

static int take_image(struct gather *gather, struct err *err) {
    size_t used = 0, n;
    do {
        if (used == gather->bytes_room && grow(gather, err) != 0)
            return -1;
        if (source_read(&gather->source, gather->bytes + used, gather->bytes_room - used, &n, err) != 0)
            return -1;
        used += n;
    } while (used == gather->bytes_room);
    if (guard_images(&gather->guard, 1, err) != 0)
        return -1;
    return pool_add(gather->pool, gather->name_at, gather->bytes, used, err);
}

/* --- other entries --- */

static const struct magic {
    size_t at, n;
    const char *bytes;
} archives[] = {{0, 4, "PK\3\4"},
                {0, 4, "PK\5\6"},
                {0, 2, "\x1f\x8b"},
                {0, 6,
                 "\xfd"
                 "7zXZ\0"},
                {0, 4, "\x28\xb5\x2f\xfd"},
                {0, 6, "7z\xbc\xaf\x27\x1c"},
                {0, 4, "Rar!"},
                {0, 3, "BZh"},
                {257, 5, "ustar"}};

static int refuse_archive(const struct source *source, struct err *err) {
    for (size_t i = 0; i < sizeof archives / sizeof archives[0]; i++)
        if (source->head_n >= archives[i].at + archives[i].n &&
            memcmp(source->head + archives[i].at, archives[i].bytes, archives[i].n) == 0)
            return err_set(err, ERR_DATA, "it is an archive in the archive");
    return 0;
}

static int note_other(struct gather *gather, struct err *err) {
    if (gather->others_n == gather->others_room) {
        size_t room = gather->others_room > 0 ? 2 * gather->others_room : 64;
        size_t *others = realloc(gather->others, room * sizeof *others);
        if (others == NULL)
            return err_set(err, ERR_MEMORY, "out of memory for a list of %zu entries", room);
        gather->others = others;
        gather->others_room = room;
    }
    gather->others[gather->others_n++] = gather->name_at;
    return 0;
}

/* What systems leave beside files. */
static bool is_litter(const char *name) {
    const char *base = base_of(name);
    return base[0] == '.' || strncmp(name, "__MACOSX/", 9) == 0 || strcasecmp(base, "Thumbs.db") == 0 ||
           strcasecmp(base, "desktop.ini") == 0;
}

static int take_entry(struct gather *gather, struct err *err) {
    static int (*const takes[])(struct gather *, const char *, bool *, struct err *) = {cifar_take, idx_take, npz_take};
    struct source *source = &gather->source;
    bool taken = false;
    if (names_add(&gather->names, source->name, &gather->name_at, err) != 0)
        return -1;
    if (is_litter(source->name))
        return 0;
    if (decoder_is_image(source->head, source->head_n))
        return take_image(gather, err);
    for (size_t i = 0; i < sizeof takes / sizeof takes[0]; i++)
        if (takes[i](gather, base_of(source->name), &taken, err) != 0 || taken)
            return taken ? 0 : -1;
    if (refuse_archive(source, err) != 0)
        return -1;
    return note_other(gather, err);
}

static int read_entries(struct gather *gather, struct err *err) {
    do {
        if (source_next(&gather->source, err) != 0)
            return -1;
        if (gather->source.name != NULL && take_entry(gather, err) != 0)
            return -1;
    } while (gather->source.name != NULL);
    return 0;
}

int gather_all(struct gather *gather, struct err *err) {
    struct err reading = {0};
    size_t failed_at = SIZE_MAX;
    int rc = read_entries(gather, &reading);
    gather->blame = gather->source.name;
    struct pool *pool = gather->pool;
    gather->pool = NULL;
    if (gather->guard.stopped) {
        pool_free(pool);
        return err_set(err, reading.code, "%s", reading.text);
    }
    /* An image that failed came before what could not be read. */
    if (pool_finish(pool, &gather->found, &gather->found_n, &failed_at, err) != 0) {
        gather->blame = failed_at == SIZE_MAX ? NULL : gather->names.bytes + failed_at;
        return -1;
    }
    return rc == 0 ? 0 : err_set(err, reading.code, "%s", reading.text);
}

void gather_done(struct gather *gather) {
    pool_free(gather->pool);
    source_close(&gather->source);
    store_done(&gather->store);
    names_done(&gather->names);
    found_free(gather->found, gather->found_n);
    free(gather->bytes);
    free(gather->others);
    for (size_t i = 0; i < gather->blocks_n; i++)
        free(gather->blocks[i].labels);
    for (int c = 0; c < gather->class_names_n; c++)
        free(gather->class_names[c]);
}
