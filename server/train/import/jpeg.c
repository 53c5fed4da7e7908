/* JPEG by libjpeg-turbo: see picture.h. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "server/train/import/picture.h"

/* libjpeg reports by calls; ours jump back. */
struct jpeg {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    struct err *err;
};

static void give_up(j_common_ptr info) {
    struct jpeg *jpeg = info->client_data;
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    err_set(jpeg->err, ERR_DATA, "the JPEG is damaged: %s", text);
    longjmp(jpeg->failed, 1);
}

/* A level below 0 is a warning: libjpeg would go on with invented pixels. */
static void on_message(j_common_ptr info, int level) {
    if (level < 0)
        give_up(info);
}

/* Each scan of a progressive JPEG goes over the whole image: thousands of them cost minutes (cure53's audit of libjpeg-turbo). */
static void on_progress(j_common_ptr info) {
    struct jpeg *jpeg = info->client_data;
    if (jpeg->info.input_scan_number <= IMPORT_SCANS_MAX)
        return;
    err_set(jpeg->err, ERR_DATA, "the JPEG has more than %d scans", IMPORT_SCANS_MAX);
    longjmp(jpeg->failed, 1);
}

static int jpeg_new(struct jpeg **ret_jpeg, struct err *err) {
    struct jpeg *jpeg = calloc(1, sizeof *jpeg);
    if (jpeg == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for a JPEG");
    jpeg->info.err = jpeg_std_error(&jpeg->errors);
    jpeg->errors.error_exit = give_up;
    jpeg->errors.emit_message = on_message;
    jpeg->progress.progress_monitor = on_progress;
    jpeg->info.client_data = jpeg;
    jpeg->err = err;
    if (setjmp(jpeg->failed) != 0) {
        free(jpeg);
        return -1;
    }
    jpeg_create_decompress(&jpeg->info);
    jpeg->info.progress = &jpeg->progress;
    *ret_jpeg = jpeg;
    return 0;
}

void jpeg_free(struct jpeg *jpeg) {
    if (jpeg == NULL)
        return;
    jpeg_destroy_decompress(&jpeg->info);
    free(jpeg);
}

static int choose_colours(struct jpeg *jpeg) {
    J_COLOR_SPACE space = jpeg->info.jpeg_color_space;
    if (space != JCS_GRAYSCALE && space != JCS_RGB && space != JCS_YCbCr)
        return err_set(jpeg->err, ERR_DATA, "the JPEG has CMYK or other colours of print; grey and RGB are read");
    jpeg->info.out_color_space = space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
    return 0;
}

static int read_rows(struct jpeg *jpeg, struct decoder *decoder, struct picture *ret_picture) {
    struct jpeg_decompress_struct *info = &jpeg->info;
    size_t stride = (size_t)info->output_width * (size_t)info->output_components;
    if (decoder_room(decoder, stride * info->output_height, jpeg->err) != 0)
        return -1;
    while (info->output_scanline < info->output_height) {
        JSAMPROW row = decoder->pixels + stride * info->output_scanline;
        jpeg_read_scanlines(info, &row, 1);
    }
    *ret_picture = (struct picture){info->output_components, (int)info->output_height, (int)info->output_width, decoder->pixels};
    return 0;
}

static int decode(struct jpeg *jpeg, struct decoder *decoder, struct picture *ret_picture) {
    struct jpeg_decompress_struct *info = &jpeg->info;
    jpeg_read_header(info, TRUE);
    if (picture_check(info->image_height, info->image_width, decoder->fitted, jpeg->err) != 0 || choose_colours(jpeg) != 0)
        return -1;
    jpeg_start_decompress(info);
    if (read_rows(jpeg, decoder, ret_picture) != 0)
        return -1;
    jpeg_finish_decompress(info);
    return 0;
}

int jpeg_decode(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err) {
    if (decoder->jpeg == NULL && jpeg_new(&decoder->jpeg, err) != 0)
        return -1;
    struct jpeg *jpeg = decoder->jpeg;
    jpeg->err = err;
    if (setjmp(jpeg->failed) != 0) {
        jpeg_abort_decompress(&jpeg->info);
        return -1;
    }
    jpeg_mem_src(&jpeg->info, bytes, size);
    int rc = decode(jpeg, decoder, ret_picture);
    jpeg_abort_decompress(&jpeg->info);
    return rc;
}
