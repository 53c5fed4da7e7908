/* Limits of an import: see guard.h. */
#include "server/train/import/guard.h"

#include "common/loop.h"

enum { ASK_MS = 50 };

void guard_init(struct guard *guard, const struct import_request *request) {
    int64_t now = clock_ms();
    *guard = (struct guard){.request = request, .end_ms = now + (int64_t)request->limits.seconds * 1000, .ask_ms = now};
}

int guard_ask(struct guard *guard, struct err *err) {
    int64_t now = clock_ms();
    if (now > guard->end_ms)
        return err_set(err, ERR_TOO_LARGE, "the import took longer than %ju s", (uintmax_t)guard->request->limits.seconds);
    if (now < guard->ask_ms)
        return 0;
    guard->ask_ms = now + ASK_MS;
    if (!guard->request->watch(guard->request->arg, &guard->progress))
        return 0;
    guard->stopped = true;
    return err_set(err, ERR_UNAVAILABLE, "the import was stopped");
}

int guard_bytes(struct guard *guard, uint64_t bytes, struct err *err) {
    const struct import_limits *limits = &guard->request->limits;
    guard->produced += bytes;
    if (guard->produced > limits->bytes)
        return err_set(err, ERR_TOO_LARGE, "unpacked, the data has more than %ju bytes", (uintmax_t)limits->bytes);
    /* By division: the source may have any size. */
    uint64_t total = guard->progress.total_bytes;
    if (total > 0 && guard->produced > IMPORT_RATIO_FREE && guard->produced / total >= limits->ratio)
        return err_set(err, ERR_TOO_LARGE, "unpacked, the archive has more than %ju times its %ju bytes: it looks like a bomb",
                       (uintmax_t)limits->ratio, (uintmax_t)total);
    return guard_ask(guard, err);
}

int guard_entry(struct guard *guard, struct err *err) {
    uint64_t most = guard->request->limits.entries;
    if (++guard->progress.entries > most)
        return err_set(err, ERR_TOO_LARGE, "there are more than %ju entries", (uintmax_t)most);
    return guard_ask(guard, err);
}

int guard_images(struct guard *guard, uint64_t images, struct err *err) {
    uint64_t most = guard->request->limits.images;
    guard->progress.images += images;
    if (guard->progress.images > most)
        return err_set(err, ERR_TOO_LARGE, "there are more than %ju images", (uintmax_t)most);
    return 0;
}
