/* Fits pictures: see picture.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/train/import/picture.h"

/* Where on the picture, in pixels, a stored image lies (may be a part of it), and where in the stored image. */
struct placing {
    double top, left, height, width;          /* of the picture */
    int to_top, to_left, to_height, to_width; /* of the stored image */
};

static int rounded(double value, int most) {
    int whole = (int)lround(value);
    return whole < 1 ? 1 : whole > most ? most : whole;
}

static struct placing place(const struct picture *picture, int height, int width, enum import_fit fit) {
    struct placing all = {0, 0, picture->height, picture->width, 0, 0, height, width};
    double down = (double)picture->height / height, across = (double)picture->width / width, scale;
    switch (fit) {
    case IMPORT_STRETCH:
        break;
    case IMPORT_CROP: /* what sticks out in one direction is cut on both sides */
        scale = fmin(down, across);
        all.height = scale * height;
        all.width = scale * width;
        all.top = (picture->height - all.height) / 2;
        all.left = (picture->width - all.width) / 2;
        break;
    case IMPORT_PAD: /* what is missing in one direction is black on both sides */
        scale = fmax(down, across);
        all.to_height = rounded(picture->height / scale, height);
        all.to_width = rounded(picture->width / scale, width);
        all.to_top = (height - all.to_height) / 2;
        all.to_left = (width - all.to_width) / 2;
        break;
    }
    return all;
}

/* The weights of the source pixels first, first + 1, ... of one pixel of the result. */
struct weights {
    int first, n;
    float *values;
};

static float triangle(double distance) {
    return distance < 1 ? (float)(1 - distance) : 0;
}

/* Weights of pixel i of n along a direction of which the part begin to begin + length of size pixels is shown. */
static void weigh(int i, int n, double begin, double length, int size, struct weights *ret) {
    double scale = length / n, reach = scale > 1 ? scale : 1, center = begin + (i + 0.5) * scale;
    int first = (int)ceil(center - reach - 0.5), last = (int)floor(center + reach - 0.5);
    float sum = 0;
    ret->first = first > 0 ? first : 0;
    ret->n = (last < size - 1 ? last : size - 1) - ret->first + 1;
    for (int k = 0; k < ret->n; k++)
        sum += ret->values[k] = triangle(fabs(ret->first + k + 0.5 - center) / reach);
    for (int k = 0; k < ret->n; k++)
        ret->values[k] /= sum;
}

static size_t weights_most(double length, int n) {
    double scale = length / n;
    return (size_t)(2 * (scale > 1 ? scale : 1)) + 3;
}

/* Narrows every row that is needed: [H,W,C] to [H,to_width,C], as floats. */
static void across(const struct picture *picture, const struct placing *p, float *values, float *ret_rows) {
    size_t channels = (size_t)picture->channels;
    for (int x = 0; x < p->to_width; x++) {
        struct weights w = {.values = values};
        weigh(x, p->to_width, p->left, p->width, picture->width, &w);
        for (int y = 0; y < picture->height; y++) {
            const uint8_t *from = picture->pixels + ((size_t)y * (size_t)picture->width + (size_t)w.first) * channels;
            float *to = ret_rows + ((size_t)y * (size_t)p->to_width + (size_t)x) * channels;
            for (size_t c = 0; c < channels; c++) {
                to[c] = 0;
                for (int k = 0; k < w.n; k++)
                    to[c] += w.values[k] * (float)from[(size_t)k * channels + c];
            }
        }
    }
}

/* Shortens the columns into the stored image [height,width,C]. */
static void down(const struct picture *picture, const struct placing *p, float *values, const float *rows, int width,
                 uint8_t *ret_pixels) {
    size_t stride = (size_t)p->to_width * (size_t)picture->channels;
    for (int y = 0; y < p->to_height; y++) {
        struct weights w = {.values = values};
        weigh(y, p->to_height, p->top, p->height, picture->height, &w);
        size_t at = ((size_t)(y + p->to_top) * (size_t)width + (size_t)p->to_left) * (size_t)picture->channels;
        for (size_t i = 0; i < stride; i++) {
            float sum = 0;
            for (int k = 0; k < w.n; k++)
                sum += w.values[k] * rows[(size_t)(w.first + k) * stride + i];
            ret_pixels[at + i] = (uint8_t)fminf(fmaxf(roundf(sum), 0), 255);
        }
    }
}

static int resize(const struct picture *picture, const struct import_options *options, uint8_t *ret_pixels, struct err *err) {
    struct placing p = place(picture, options->height, options->width, options->fit);
    size_t rows_n = (size_t)picture->height * (size_t)p.to_width * (size_t)picture->channels;
    size_t most_down = weights_most(p.height, p.to_height), most_across = weights_most(p.width, p.to_width);
    float *rows = malloc(rows_n * sizeof *rows);
    float *values = malloc((most_down > most_across ? most_down : most_across) * sizeof *values);
    int rc = rows == NULL || values == NULL ? err_set(err, ERR_MEMORY, "out of memory while resizing a picture") : 0;
    if (rc == 0) {
        memset(ret_pixels, 0, (size_t)options->height * (size_t)options->width * (size_t)picture->channels);
        across(picture, &p, values, rows);
        down(picture, &p, values, rows, options->width, ret_pixels);
    }
    free(rows);
    free(values);
    return rc;
}

static int room(struct fitted *fitted, size_t size, struct err *err) {
    if (size <= fitted->room)
        return 0;
    uint8_t *pixels = realloc(fitted->pixels, size);
    if (pixels == NULL)
        return err_set(err, ERR_MEMORY, "out of memory: an image needs %zu bytes", size);
    fitted->pixels = pixels;
    fitted->room = size;
    return 0;
}

static uint8_t grey_of(const uint8_t *rgb) {
    return (uint8_t)((299U * rgb[0] + 587U * rgb[1] + 114U * rgb[2] + 500) / 1000);
}

static void split_colours(const uint8_t *from, size_t plane, uint8_t *restrict to) {
    for (size_t i = 0; i < plane; i++) {
        to[i] = from[3 * i];
        to[plane + i] = from[3 * i + 1];
        to[2 * plane + i] = from[3 * i + 2];
    }
}

/* [H,W,C] to [C,H,W], or to grey. */
static void separate(const uint8_t *from, int channels, size_t plane, struct fitted *to) {
    if (channels == 1)
        memcpy(to->pixels, from, plane);
    else if (to->channels == 3)
        split_colours(from, plane, to->pixels);
    else
        for (size_t i = 0; i < plane; i++)
            to->pixels[i] = grey_of(from + 3 * i);
}

int picture_fit(const struct picture *picture, const struct import_options *options, struct fitted *ret_fitted, struct err *err) {
    bool resized = options->height > 0 && (options->height != picture->height || options->width != picture->width);
    int height = resized ? options->height : picture->height, width = resized ? options->width : picture->width;
    size_t plane = (size_t)height * (size_t)width, size = plane * (size_t)picture->channels;
    /* The second half is for the resized picture before its channels are separated. */
    if (room(ret_fitted, 2 * size, err) != 0)
        return -1;
    const uint8_t *from = picture->pixels;
    if (resized) {
        if (resize(picture, options, ret_fitted->pixels + size, err) != 0)
            return -1;
        from = ret_fitted->pixels + size;
    }
    ret_fitted->height = height;
    ret_fitted->width = width;
    ret_fitted->channels = options->channels == 1 ? 1 : picture->channels;
    separate(from, picture->channels, plane, ret_fitted);
    return 0;
}

void fitted_done(struct fitted *fitted) {
    free(fitted->pixels);
    *fitted = (struct fitted){0};
}
