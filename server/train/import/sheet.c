/* A sheet of samples as a PNG: see import.h. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "server/train/import/import.h"

enum { GAP = 1 };

struct sheet {
    const struct import_stored *stored;
    size_t height, width;        /* in pixels */
    size_t step, side_y, side_x; /* an image's pixels to one of the sheet; its sides there */
    uint8_t *pixels;             /* [height,width,C] */
    uint8_t *png;
    size_t used, room;
    struct err *err;
};

/* The mean of a square of step pixels, or what of it lies in the image. */
static uint8_t mean(const uint8_t *plane, const struct sheet *sheet, size_t y, size_t x) {
    size_t h = (size_t)sheet->stored->height, w = (size_t)sheet->stored->width, step = sheet->step, sum = 0, n = 0;
    for (size_t i = y * step; i < (y + 1) * step && i < h; i++)
        for (size_t k = x * step; k < (x + 1) * step && k < w; k++, n++)
            sum += plane[i * w + k];
    return (uint8_t)((sum + n / 2) / n);
}

static void put_image(struct sheet *sheet, int image, int row, int column) {
    const struct import_stored *stored = sheet->stored;
    size_t channels = (size_t)stored->channels, plane = (size_t)stored->height * (size_t)stored->width;
    const uint8_t *from = stored->pixels + (size_t)image * channels * plane;
    size_t top = (size_t)row * (sheet->side_y + GAP), left = (size_t)column * (sheet->side_x + GAP);
    for (size_t c = 0; c < channels; c++)
        for (size_t y = 0; y < sheet->side_y; y++)
            for (size_t x = 0; x < sheet->side_x; x++)
                sheet->pixels[((top + y) * sheet->width + left + x) * channels + c] = mean(from + c * plane, sheet, y, x);
}

static void draw(struct sheet *sheet) {
    int columns[DATASET_CLASSES_MAX] = {0};
    for (int i = 0; i < sheet->stored->n; i++) {
        int row = sheet->stored->labels[i];
        if (columns[row] < IMPORT_SHEET_COLUMNS)
            put_image(sheet, i, row, columns[row]++);
    }
}

static void give_up(png_structp png, png_const_charp text) {
    struct sheet *sheet = png_get_error_ptr(png);
    err_set(sheet->err, ERR_MEMORY, "cannot write the sheet of samples: %s", text);
    png_longjmp(png, 1);
}

static void take_bytes(png_structp png, png_bytep bytes, size_t size) {
    struct sheet *sheet = png_get_io_ptr(png);
    if (size > sheet->room - sheet->used) {
        size_t room = 2 * (sheet->room + size);
        uint8_t *larger = realloc(sheet->png, room);
        if (larger == NULL)
            png_error(png, "out of memory");
        sheet->png = larger;
        sheet->room = room;
    }
    memcpy(sheet->png + sheet->used, bytes, size);
    sheet->used += size;
}

static void flush(png_structp png) {
    (void)png;
}

static int write_png(struct sheet *sheet, png_structp png, png_infop info) {
    size_t stride = sheet->width * (size_t)sheet->stored->channels;
    if (setjmp(png_jmpbuf(png)) != 0)
        return -1;
    png_set_write_fn(png, sheet, take_bytes, flush);
    png_set_IHDR(png, info, (uint32_t)sheet->width, (uint32_t)sheet->height, 8,
                 sheet->stored->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (size_t y = 0; y < sheet->height; y++)
        png_write_row(png, sheet->pixels + y * stride);
    png_write_end(png, NULL);
    return 0;
}

static int encode(struct sheet *sheet) {
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, sheet, give_up, NULL);
    png_infop info = png == NULL ? NULL : png_create_info_struct(png);
    int rc =
        info == NULL ? err_set(sheet->err, ERR_MEMORY, "out of memory for the sheet of samples") : write_png(sheet, png, info);
    png_destroy_write_struct(&png, &info);
    return rc;
}

int import_sheet(const struct import_stored *stored, uint8_t **ret_png, size_t *ret_size, struct err *err) {
    struct sheet sheet = {.stored = stored, .err = err};
    size_t h = (size_t)stored->height, w = (size_t)stored->width;
    sheet.step = ((h > w ? h : w) + IMPORT_SHEET_SIDE - 1) / IMPORT_SHEET_SIDE;
    sheet.side_y = (h + sheet.step - 1) / sheet.step;
    sheet.side_x = (w + sheet.step - 1) / sheet.step;
    sheet.height = (size_t)stored->classes * (sheet.side_y + GAP) - GAP;
    sheet.width = (size_t)IMPORT_SHEET_COLUMNS * (sheet.side_x + GAP) - GAP;
    sheet.pixels = calloc(sheet.height * sheet.width, (size_t)stored->channels);
    if (sheet.pixels == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a sheet of %zu x %zu pixels", sheet.height, sheet.width);
    draw(&sheet);
    int rc = encode(&sheet);
    free(sheet.pixels);
    if (rc != 0) {
        free(sheet.png);
        return -1;
    }
    *ret_png = sheet.png;
    *ret_size = sheet.used;
    return 0;
}
