/* How long to wait before the next try: exponential with full jitter (Brooker 2015, "Exponential backoff and jitter"), so that
 * many clients of a restarted server do not come back at one moment. */
#ifndef CLIENT_BACKOFF_H
#define CLIENT_BACKOFF_H

#include <stdint.h>

/* Of the whole numbers 0 to min(cap_ms, base_ms * 2^attempt), the one that random selects; attempt counts from 0. */
int64_t backoff_ms(int attempt, int64_t base_ms, int64_t cap_ms, uint32_t random);

/* The same with a random number of the kernel, or retry_after_s seconds and that when the server asked for some. */
int64_t backoff_next_ms(int attempt, int64_t base_ms, int64_t cap_ms, int64_t retry_after_s);

/* 128 random bits as 32 hexadecimal digits and a NUL. -1 when the kernel has none. */
int backoff_key(char ret_key[33]);

#endif
