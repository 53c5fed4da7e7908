/* PNG by libpng: see picture.h. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "server/train/import/picture.h"

enum { CHUNK_BYTES = 8 << 20, CHUNKS_KEPT = 128 };

struct reading {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t size, at;
    struct decoder *decoder;
    png_bytep *rows;
    struct err *err;
};

static void give_up(png_structp png, png_const_charp text) {
    struct reading *reading = png_get_error_ptr(png);
    err_set(reading->err, ERR_DATA, "the PNG is damaged: %s", text);
    png_longjmp(png, 1);
}

/* Warnings are about what lies beside the pixels (colour profiles, times); a wrong checksum of pixels is an error. */
static void pass_over(png_structp png, png_const_charp text) {
    (void)png, (void)text;
}

static void take_bytes(png_structp png, png_bytep to, size_t size) {
    struct reading *reading = png_get_io_ptr(png);
    if (size > reading->size - reading->at)
        png_error(png, "it is cut short");
    memcpy(to, reading->bytes + reading->at, size);
    reading->at += size;
}

static void set_limits(png_structp png) {
    png_set_user_limits(png, IMPORT_SOURCE_SIDE, IMPORT_SOURCE_SIDE);
    png_set_chunk_malloc_max(png, CHUNK_BYTES);
    png_set_chunk_cache_max(png, CHUNKS_KEPT);
}

/* Eight bits, grey or RGB, what is transparent on white. */
static void choose_transforms(png_structp png, png_infop info) {
    png_color_16 white = {.red = 0xffff, .green = 0xffff, .blue = 0xffff, .gray = 0xffff};
    bool alpha = (png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    if (png_get_bit_depth(png, info) < 16)
        white = (png_color_16){.red = 0xff, .green = 0xff, .blue = 0xff, .gray = 0xff};
    png_set_expand(png);
    png_set_scale_16(png);
    if (alpha)
        png_set_background(png, &white, PNG_BACKGROUND_GAMMA_SCREEN, 0, 1);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

static int read_rows(struct reading *reading, struct picture *ret_picture) {
    uint32_t height = png_get_image_height(reading->png, reading->info);
    size_t stride = png_get_rowbytes(reading->png, reading->info);
    int channels = png_get_channels(reading->png, reading->info);
    if (channels != 1 && channels != 3)
        return err_set(reading->err, ERR_DATA, "the PNG has %d channels after its alpha is gone", channels);
    reading->rows = calloc(height, sizeof *reading->rows);
    if (reading->rows == NULL)
        return err_set(reading->err, ERR_MEMORY, "out of memory for the rows of a PNG");
    if (decoder_room(reading->decoder, stride * height, reading->err) != 0)
        return -1;
    for (uint32_t y = 0; y < height; y++)
        reading->rows[y] = reading->decoder->pixels + stride * y;
    png_read_image(reading->png, reading->rows);
    png_read_end(reading->png, NULL);
    *ret_picture =
        (struct picture){channels, (int)height, (int)png_get_image_width(reading->png, reading->info), reading->decoder->pixels};
    return 0;
}

static int decode(struct reading *reading, struct picture *ret_picture) {
    if (setjmp(png_jmpbuf(reading->png)) != 0)
        return -1;
    set_limits(reading->png);
    png_set_read_fn(reading->png, reading, take_bytes);
    png_read_info(reading->png, reading->info);
    if (picture_check(png_get_image_height(reading->png, reading->info), png_get_image_width(reading->png, reading->info),
                      reading->decoder->fitted, reading->err) != 0)
        return -1;
    choose_transforms(reading->png, reading->info);
    return read_rows(reading, ret_picture);
}

/* Its sides, which libpng would refuse with less to read. The first chunk is IHDR, with width and height (PNG 1.2, 11.2.2). */
static int check_sides(const uint8_t *bytes, size_t size, const struct decoder *decoder, struct err *err) {
    enum { WIDTH_AT = 16, HEADER = 24 };
    if (size < HEADER)
        return err_set(err, ERR_DATA, "the PNG is cut short");
    uint32_t sides[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *b = bytes + WIDTH_AT + 4 * i;
        sides[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    return picture_check(sides[1], sides[0], decoder->fitted, err);
}

int png_decode(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err) {
    if (check_sides(bytes, size, decoder, err) != 0)
        return -1;
    struct reading *reading = calloc(1, sizeof *reading);
    if (reading == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a PNG");
    *reading = (struct reading){.bytes = bytes, .size = size, .decoder = decoder, .err = err};
    reading->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, reading, give_up, pass_over);
    reading->info = reading->png == NULL ? NULL : png_create_info_struct(reading->png);
    int rc = reading->info == NULL ? err_set(err, ERR_MEMORY, "out of memory for a PNG") : decode(reading, ret_picture);
    png_destroy_read_struct(&reading->png, &reading->info, NULL);
    free(reading->rows);
    free(reading);
    return rc;
}
