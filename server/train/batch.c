/* Batch assembly: see batch.h. */
#include "server/train/batch.h"

#include <math.h>
#include <string.h>

#include "server/train/parallel.h"

/* --- crop and flip --- */

static void fill(float *row, int n, float value) {
    for (int x = 0; x < n; x++)
        row[x] = value;
}

/* One row of width pixels, [begin, end) of which come from the image; values gives each byte's number. */
static void fill_row(const uint8_t *from, int width, const struct augment_moves *moves, const float *values, float *to) {
    int begin = moves->shift_x < 0 ? -moves->shift_x : 0;
    int end = moves->shift_x > 0 ? width - moves->shift_x : width;
    if (begin >= end) { /* shifted out of sight */
        fill(to, width, values[0]);
        return;
    }
    if (moves->flip) {
        fill(to, width - end, values[0]);
        for (int x = begin; x < end; x++)
            to[width - 1 - x] = values[from[x + moves->shift_x]];
        fill(to + width - begin, begin, values[0]);
        return;
    }
    fill(to, begin, values[0]);
    for (int x = begin; x < end; x++)
        to[x] = values[from[x + moves->shift_x]];
    fill(to + end, width - end, values[0]);
}

static void fill_plane(const struct data *data, const uint8_t *pixels, const struct augment_moves *moves, const float *values,
                       float *plane) {
    size_t width = (size_t)data->width;
    for (int y = 0; y < data->height; y++) {
        int from = y + moves->shift_y;
        float *row = plane + (size_t)y * width;
        if (from < 0 || from >= data->height)
            fill(row, data->width, values[0]);
        else
            fill_row(pixels + (size_t)from * width, data->width, moves, values, row);
    }
}

static void fill_fractions(const struct data *data, const uint8_t *pixels, const struct augment_moves *moves, float *image) {
    size_t plane = (size_t)data->height * (size_t)data->width;
    float fractions[256];
    for (int value = 0; value < 256; value++)
        fractions[value] = (float)value / 255;
    for (int c = 0; c < data->channels; c++)
        fill_plane(data, pixels + (size_t)c * plane, moves, fractions, image + (size_t)c * plane);
}

/* --- rotation --- */

/* The two rows or columns of the stored image that a place between them is mixed of. One that lies outside is black: it has no
 * weight. */
struct mix {
    int at[2];
    float weights[2];
};

static void mix_at(float place, int size, int shift, bool flip, struct mix *ret_mix) {
    float before = floorf(place), past = place - before;
    for (int i = 0; i < 2; i++) {
        int at = (int)before + i, from = (flip ? size - 1 - at : at) + shift;
        bool inside = at >= 0 && at < size && from >= 0 && from < size;
        ret_mix->at[i] = inside ? from : 0;
        ret_mix->weights[i] = !inside ? 0 : i == 0 ? 1 - past : past;
    }
}

static float mixed_pixel(const uint8_t *plane, int width, const struct mix *rows, const struct mix *columns) {
    float sum = 0;
    for (int i = 0; i < 2; i++) {
        const uint8_t *row = plane + rows->at[i] * width;
        sum += rows->weights[i] *
               (columns->weights[0] * (float)row[columns->at[0]] + columns->weights[1] * (float)row[columns->at[1]]);
    }
    return sum / 255;
}

/* The pixels of the cropped and flipped image as fractions, turned around its center counter-clockwise (the y axis points down).
 */
static void fill_rotated(const struct data *data, const uint8_t *pixels, const struct augment_moves *moves, float *image) {
    float sine = moves->sine, cosine = moves->cosine;
    float middle_y = (float)(data->height - 1) / 2, middle_x = (float)(data->width - 1) / 2;
    size_t plane = (size_t)data->height * (size_t)data->width, at = 0;
    for (int y = 0; y < data->height; y++)
        for (int x = 0; x < data->width; x++, at++) {
            float down = (float)y - middle_y, right = (float)x - middle_x;
            struct mix rows, columns;
            mix_at(sine * right + cosine * down + middle_y, data->height, moves->shift_y, false, &rows);
            mix_at(cosine * right - sine * down + middle_x, data->width, moves->shift_x, moves->flip, &columns);
            for (int c = 0; c < data->channels; c++)
                image[(size_t)c * plane + at] = mixed_pixel(pixels + (size_t)c * plane, data->width, &rows, &columns);
        }
}

/* --- brightness and contrast, of fractions --- */

static float clamped(float value) {
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

static void brighten(float *image, size_t size, float factor) {
    for (size_t i = 0; i < size; i++)
        image[i] = clamped(image[i] * factor);
}

/* Weights of ITU-R BT.601, as torchvision's rgb_to_grayscale rounds them. */
static double mean_grey(const float *image, size_t plane, int channels) {
    static const double weights[] = {0.2989, 0.587, 0.114};
    double sum = 0;
    for (int c = 0; c < channels; c++) {
        double part = 0;
        for (size_t i = 0; i < plane; i++)
            part += (double)image[(size_t)c * plane + i];
        sum += (channels == 3 ? weights[c] : 1.0 / channels) * part;
    }
    return sum / (double)plane;
}

static void stretch(float *image, size_t size, float factor, double middle) {
    float rest = (1 - factor) * (float)middle;
    for (size_t i = 0; i < size; i++)
        image[i] = clamped(image[i] * factor + rest);
}

static void color(const struct augment *augment, const struct augment_moves *moves, size_t plane, int channels, float *image) {
    if (augment->brightness > 0)
        brighten(image, plane * (size_t)channels, moves->brightness);
    if (augment->contrast > 0)
        stretch(image, plane * (size_t)channels, moves->contrast, mean_grey(image, plane, channels));
}

/* --- one image --- */

static void normalize(const struct data *data, float *image) {
    size_t plane = (size_t)data->height * (size_t)data->width;
    for (int c = 0; c < data->channels; c++)
        for (size_t i = 0; i < plane; i++, image++)
            *image = (float)(((double)*image - data->mean[c]) / data->deviation[c]);
}

/* The slower way, over fractions, which rotation and colors need. */
static void fill_by_fractions(const struct data *data, const uint8_t *pixels, const struct augment *augment,
                              const struct augment_moves *moves, float *image) {
    size_t plane = (size_t)data->height * (size_t)data->width;
    if (augment->rotation > 0)
        fill_rotated(data, pixels, moves, image);
    else
        fill_fractions(data, pixels, moves, image);
    color(augment, moves, plane, data->channels, image);
    normalize(data, image);
}

static void fill_normalized(const struct data *data, const uint8_t *pixels, const struct augment_moves *moves, float *image) {
    size_t plane = (size_t)data->height * (size_t)data->width;
    for (int c = 0; c < data->channels; c++)
        fill_plane(data, pixels + (size_t)c * plane, moves, data->normal[c], image + (size_t)c * plane);
}

/* Black in the normalized image. */
static void cut_out(const struct data *data, const struct augment_moves *moves, float *image) {
    int top = moves->cut_top, bottom = top + moves->cut_side;
    int left = moves->cut_left, right = left + moves->cut_side;
    int begin = left > 0 ? left : 0, end = right < data->width ? right : data->width;
    for (int c = 0; c < data->channels; c++)
        for (int y = top > 0 ? top : 0; y < bottom && y < data->height; y++)
            fill(image + ((size_t)c * (size_t)data->height + (size_t)y) * (size_t)data->width + begin, end - begin,
                 data->normal[c][0]);
}

/* --- a batch --- */

struct augment batch_augment(const struct spec *spec, int epoch) {
    return (struct augment){.crop = spec->augment.crop,
                            .flip = spec->augment.flip,
                            .rotation = spec->augment.rotation,
                            .brightness = spec->augment.brightness,
                            .contrast = spec->augment.contrast,
                            .cutout = spec->augment.cutout,
                            .mixup = spec->augment.mixup,
                            .seed = spec->seed,
                            .epoch = (uint32_t)epoch};
}

static void fill_image(const struct data *data, const uint8_t *pixels, const struct augment *augment, uint32_t sample,
                       float *image) {
    struct augment_moves moves = augment_moves(augment, sample, data->height, data->width);
    if (augment_is_slow(augment))
        fill_by_fractions(data, pixels, augment, &moves, image);
    else
        fill_normalized(data, pixels, &moves, image);
    if (moves.cut_side > 0)
        cut_out(data, &moves, image);
}

static void fill_targets(const struct image_set *set, const struct augment *augment, const struct batch *batch) {
    for (int i = 0; i < batch->n; i++)
        batch->labels[i] = set->labels[batch->samples[i]];
    if (augment->mixup > 0)
        mixup_targets(augment, batch);
}

struct filling {
    const struct data *data;
    const struct image_set *set;
    const struct augment *augment;
    const struct batch *batch;
    size_t size; /* values of an image */
};

static void fill_some(void *arg, int begin, int end) {
    const struct filling *f = arg;
    for (int i = begin; i < end; i++) {
        uint32_t sample = f->batch->samples[i];
        fill_image(f->data, f->set->pixels + sample * f->size, f->augment, sample, f->batch->images + (size_t)i * f->size);
    }
}

/* What turns and colours an image takes ten times as long as what only moves its pixels, which is done before a thread starts. */
static void fill_images(struct filling *filling) {
    enum { IMAGES_A_RUN = 16 };
    const struct batch *batch = filling->batch;
    if (augment_is_slow(filling->augment))
        parallel_run(batch->n, IMAGES_A_RUN, fill_some, filling);
    else
        fill_some(filling, 0, batch->n);
    if (filling->augment->mixup > 0)
        mixup_images(batch, filling->size);
}

void batch_fill(const struct data *data, const struct image_set *set, const struct augment *augment, const struct batch *batch) {
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    struct filling filling = {data, set, augment, batch, size};
    fill_targets(set, augment, batch);
    if (batch->images != NULL)
        fill_images(&filling);
}

/* --- for a backend --- */

struct backend_batch batch_step(const struct spec *spec, const struct augment *augment, const struct batch *batch) {
    bool mixes = augment->mixup > 0;
    return (struct backend_batch){.n = batch->n,
                                  .images = batch->images,
                                  .set = SET_TRAIN,
                                  .augment = augment,
                                  .labels = batch->labels,
                                  .others = mixes ? batch->others : NULL,
                                  .shares = mixes ? batch->shares : NULL,
                                  .smoothing = (float)spec->label_smoothing,
                                  .seed = spec->seed,
                                  .epoch = augment->epoch,
                                  .samples = batch->samples};
}

struct backend_optimizer batch_update(const struct spec *spec, double lr, int64_t step) {
    return (struct backend_optimizer){.kind = spec->optimizer.kind,
                                      .lr = (float)lr,
                                      .momentum = (float)spec->optimizer.momentum,
                                      .weight_decay = (float)spec->optimizer.weight_decay,
                                      .beta1 = (float)spec->optimizer.beta1,
                                      .beta2 = (float)spec->optimizer.beta2,
                                      .alpha = (float)spec->optimizer.alpha,
                                      .epsilon = (float)spec->optimizer.epsilon,
                                      .nesterov = spec->optimizer.nesterov,
                                      .decay_weights_only = !spec->optimizer.decay_norm_bias,
                                      .clip_norm = (float)spec->optimizer.clip_norm,
                                      .average_decay = (float)spec->average_decay,
                                      .step = step};
}
