/* The test images as the data set has them, with their labels. */
#include "server/train/inspect.h"

static json_t *image_json(const struct data *data, int index) {
    size_t size = (size_t)data->channels * (size_t)data->height * (size_t)data->width;
    return json_pack("{s:i, s:i, s:o}", "index", index, "label", data->test.labels[index], "pixels",
                     inspect_pixels(data, data->test.pixels + (size_t)index * size));
}

static json_t *answer(const struct data *data, int first, int n) {
    json_t *items = json_array();
    for (int i = first; i < data->test.n && i < first + n; i++)
        if (json_array_append_new(items, image_json(data, i)) != 0) {
            json_decref(items);
            return NULL;
        }
    return json_pack("{s:i, s:o}", "n", data->test.n, "items", items);
}

json_t *inspect_images(struct inspect *inspect, const json_t *want, struct err *err) {
    int first, n;
    json_error_t error;
    if (json_unpack_ex((json_t *)want, &error, 0, "{s:i, s:i}", "first", &first, "n", &n) != 0 || first < 0 || n < 1 ||
        n > EVENT_INSPECT_IMAGES_MAX) {
        err_set(err, ERR_REQUEST, "\"images\" needs \"first\" of 0 or more and \"n\" of 1 to %d", EVENT_INSPECT_IMAGES_MAX);
        return NULL;
    }
    if (data_load_test(&inspect->spec, inspect->imported, &inspect->data, err) != 0)
        return NULL;
    json_t *found = answer(&inspect->data, first, n);
    if (found == NULL)
        err_set(err, ERR_MEMORY, "out of memory for %d images", n);
    return found;
}
