/* Tests of the safetensors reader and writer: a round trip, hostile headers, and every allocation failing in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/train/safetensors.h"
#include "tests/unit/alloc_rig.h"

static const int weight_shape[] = {2, 3}, bias_shape[] = {2};
static const double sums[] = {1.0 / 3, -1e300};
static const float values[] = {1, -2, 3.5f, 0, 1e-30f, -0.0f, 7, 8};
static const int32_t labels[] = {-5, INT32_MAX};
static const struct safetensors_entry entries[] = {{"sums", bias_shape, 1, 2, SAFETENSORS_F64, sums},
                                                   {"conv.weight", weight_shape, 2, 6, SAFETENSORS_F32, values},
                                                   {"conv.bias", bias_shape, 1, 2, SAFETENSORS_F32, values + 6},
                                                   {"labels", bias_shape, 1, 2, SAFETENSORS_I32, labels}};
enum { SUMS, WEIGHT, BIAS, LABELS, ENTRIES };

static char *temporary_dir(void) {
    static char dir[] = "/tmp/residuum-test-XXXXXX"; /* the pattern is gone after the first call, the directory stays the same */
    static bool made;
    if (!made)
        assert_non_null(mkdtemp(dir));
    made = true;
    return dir;
}

static int write_sample(int64_t *ret_bytes, struct err *err) {
    json_t *metadata = json_pack("{s:s}", "epoch", "3");
    if (metadata == NULL)
        return err_set(err, ERR_MEMORY, "metadata");
    int rc = safetensors_write(temporary_dir(), "x.safetensors", metadata, entries, ENTRIES, ret_bytes, err);
    json_decref(metadata);
    return rc;
}

static int read_sample(char **ret_bytes, size_t *ret_size, struct err *err) {
    char path[64];
    snprintf(path, sizeof path, "%s/x.safetensors", temporary_dir());
    return file_read(path, 1 << 20, ret_bytes, ret_size, err);
}

static void comes_back(void **state) {
    (void)state;
    struct err err = {0};
    int64_t written;
    char *bytes;
    size_t size;
    assert_int_equal(write_sample(&written, &err), 0);
    assert_int_equal(read_sample(&bytes, &size, &err), 0);
    assert_int_equal(size, written);
    struct safetensors file;
    assert_int_equal(safetensors_parse("x", bytes, size, &file, &err), 0);
    assert_int_equal((file.data - (const uint8_t *)bytes) % 8, 0);
    assert_string_equal(json_string_value(json_object_get(file.metadata, "epoch")), "3");
    float out[8];
    double out_sums[2];
    int32_t out_labels[2];
    assert_int_equal(safetensors_get(&file, &entries[WEIGHT], out, &err), 0);
    assert_int_equal(safetensors_get(&file, &entries[BIAS], out + 6, &err), 0);
    assert_int_equal(safetensors_get(&file, &entries[SUMS], out_sums, &err), 0);
    assert_int_equal(safetensors_get(&file, &entries[LABELS], out_labels, &err), 0);
    assert_memory_equal(out, values, sizeof values);
    assert_memory_equal(out_sums, sums, sizeof sums);
    assert_memory_equal(out_labels, labels, sizeof labels);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_true(safetensors_has(&file, &entries[i]));
    safetensors_done(&file);
    free(bytes);
}

/* Whichever byte of the data has changed. */
static void opens_what_was_written_only(void **state) {
    (void)state;
    struct err err = {0};
    int64_t written;
    char path[64], *bytes;
    size_t size;
    struct safetensors file;
    snprintf(path, sizeof path, "%s/x.safetensors", temporary_dir());
    assert_int_equal(write_sample(&written, &err), 0);
    assert_int_equal(safetensors_open(path, "x", 1 << 20, &file, &err), 0);
    size_t data_size = file.data_size;
    safetensors_done(&file);
    assert_int_equal(read_sample(&bytes, &size, &err), 0);
    for (size_t at = size - data_size; at < size; at++) {
        struct err reason = {0};
        bytes[at] ^= 64;
        assert_int_equal(file_write(temporary_dir(), "x.safetensors", &(struct iovec){bytes, size}, 1, &err), 0);
        assert_int_equal(safetensors_open(path, "x", 1 << 20, &file, &reason), -1);
        assert_int_equal(reason.code, ERR_DATA);
        bytes[at] ^= 64;
    }
    free(bytes);
}

static void wants_the_right_tensor(void **state) {
    (void)state;
    static const int other_shape[] = {3, 2};
    static const struct safetensors_entry wrong[] = {{"conv.gamma", bias_shape, 1, 2, SAFETENSORS_F32, NULL},
                                                     {"conv.weight", other_shape, 2, 6, SAFETENSORS_F32, NULL},
                                                     {"conv.weight", weight_shape, 1, 2, SAFETENSORS_F32, NULL},
                                                     {"conv.bias", bias_shape, 1, 2, SAFETENSORS_I32, NULL},
                                                     {"__metadata__", bias_shape, 1, 2, SAFETENSORS_F32, NULL}};
    struct err err = {0};
    int64_t written;
    char *bytes;
    size_t size;
    assert_int_equal(write_sample(&written, &err), 0);
    assert_int_equal(read_sample(&bytes, &size, &err), 0);
    struct safetensors file;
    assert_int_equal(safetensors_parse("x", bytes, size, &file, &err), 0);
    float out[8];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memset(&err, 0, sizeof err);
        assert_false(safetensors_has(&file, &wrong[i]));
        assert_int_equal(safetensors_get(&file, &wrong[i], out, &err), -1);
        assert_int_equal(err.code, ERR_DATA);
    }
    safetensors_done(&file);
    free(bytes);
}

/* Headers of a file with 8 bytes of data, and a part of the reason why each is refused (NULL: it is fine). */
static const struct {
    const char *header, *reason;
} headers[] = {
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", NULL},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},\"z\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":["
     "8,8]}}",
     NULL},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[4,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,"
     "4]}}  ",
     NULL},
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {"{", "not a JSON object"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,"
     "8]}}",
     "not a JSON object"},
    {"{}", "need 0 bytes"},
    {"{\"a\":1}", "not {dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "not {dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}", "not {dtype"},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", "unknown dtype"},
    {"{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", "unknown dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387906],\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483648,2147483649],\"data_offsets\":[0,8]}}", "malformed"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "needs 4 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-1,7]}}", "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]}}", "do not lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "8 are there"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "gap"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,"
     "8]}}",
     "overlap"},
    {"{\"__metadata__\":[],\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "not an object"},
    {"{\"__metadata__\":{\"epoch\":1},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "not a text"},
};

/* A file in a buffer of exactly its size, so that ASan sees a read behind it. */
static uint8_t *build(const char *header, uint64_t header_size, size_t data_size, size_t *ret_size) {
    size_t length = strlen(header);
    uint8_t *bytes = calloc(8 + length + data_size + 1, 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(header_size >> 8 * i);
    memcpy(bytes + 8, header, length);
    *ret_size = 8 + length + data_size;
    return bytes;
}

static void expect(const uint8_t *bytes, size_t size, const char *reason) {
    struct safetensors file = {0};
    struct err err = {0};
    int rc = safetensors_parse("x", bytes, size, &file, &err);
    if (reason == NULL) {
        if (rc != 0)
            fail_msg("refused: %s", err.text);
        safetensors_done(&file);
        return;
    }
    if (rc == 0 || err.code != ERR_DATA || strstr(err.text, reason) == NULL)
        fail_msg("expected \"%s\", got %s: %s", reason, err_name(err.code), err.text);
    assert_null(file.header); /* untouched */
}

static void refuses_hostile_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        size_t size;
        uint8_t *bytes = build(headers[i].header, strlen(headers[i].header), 8, &size);
        expect(bytes, size, headers[i].reason);
        free(bytes);
    }
}

static void refuses_wrong_sizes(void **state) {
    (void)state;
    static const uint64_t sizes[] = {3, 1u << 25, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    size_t size;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *bytes = build("{}", sizes[i], 0, &size);
        expect(bytes, size, "header has");
        free(bytes);
    }
    uint8_t *bytes = build("{}", 2, 0, &size);
    expect(bytes, size, NULL);
    expect(bytes, 7, "at least 8");
    expect(bytes, 0, "at least 8");
    free(bytes);
}

/* Each cut of a good file is refused, wherever it is cut. */
static void refuses_every_cut(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = build(headers[1].header, strlen(headers[1].header), 8, &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        assert_non_null(part);
        memcpy(part, bytes, cut);
        struct safetensors file;
        struct err err = {0};
        assert_int_equal(safetensors_parse("x", part, cut, &file, &err), -1);
        assert_int_equal(err.code, ERR_DATA);
        free(part);
    }
    free(bytes);
}

static uint8_t *whole; /* a good file, made while there is memory */
static size_t whole_size;

static bool parse_starving(void) {
    struct safetensors file = {0};
    struct err err = {0};
    int rc = safetensors_parse("x", whole, whole_size, &file, &err);
    if (rc != 0) /* jansson 2.14 reports some of its own failed allocations as bad syntax */
        assert_true(err.code == ERR_MEMORY || (err.code == ERR_DATA && strstr(err.text, "not valid JSON")));
    safetensors_done(&file);
    return rc == 0;
}

static bool write_starving(void) {
    struct err err = {0};
    int64_t written;
    int rc = write_sample(&written, &err);
    if (rc != 0)
        assert_int_equal(err.code, ERR_MEMORY);
    return rc == 0;
}

static void survives_failing_allocations(void **state) {
    (void)state;
    whole = build(headers[2].header, strlen(headers[2].header), 8, &whole_size);
    assert_true(alloc_rig_starve(parse_starving, 10000) > 5);
    free(whole);
    alloc_rig_starve(write_starving, 10000);
}

static int remove_dir(void **state) {
    (void)state;
    struct err err = {0};
    return file_remove_tree(temporary_dir(), &err);
}

int main(void) {
    json_set_alloc_funcs(malloc, free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(opens_what_was_written_only),
        cmocka_unit_test(wants_the_right_tensor),
        cmocka_unit_test(refuses_hostile_headers),
        cmocka_unit_test(refuses_wrong_sizes),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, remove_dir);
}
