/* Chooses the decoder of an image: see picture.h. */
#include <stdlib.h>
#include <string.h>

#include "server/train/import/picture.h"

static bool is_png(const uint8_t *head, size_t size) {
    static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    return size >= sizeof magic && memcmp(head, magic, sizeof magic) == 0;
}

static bool is_jpeg(const uint8_t *head, size_t size) {
    return size >= 3 && head[0] == 0xff && head[1] == 0xd8 && head[2] == 0xff;
}

bool decoder_is_image(const uint8_t *head, size_t size) {
    return is_png(head, size) || is_jpeg(head, size);
}

int decoder_run(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err) {
    if (is_png(bytes, size))
        return png_decode(decoder, bytes, size, ret_picture, err);
    if (is_jpeg(bytes, size))
        return jpeg_decode(decoder, bytes, size, ret_picture, err);
    return err_set(err, ERR_DATA, "it is neither a PNG nor a JPEG");
}

int decoder_room(struct decoder *decoder, size_t size, struct err *err) {
    if (size <= decoder->room)
        return 0;
    uint8_t *pixels = realloc(decoder->pixels, size);
    if (pixels == NULL)
        return err_set(err, ERR_MEMORY, "out of memory: a picture needs %zu bytes", size);
    decoder->pixels = pixels;
    decoder->room = size;
    return 0;
}

void decoder_done(struct decoder *decoder) {
    jpeg_free(decoder->jpeg);
    free(decoder->pixels);
    *decoder = (struct decoder){0};
}

int picture_check(int64_t height, int64_t width, bool fitted, struct err *err) {
    int64_t least = fitted ? 1 : IMPORT_SIDE_MIN, most = fitted ? IMPORT_SOURCE_SIDE : IMPORT_SIDE_MAX;
    if (height < least || width < least || height > most || width > most)
        return err_set(err, ERR_DATA, "it has %jd x %jd pixels; %jd to %jd a side are possible%s", (intmax_t)height,
                       (intmax_t)width, (intmax_t)least, (intmax_t)most, fitted ? "" : " without \"size\", which resizes");
    if (height * width > IMPORT_SOURCE_PIXELS)
        return err_set(err, ERR_DATA, "it has %jd x %jd pixels; %d in all are possible", (intmax_t)height, (intmax_t)width,
                       IMPORT_SOURCE_PIXELS);
    return 0;
}
