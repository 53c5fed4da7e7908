/* Waiting times and random keys: see backoff.h. */
#include "client/backoff.h"

#include <stdio.h>
#include <sys/random.h>

enum { RETRY_AFTER_MAX_S = 600 };

int64_t backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms, uint32_t random) {
    int64_t window = base_ms;
    for (int i = 0; i < attempt && window < cap_ms; i++)
        window *= 2;
    if (window > cap_ms)
        window = cap_ms;
    return (int64_t)(((unsigned __int128)random * (uint64_t)(window + 1)) >> 32);
}

int64_t backoff_next_ms(int attempt, int64_t base_ms, int64_t cap_ms, int64_t retry_after_s) {
    uint32_t random = UINT32_MAX / 2; /* without randomness: the middle */
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = UINT32_MAX / 2;
    if (retry_after_s > RETRY_AFTER_MAX_S)
        retry_after_s = RETRY_AFTER_MAX_S;
    if (retry_after_s > 0)
        return retry_after_s * 1000 + backoff_ms(0, base_ms, cap_ms, random);
    return backoff_ms(attempt, base_ms, cap_ms, random);
}

int backoff_key(char ret_key[33]) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return -1;
    for (int i = 0; i < 16; i++)
        snprintf(ret_key + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}
