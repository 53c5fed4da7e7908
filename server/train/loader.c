/* data_load beside the backend's compiling: see loader.h. */
#include "server/train/loader.h"

#include <pthread.h>
#include <stdlib.h>

struct loader {
    pthread_t thread;
    const struct spec *spec;
    const struct imported *imported;
    struct data data;
    struct err err;
    int rc;
};

static void *load(void *arg) {
    struct loader *loader = arg;
    loader->rc = data_load_from(loader->spec, loader->imported, &loader->data, &loader->err);
    return NULL;
}

int loader_start(const struct spec *spec, const struct imported *imported, struct loader **ret_loader, struct err *err) {
    struct loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while loading data");
    loader->spec = spec;
    loader->imported = imported;
    int code = pthread_create(&loader->thread, NULL, load, loader);
    if (code != 0) {
        free(loader);
        return err_errno(err, ERR_MEMORY, code, "cannot start a thread to load data");
    }
    *ret_loader = loader;
    return 0;
}

int loader_finish(struct loader *loader, struct data *ret_data, struct err *err) {
    pthread_join(loader->thread, NULL);
    int rc = loader->rc;
    if (rc == 0)
        *ret_data = loader->data;
    else if (err != NULL && err->code == ERR_NONE)
        *err = loader->err;
    free(loader);
    return rc;
}
