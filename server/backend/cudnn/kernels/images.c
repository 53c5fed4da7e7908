/* Kernels that bring images in: from the host as they are, or from the data set on the device, augmented. What they compute is
 * what the trainer's batch.c and mixup.c compute, bit for bit. */
#include "server/backend/cudnn/kernels/access.h"

KERNEL(images) {
    PHASE(thread) {
        uint32_t pixels = (uint32_t)(p->h * p->w), count = groups_of((int64_t)p->batch * pixels, p->cp);
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int64_t image = row_of(i, p->cp) / pixels, pixel = row_of(i, p->cp) % pixels;
            int32_t channel = channel_of(i, p->cp);
            struct lanes lanes = no_lanes();
            for (int k = 0; k < LANES; k++)
                if (image < p->step->n && channel + k < p->c)
                    lanes.v[k] = p->images[(image * p->c + channel + k) * pixels + pixel];
            store_lanes(p->y, value_of(i), p->bf16, &lanes);
        }
    }
}

/* --- augmentation --- */

/* An image of the data set and what becomes of it. */
struct picture {
    const struct kernel_step *step;
    const uint8_t *pixels; /* [c, h, w] */
    const float *normal;   /* [c][256] */
    const double *moments; /* mean [c], deviation [c] */
    struct augment_moves moves;
    double grey; /* the mean, for contrast */
    int32_t c, h, w;
};

/* A pixel of the image after crop and flip; what lies outside is black. */
FUNCTION uint8_t moved_pixel(const struct picture *picture, int32_t c, int32_t y, int32_t x) {
    int32_t from_y = y + picture->moves.shift_y;
    int32_t from_x = (picture->moves.flip ? picture->w - 1 - x : x) + picture->moves.shift_x;
    if (from_y < 0 || from_y >= picture->h || from_x < 0 || from_x >= picture->w)
        return 0;
    return picture->pixels[((int64_t)c * picture->h + from_y) * picture->w + from_x];
}

/* The two rows or columns of the stored image that a place between them is mixed of; one that lies outside has no weight. */
struct mix {
    int32_t at[2];
    float weights[2];
};

FUNCTION struct mix mix_at(float place, int32_t size, int32_t shift, int32_t flip) {
    float before = floorf(place), past = place - before;
    struct mix mix;
    UNROLLED(2)
    for (int i = 0; i < 2; i++) {
        int32_t at = (int32_t)before + i, from = (flip ? size - 1 - at : at) + shift;
        int32_t inside = at >= 0 && at < size && from >= 0 && from < size;
        mix.at[i] = inside ? from : 0;
        mix.weights[i] = !inside ? 0 : i == 0 ? 1 - past : past;
    }
    return mix;
}

/* A pixel of the cropped and flipped image as a fraction, turned around its center counter-clockwise (the y axis points down). */
FUNCTION float rotated_pixel(const struct picture *picture, int32_t c, int32_t y, int32_t x) {
    float sine = picture->moves.sine, cosine = picture->moves.cosine;
    float middle_y = (float)(picture->h - 1) / 2, middle_x = (float)(picture->w - 1) / 2;
    float down = (float)y - middle_y, right = (float)x - middle_x, sum = 0;
    struct mix rows = mix_at(sine * right + cosine * down + middle_y, picture->h, picture->moves.shift_y, 0);
    struct mix columns = mix_at(cosine * right - sine * down + middle_x, picture->w, picture->moves.shift_x, picture->moves.flip);
    UNROLLED(2)
    for (int i = 0; i < 2; i++) {
        const uint8_t *row = picture->pixels + ((int64_t)c * picture->h + rows.at[i]) * picture->w;
        sum +=
            rows.weights[i] * (columns.weights[0] * (float)row[columns.at[0]] + columns.weights[1] * (float)row[columns.at[1]]);
    }
    return sum / 255;
}

FUNCTION float clamped(float value) {
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

/* After rotation and brightness. */
FUNCTION float bright_pixel(const struct picture *picture, int32_t c, int32_t y, int32_t x) {
    float value = picture->step->rotates ? rotated_pixel(picture, c, y, x) : (float)moved_pixel(picture, c, y, x) / 255;
    return picture->step->brightens ? clamped(value * picture->moves.brightness) : value;
}

FUNCTION int32_t is_cut(const struct augment_moves *moves, int32_t y, int32_t x) {
    return y >= moves->cut_top && y < moves->cut_top + moves->cut_side && x >= moves->cut_left &&
           x < moves->cut_left + moves->cut_side;
}

/* A pixel, normalized. Fractions are only computed where pixels are more than moved. */
FUNCTION float normal_pixel(const struct picture *picture, int32_t c, int32_t y, int32_t x) {
    const struct kernel_step *step = picture->step;
    if (is_cut(&picture->moves, y, x))
        return picture->normal[c * 256];
    if (!step->rotates && !step->brightens && !step->contrasts)
        return picture->normal[c * 256 + moved_pixel(picture, c, y, x)];
    float value = bright_pixel(picture, c, y, x);
    if (step->contrasts) {
        float factor = picture->moves.contrast, rest = (1 - factor) * (float)picture->grey;
        value = clamped(value * factor + rest);
    }
    return (float)(((double)value - picture->moments[c]) / picture->moments[picture->c + c]);
}

FUNCTION struct picture picture_of(const struct launch *launch, const struct kernel_step *step,
                                   const struct kernel_sample *sample, int32_t c, int32_t h, int32_t w) {
    struct picture picture;
    (void)launch; /* unused on the device */
    picture.step = step;
    picture.pixels = STORED(launch, step->pixels) + (int64_t)sample->sample * c * h * w;
    picture.normal = STORED(launch, step->normal);
    picture.moments = STORED(launch, step->moments);
    picture.moves = sample->moves;
    picture.grey = 0;
    picture.c = c;
    picture.h = h;
    picture.w = w;
    return picture;
}

/* Channel by channel: 256 threads compute as many pixels, and one adds them in their order. Weights of ITU-R BT.601, as
 * torchvision's rgb_to_grayscale rounds them. */
KERNEL(grey) {
    SHARED(float, values, [KERNEL_THREADS]);
    SHARED(double, sums, [2]); /* of the channel, of all channels */
    int32_t pixels = p->h * p->w, n = p->step->contrasts ? p->step->n : 0;
    for (int32_t image = (int32_t)launch->block_x; image < n; image += (int32_t)launch->blocks_x)
        for (int32_t c = 0; c < p->c; c++)
            for (int32_t tile = 0; tile < pixels; tile += KERNEL_THREADS) {
                PHASE(thread) {
                    int32_t pixel = tile + (int32_t)thread;
                    struct picture picture = picture_of(launch, p->step, &p->samples[image], p->c, p->h, p->w);
                    if (pixel < pixels)
                        values[thread] = bright_pixel(&picture, c, pixel / p->w, pixel % p->w);
                }
                PHASE(thread) {
                    const double weight = p->c != 3 ? 1.0 / p->c : c == 0 ? 0.2989 : c == 1 ? 0.587 : 0.114;
                    if (thread == 0) {
                        double part = tile == 0 ? 0 : sums[0];
                        for (int32_t k = 0; k < KERNEL_THREADS && tile + k < pixels; k++)
                            part += (double)values[k];
                        sums[0] = part;
                        if (tile + KERNEL_THREADS >= pixels)
                            sums[1] = (c == 0 ? 0 : sums[1]) + weight * part;
                        if (tile + KERNEL_THREADS >= pixels && c == p->c - 1)
                            p->grey[image] = sums[1] / (double)pixels;
                    }
                }
            }
}

/* Image number i of the step with its mean grey. */
FUNCTION struct picture step_picture(const struct kernel_augment *p, const struct launch *launch, int64_t i) {
    struct picture picture = picture_of(launch, p->step, &p->samples[i], p->c, p->h, p->w);
    if (p->step->contrasts)
        picture.grey = p->grey[i];
    return picture;
}

/* Up to eight channels of a pixel of image number i, mixed with the image as far from the end of the step. */
FUNCTION struct lanes mixed_pixel(const struct kernel_augment *p, const struct launch *launch, int64_t i, int32_t channel,
                                  int32_t y, int32_t x) {
    int64_t partner = p->step->mixes ? p->step->n - 1 - i : i;
    float share = p->samples[i].share;
    struct picture own = step_picture(p, launch, i), other = step_picture(p, launch, partner);
    struct lanes lanes = no_lanes();
    for (int k = 0; k < LANES; k++)
        if (channel + k < p->c) {
            lanes.v[k] = normal_pixel(&own, channel + k, y, x);
            if (partner != i)
                lanes.v[k] = share * lanes.v[k] + (1 - share) * normal_pixel(&other, channel + k, y, x);
        }
    return lanes;
}

KERNEL(augment) {
    PHASE(thread) {
        uint32_t pixels = (uint32_t)(p->h * p->w), count = groups_of((int64_t)p->batch * pixels, p->cp);
        for (uint32_t i = first_element(launch, thread); i < count; i += stride(launch)) {
            int64_t image = row_of(i, p->cp) / pixels;
            int32_t pixel = (int32_t)(row_of(i, p->cp) % pixels), channel = channel_of(i, p->cp);
            struct lanes lanes = no_lanes();
            if (image < p->step->n)
                lanes = mixed_pixel(p, launch, image, channel, pixel / p->w, pixel % p->w);
            store_lanes(p->y, value_of(i), p->bf16, &lanes);
        }
    }
}
