/* Keeps pixels in a file: see store.h. */
#include "server/train/import/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int store_open(const char *dir, struct store *ret_store, struct err *err) {
    char path[PATH_MAX];
    *ret_store = (struct store){.fd = -1};
    int n = snprintf(path, sizeof path, "%s/pixels.part", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(err, ERR_IO, "the path %s is too long", dir);
    ret_store->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (ret_store->fd < 0)
        return err_errno(err, errno == ENOSPC ? ERR_FULL : ERR_IO, errno, "cannot create %s", path);
    unlink(path); /* it goes when the last descriptor and mapping go, however the process ends */
    return 0;
}

int store_put(struct store *store, const void *bytes, size_t size, uint64_t *ret_at, struct err *err) {
    uint64_t at = atomic_fetch_add(&store->size, size);
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(store->fd, (const uint8_t *)bytes + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err,
                             errno == ENOSPC || errno == EDQUOT ? ERR_FULL
                             : errno == EFBIG                   ? ERR_TOO_LARGE
                                                                : ERR_IO,
                             errno, "cannot keep %zu bytes of pixels after %ju", size, (uintmax_t)at);
        done += (size_t)n;
    }
    *ret_at = at;
    return 0;
}

int store_map(struct store *store, const uint8_t **ret_bytes, size_t *ret_size, struct err *err) {
    size_t size = atomic_load(&store->size);
    *ret_bytes = NULL;
    *ret_size = 0;
    if (size == 0)
        return 0;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, store->fd, 0);
    if (bytes == MAP_FAILED)
        return err_errno(err, ERR_MEMORY, errno, "cannot map %zu bytes of pixels", size);
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

void store_done(struct store *store) {
    if (store->fd >= 0)
        close(store->fd);
    store->fd = -1;
}
