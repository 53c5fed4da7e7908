/* One image on its way: decoded, then fitted. */
#ifndef TRAIN_IMPORT_PICTURE_H
#define TRAIN_IMPORT_PICTURE_H

#include "server/train/import/import.h"

/* Pixels [H,W,C], C is 1 or 3. Borrowed from whoever decoded them. */
struct picture {
    int channels, height, width;
    const uint8_t *pixels;
};

/* Whether a picture of a source may be so large: before anything is allocated for it. fitted: it is to be resized. */
int picture_check(int64_t height, int64_t width, bool fitted, struct err *err);

/* A stored image: what picture_fit makes. */
struct fitted {
    int channels, height, width;
    uint8_t *pixels; /* [C,H,W]; owned */
    size_t room;
};

/* Resizes (where the options say so), makes grey of colours (where they say so), and turns [H,W,C] into [C,H,W]. ret_fitted may
 * hold memory of an earlier picture, which is used again. Resizing weighs with a triangle over the source pixels that a pixel
 * covers, as Pillow's BILINEAR does. */
int picture_fit(const struct picture *picture, const struct import_options *options, struct fitted *ret_fitted, struct err *err);
void fitted_done(struct fitted *fitted);

/* --- decoders: each keeps memory from image to image --- */

struct decoder {
    struct jpeg *jpeg; /* of jpeg.c; made when first needed */
    uint8_t *pixels;
    size_t room;
    bool fitted; /* its images are to be resized, so that larger ones may come */
};

void decoder_done(struct decoder *decoder);

/* Room for a picture in decoder->pixels. */
int decoder_room(struct decoder *decoder, size_t size, struct err *err);

/* Decodes a PNG or JPEG, told by how it begins. ERR_DATA when it is neither or damaged. */
int decoder_run(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err);
bool decoder_is_image(const uint8_t *head, size_t size);

int png_decode(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err);
int jpeg_decode(struct decoder *decoder, const uint8_t *bytes, size_t size, struct picture *ret_picture, struct err *err);
void jpeg_free(struct jpeg *jpeg);

#endif
