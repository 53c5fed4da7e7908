/* SHA-256 as text: see sha256.h. */
#include "common/sha256.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <unistd.h>

static void finish(struct sha256_ctx *context, char ret_hex[65]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[64] = '\0';
}

void sha256_hex_parts(const struct iovec *parts, size_t n, char ret_hex[65]) {
    struct sha256_ctx context;
    sha256_init(&context);
    for (size_t i = 0; i < n; i++)
        sha256_update(&context, parts[i].iov_len, parts[i].iov_base);
    finish(&context, ret_hex);
}

void sha256_hex(const void *data, size_t size, char ret_hex[65]) {
    sha256_hex_parts(&(struct iovec){(void *)data, size}, 1, ret_hex);
}

int sha256_hex_file(int fd, char ret_hex[65]) {
    struct sha256_ctx context;
    uint8_t bytes[1 << 16];
    sha256_init(&context);
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            finish(&context, ret_hex);
            return n == 0 ? 0 : -1;
        }
        sha256_update(&context, (size_t)n, bytes);
    }
}
