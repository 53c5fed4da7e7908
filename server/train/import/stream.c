/* Entries, decompressed where they are gzip: see gather.h. */
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "server/train/import/gather.h"

enum { IN_BYTES = 1 << 16, GZIP_ONLY = 16 + MAX_WBITS };

struct inflater {
    z_stream z;
    bool ended; /* after the checksum */
    uint8_t in[IN_BYTES];
};

static bool is_gzip(const struct source *source) {
    return source->head_n >= 2 && source->head[0] == 0x1f && source->head[1] == 0x8b;
}

int stream_open(struct source *source, struct stream *ret_stream, struct err *err) {
    *ret_stream = (struct stream){.source = source};
    if (!is_gzip(source))
        return 0;
    struct inflater *inflater = calloc(1, sizeof *inflater);
    if (inflater == NULL || inflateInit2(&inflater->z, GZIP_ONLY) != Z_OK) {
        free(inflater);
        return err_set(err, ERR_MEMORY, "out of memory while decompressing");
    }
    ret_stream->inflater = inflater;
    return 0;
}

void stream_close(struct stream *stream) {
    if (stream->inflater != NULL)
        inflateEnd(&stream->inflater->z);
    free(stream->inflater);
    stream->inflater = NULL;
}

static int refill(struct stream *stream, struct err *err) {
    struct inflater *inflater = stream->inflater;
    size_t n;
    if (source_read(stream->source, inflater->in, sizeof inflater->in, &n, err) != 0)
        return -1;
    if (n == 0)
        return err_set(err, ERR_DATA, "it ends in the middle of its compressed stream");
    inflater->z.next_in = inflater->in;
    inflater->z.avail_in = (unsigned)n;
    return 0;
}

static int inflate_some(struct stream *stream, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    struct inflater *inflater = stream->inflater;
    inflater->z.next_out = to;
    inflater->z.avail_out = (unsigned)(size < IN_BYTES ? size : IN_BYTES);
    unsigned wanted = inflater->z.avail_out;
    while (!inflater->ended && inflater->z.avail_out > 0) {
        if (inflater->z.avail_in == 0 && refill(stream, err) != 0)
            return -1;
        int rc = inflate(&inflater->z, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(err, rc == Z_MEM_ERROR ? ERR_MEMORY : ERR_DATA, "cannot decompress it: %s",
                           inflater->z.msg != NULL ? inflater->z.msg : "no reason told");
        inflater->ended = rc == Z_STREAM_END;
    }
    *ret_n = wanted - inflater->z.avail_out;
    return guard_bytes(stream->source->guard, *ret_n, err);
}

int stream_read(struct stream *stream, uint8_t *to, size_t size, size_t *ret_n, struct err *err) {
    if (stream->inflater == NULL)
        return source_read(stream->source, to, size, ret_n, err);
    size_t got = 0, n = 1;
    while (got < size && n > 0) {
        if (inflate_some(stream, to + got, size - got, &n, err) != 0)
            return -1;
        got += n;
    }
    *ret_n = got;
    return 0;
}

int stream_exactly(struct stream *stream, uint8_t *to, size_t size, const char *what, struct err *err) {
    size_t n;
    if (stream_read(stream, to, size, &n, err) != 0)
        return -1;
    return n == size ? 0 : err_set(err, ERR_DATA, "it is cut short: %s needs %zu bytes, %zu are there", what, size, n);
}

int stream_end(struct stream *stream, struct err *err) {
    uint8_t extra;
    size_t n;
    if (stream_read(stream, &extra, 1, &n, err) != 0)
        return -1;
    return n == 0 ? 0 : err_set(err, ERR_DATA, "it is longer than its header promises");
}
