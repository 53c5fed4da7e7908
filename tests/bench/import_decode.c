/* The least that an import of JPEGs can cost: reads an archive by libarchive and decodes every JPEG in it by libjpeg-turbo, in
 * one loop on one thread, keeping nothing. Prints how many there were and the seconds it took. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <archive.h>
#include <archive_entry.h>
#include <jpeglib.h>

enum { BLOCK_BYTES = 1 << 16, IMAGE_BYTES = 1 << 24 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void decode(struct jpeg_decompress_struct *jpeg, const uint8_t *bytes, size_t size, uint8_t *pixels) {
    jpeg_mem_src(jpeg, bytes, size);
    jpeg_read_header(jpeg, TRUE);
    jpeg_start_decompress(jpeg);
    size_t stride = (size_t)jpeg->output_width * (size_t)jpeg->output_components;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = pixels + stride * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
}

static int run(struct archive *archive, struct jpeg_decompress_struct *jpeg, uint8_t *bytes, uint8_t *pixels) {
    struct archive_entry *entry;
    int images = 0, rc;
    while ((rc = archive_read_next_header(archive, &entry)) == ARCHIVE_OK) {
        la_ssize_t size = archive_read_data(archive, bytes, IMAGE_BYTES);
        if (size < 2 || bytes[0] != 0xff || bytes[1] != 0xd8)
            continue;
        decode(jpeg, bytes, (size_t)size, pixels);
        images++;
    }
    return rc == ARCHIVE_EOF ? images : -1;
}

int main(int argc, char **argv) {
    double begin = seconds();
    struct archive *archive = archive_read_new();
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    uint8_t *bytes = malloc(IMAGE_BYTES), *pixels = malloc(IMAGE_BYTES);
    if (argc != 2 || archive == NULL || bytes == NULL || pixels == NULL)
        return 2;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    archive_read_support_filter_all(archive);
    archive_read_support_format_all(archive);
    if (archive_read_open_filename(archive, argv[1], BLOCK_BYTES) != ARCHIVE_OK)
        return 1;
    int images = run(archive, &jpeg, bytes, pixels);
    jpeg_destroy_decompress(&jpeg);
    archive_read_free(archive);
    free(bytes);
    free(pixels);
    printf("{\"images\": %d, \"seconds\": %.3f}\n", images, seconds() - begin);
    return images < 0;
}
