/* Tests of the IDX reader: what it accepts, and the reason for each refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "server/train/idx.h"

static long allowed = -1; /* allocations that may still succeed; negative: all */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size) {
    if (allowed == 0)
        return NULL;
    if (allowed > 0)
        allowed--;
    return __real_malloc(size);
}

static char path[] = "/tmp/residuum-idx-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static void write_gz(const void *bytes, size_t size) {
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    assert_int_equal(gzclose(file), Z_OK);
}

static void expect(int dims, enum err_code code, const char *reason) {
    struct idx idx = {0};
    struct err err = {0};
    int rc = idx_read(path, dims, &idx, &err);
    if (rc == 0 || err.code != code || strstr(err.text, reason) == NULL)
        fail_msg("expected %s \"%s\", got %s: %s", err_name(code), reason, err_name(err.code), err.text);
    assert_null(idx.bytes);
}

static void reads_images(void **state) {
    (void)state;
    write_gz("\0\0\x08\x03\0\0\0\2\0\0\0\2\0\0\0\3ABCDEFGHIJKL", 28);
    struct idx idx;
    struct err err = {0};
    assert_int_equal(idx_read(path, 3, &idx, &err), 0);
    assert_int_equal(idx.size[0], 2);
    assert_int_equal(idx.size[1], 2);
    assert_int_equal(idx.size[2], 3);
    assert_int_equal(idx.count, 12);
    assert_memory_equal(idx.bytes, "ABCDEFGHIJKL", 12);
    idx_done(&idx);
}

static const struct {
    const char *bytes;
    size_t size;
    const char *reason;
} bad[] = {
    {"", 0, "0 bytes; its header alone needs 8"},
    {"\0\0\x08\1\0\0\0", 7, "7 bytes; its header alone needs 8"},
    {"\0\1\x08\1\0\0\0\1A", 9, "begins with 00010801"},
    {"\0\0\x09\1\0\0\0\1A", 9, "begins with 00000901"},
    {"\0\0\x08\3\0\0\0\1\0\0\0\1\0\0\0\1A", 17, "begins with 00000803"},
    {"\0\0\x08\1\0\0\0\0", 8, "has size 0"},
    {"\0\0\x08\1\xff\xff\xff\xff", 8, "has size 4294967295"},
    {"\0\0\x08\1\0\0\0\3AB", 10, "promises 3 bytes of data, 2 are there"},
    {"\0\0\x08\1\0\0\0\3", 8, "promises 3 bytes of data, 0 are there"},
    {"\0\0\x08\1\0\0\0\3ABCD", 12, "promises 3 bytes of data, at least 4 are there"},
};

static void names_both_numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_gz(bad[i].bytes, bad[i].size);
        expect(1, ERR_DATA, bad[i].reason);
    }
}

/* Each size is possible, their product is not; nothing of it may be allocated. */
static void bounds_the_product(void **state) {
    (void)state;
    write_gz("\0\0\x08\3\0\1\0\0\0\1\0\0\0\1\0\0AAAA", 20);
    allowed = 1000;
    expect(3, ERR_DATA, "promises 4294967296 bytes or more");
    allowed = -1;
}

/* A gzip stream that ends early, and one whose content does not fit its checksum. */
static void sees_broken_compression(void **state) {
    (void)state;
    uint8_t plain[4096] = {0, 0, 8, 1, 0, 0, 0x0f, 0xf8}, packed[4096];
    for (size_t i = 8; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * i >> 3);
    write_gz(plain, sizeof plain);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(packed, 1, sizeof packed, file);
    fclose(file);
    assert_int_equal(truncate(path, (off_t)(size / 2)), 0);
    expect(1, ERR_DATA, "");
    packed[size - 8] ^= 1; /* the checksum is the last but one word */
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(packed, 1, size, file), size);
    fclose(file);
    expect(1, ERR_DATA, "incorrect data check");
}

static void missing_file_is_told_apart(void **state) {
    (void)state;
    struct idx idx;
    struct err err = {0};
    assert_int_equal(idx_read("/nonexistent/x.gz", 1, &idx, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void survives_failing_allocations(void **state) {
    (void)state;
    write_gz("\0\0\x08\1\0\0\0\3ABC", 11);
    struct idx idx;
    struct err err = {0};
    allowed = 0;
    assert_int_equal(idx_read(path, 1, &idx, &err), -1);
    allowed = -1;
    assert_int_equal(err.code, ERR_MEMORY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_images),
        cmocka_unit_test(names_both_numbers),
        cmocka_unit_test(bounds_the_product),
        cmocka_unit_test(sees_broken_compression),
        cmocka_unit_test(missing_file_is_told_apart),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
