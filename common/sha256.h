/* SHA-256 (FIPS 180-4) by nettle, as lower-case hexadecimal text. */
#ifndef COMMON_SHA256_H
#define COMMON_SHA256_H

#include <stddef.h>
#include <sys/uio.h>

/* The digest of size bytes: 64 digits and a NUL. */
void sha256_hex(const void *data, size_t size, char ret_hex[65]);

/* The digest of n parts, one after the other. */
void sha256_hex_parts(const struct iovec *parts, size_t n, char ret_hex[65]);

/* The digest of what a descriptor's file holds from its position to its end. Returns -1 with errno when it cannot be read. */
int sha256_hex_file(int fd, char ret_hex[65]);

#endif
