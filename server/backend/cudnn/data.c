/* Data sets on the device: one allocation each. */
#include "server/backend/cudnn/core.h"

/* Where the parts of an allocation lie; each is aligned as the arena's tensors are. */
struct data_layout {
    size_t pixels_bytes, normal, normal_bytes, moments, moments_bytes, bytes;
};

static size_t align(size_t bytes) {
    return (bytes + GPU_ALIGN - 1) / GPU_ALIGN * GPU_ALIGN;
}

static struct data_layout layout_of(const struct backend_data *data) {
    size_t channels = (size_t)data->channels;
    struct data_layout layout = {
        .pixels_bytes = (size_t)data->n * channels * (size_t)data->height * (size_t)data->width,
        .normal_bytes = channels * sizeof data->normal[0],
        .moments_bytes = channels * sizeof(double),
    };
    layout.normal = align(layout.pixels_bytes);
    layout.moments = layout.normal + align(layout.normal_bytes);
    layout.bytes = layout.moments + 2 * layout.moments_bytes;
    return layout;
}

static int copy(struct backend *backend, const struct device_set *set, const struct backend_data *data,
                const struct data_layout *layout, struct err *err) {
    int failed = core_upload(backend, set->pixels, data->pixels, layout->pixels_bytes, err);
    if (failed == 0)
        failed = core_upload(backend, set->normal, data->normal, layout->normal_bytes, err);
    if (failed == 0)
        failed = core_upload(backend, set->moments, data->mean, layout->moments_bytes, err);
    if (failed == 0)
        failed = core_upload(backend, set->moments + layout->moments_bytes, data->deviation, layout->moments_bytes, err);
    return core_wait(backend, "copy a data set to the device", err) < 0 ? -1 : failed;
}

/* On a device that has failed this fails as well, and nothing more can be done about it. */
static void drop(struct backend *backend, struct device_set *set) {
    if (set->pixels != 0)
        (void)backend->driver.cuMemFree(set->pixels);
    *set = (struct device_set){0};
}

int core_load_data(struct backend *backend, enum backend_set set, const struct backend_data *data, struct err *err) {
    struct data_layout layout = layout_of(data);
    struct device_set loaded = {.n = data->n, .channels = data->channels, .height = data->height, .width = data->width};
    drop(backend, &backend->sets[set]);
    if (core_check(backend, backend->driver.cuMemAlloc(&loaded.pixels, layout.bytes), "reserve memory for a data set", err) != 0)
        return -1;
    loaded.normal = loaded.pixels + layout.normal;
    loaded.moments = loaded.pixels + layout.moments;
    backend->sets[set] = loaded;
    if (copy(backend, &loaded, data, &layout, err) == 0)
        return 0;
    drop(backend, &backend->sets[set]);
    return -1;
}

void data_done(struct backend *backend) {
    for (int set = 0; set < BACKEND_SETS; set++)
        drop(backend, &backend->sets[set]);
}
