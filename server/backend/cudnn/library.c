/* Opens shared libraries and looks up their functions: see library.h. */
#include "server/backend/cudnn/library.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RTLD_LAZY: some of the libraries are large, and few of their functions are ever called. */
static void *open_file(const char *path, char reason[LIBRARY_REASON_MAX]) {
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL && reason != NULL)
        snprintf(reason, LIBRARY_REASON_MAX, "%s", dlerror());
    return library;
}

/* Whether one of the folders has the file. */
static bool find(const char *folders, const char *name, char ret_path[PATH_MAX]) {
    for (const char *folder = folders; *folder != '\0';) {
        size_t length = strcspn(folder, ":");
        int n = snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)length, folder, name);
        if (length > 0 && n < PATH_MAX && access(ret_path, F_OK) == 0)
            return true;
        folder += length + (folder[length] == ':');
    }
    return false;
}

void *library_open(const char *name, char ret_reason[LIBRARY_REASON_MAX]) {
    const char *folders = getenv("RESIDUUM_CUDA_PATH");
    char path[PATH_MAX];
    return open_file(folders != NULL && find(folders, name, path) ? path : name, ret_reason);
}

void library_close(void *library) {
    if (library != NULL)
        dlclose(library);
}

const char *library_fill(void *library, const struct library_function *rows, size_t n, void *ret_struct) {
    const char *missing = NULL;
    for (size_t i = 0; i < n; i++) {
        void *function = dlsym(library, rows[i].name);
        memcpy((char *)ret_struct + rows[i].at, &function, sizeof function);
        if (function == NULL && missing == NULL)
            missing = rows[i].name;
    }
    return missing;
}
