/* Tests of the ground floor: random numbers, JSON bounds and suggestions, files, SHA-256. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/event.h"
#include "common/file.h"
#include "common/json.h"
#include "common/rng.h"
#include "common/sha256.h"

/* Known answers of Philox4x32-10 as published with the Random123 library (file kat_vectors). */
static void philox_known_answers(void **state) {
    (void)state;
    static const struct {
        uint64_t seed;
        uint32_t counter[4], words[4];
    } known[] = {
        {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, {~0u, ~0u, ~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822u, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t words[4];
        const uint32_t *c = known[i].counter;
        rng_block(known[i].seed, (enum rng_purpose)c[3], c[0], c[1], c[2], words);
        assert_memory_equal(words, known[i].words, sizeof words);
    }
}

static void permutation_is_one_and_keyed(void **state) {
    (void)state;
    enum { N = 1000 };
    uint32_t a[N], b[N], seen[N] = {0};
    rng_permutation(7, RNG_SHUFFLE, 1, N, a);
    rng_permutation(7, RNG_SHUFFLE, 1, N, b);
    assert_memory_equal(a, b, sizeof a);
    rng_permutation(7, RNG_SHUFFLE, 2, N, b);
    assert_memory_not_equal(a, b, sizeof a);
    for (int i = 0; i < N; i++)
        seen[a[i]]++;
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 1);
    int in_place = 0;
    for (uint32_t i = 0; i < N; i++)
        in_place += a[i] == i;
    assert_true(in_place < 10); /* a random permutation leaves one in place on average */
}

static void normal_numbers_are_normal(void **state) {
    (void)state;
    enum { N = 40000 };
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t words[4];
        rng_block(3, RNG_INIT, i, 0, 0, words);
        double x = rng_normal(words[0], words[1]);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N) < 0.02);         /* four standard errors */
    assert_true(fabs(squares / N - 1) < 0.03); /* four standard errors of the variance */
    assert_true(isfinite(rng_normal(0, 0)));
    assert_true(isfinite(rng_normal(UINT32_MAX, UINT32_MAX)));
}

static void json_depth_is_bounded(void **state) {
    (void)state;
    char text[2 * (JSON_DEPTH_LIMIT + 1) + 1];
    for (int depth = JSON_DEPTH_LIMIT; depth <= JSON_DEPTH_LIMIT + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct err err = {0};
        json_t *value = json_parse(text, 2 * (size_t)depth, &err);
        assert_int_equal(value != NULL, depth == JSON_DEPTH_LIMIT);
        json_decref(value);
    }
    struct err err = {0};
    const char *quoted = "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[\"]";
    json_t *value = json_parse(quoted, strlen(quoted), &err);
    assert_non_null(value);
    json_decref(value);
}

static void json_refuses(void **state) {
    (void)state;
    static const char *const texts[] = {"", " ", "{", "{\"a\":1,\"a\":2}", "[NaN]", "[1e999]", "\"text\"", "[\"\xff\"]", "[1] x"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err err = {0};
        assert_null(json_parse(texts[i], strlen(texts[i]), &err));
        assert_int_equal(err.code, ERR_JSON);
        assert_true(strlen(err.text) > 10);
    }
}

static void json_suggests(void **state) {
    (void)state;
    static const char *const known[] = {"epochs", "batch_size", "seed", "resnet20"};
    assert_string_equal(json_nearest("epoch", known, 4), "epochs");
    assert_string_equal(json_nearest("batchsize", known, 4), "batch_size");
    assert_string_equal(json_nearest("resnet21", known, 4), "resnet20");
    assert_null(json_nearest("learning_rate", known, 4));
    assert_null(json_nearest("", known, 4));
}

static void json_pointer_escapes(void **state) {
    (void)state;
    char pointer[16];
    json_pointer(pointer, sizeof pointer, "/a", "b/c~d");
    assert_string_equal(pointer, "/a/b~1c~0d");
    json_pointer(pointer, sizeof pointer, "/a", "a very long key indeed");
    assert_true(strlen(pointer) < sizeof pointer);
}

static void json_rounds(void **state) {
    (void)state;
    static const struct {
        double value;
        int digits;
        const char *text;
    } cases[] = {
        {1.0 / 3, 6, "0.333333"}, {123456789, 6, "123457000.0"}, {-2.5e-7, 1, "-2e-7"}, {0, 6, "0.0"},
        {NAN, 6, "null"},         {-INFINITY, 6, "null"},        {1e308, 3, "1e308"},   {(double)0.1f, 9, "0.100000001"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = json_rounded(cases[i].value, cases[i].digits);
        char *text = json_text(value);
        assert_string_equal(text, cases[i].text);
        free(text);
        json_decref(value);
    }
}

static void files_are_whole(void **state) {
    (void)state;
    char dir[] = "/tmp/residuum-test-XXXXXX", path[64], *data;
    assert_non_null(mkdtemp(dir));
    struct err err = {0};
    char one[] = "one ", two[] = "two";
    struct iovec parts[] = {{one, 4}, {two, 3}};
    size_t size;
    assert_int_equal(file_write(dir, "f", parts, 2, &err), 0);
    snprintf(path, sizeof path, "%s/f", dir);
    assert_int_equal(file_read(path, 7, &data, &size, &err), 0);
    assert_int_equal(size, 7);
    assert_string_equal(data, "one two");
    free(data);
    assert_int_equal(file_read(path, 6, &data, &size, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    snprintf(path, sizeof path, "%s/f.part", dir);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/a/b", dir);
    struct err none = {0};
    assert_int_equal(file_mkdirs(path, &none), 0);
    assert_int_equal(file_mkdirs(path, &none), 0);
    assert_int_equal(file_remove_tree(dir, &none), 0);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(file_remove_tree(dir, &none), 0);
    assert_int_equal(none.code, ERR_NONE);
}

/* FIPS 180-4's example "abc". */
static void sha256_known_answer(void **state) {
    (void)state;
    char hex[65];
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    char a[] = "a", bc[] = "bc", of_parts[65];
    sha256_hex_parts((struct iovec[]){{a, 1}, {a, 0}, {bc, 2}}, 3, of_parts);
    assert_string_equal(of_parts, hex);
}

static void weights_have_one_name(void **state) {
    (void)state;
    char name[EVENT_WEIGHTS_NAME_MAX];
    event_weights_name(10000, name);
    assert_string_equal(name, "epoch-10000.safetensors");
    assert_int_equal(event_weights_epoch(name), 10000);
    const char *others[] = {
        "epoch-0.safetensors",  "epoch-05.safetensors",        "epoch--5.safetensors", "epoch-5.safetensors.part", "epoch-5", "",
        "xepoch-5.safetensors", "epoch-5000000000.safetensors"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(event_weights_epoch(others[i]), 0);
}

static void errors_keep_the_first(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(err_at(&err, ERR_FIELD, "/a", "first %d", 1), -1);
    err_set(&err, ERR_IO, "second");
    assert_int_equal(err.code, ERR_FIELD);
    assert_string_equal(err.text, "first 1");
    assert_string_equal(err.pointer, "/a");
    static struct err_list list;
    for (int i = 0; i < ERR_LIST_MAX + 3; i++)
        err_add(&list, ERR_FIELD, "", "%d", i);
    assert_int_equal(list.n, ERR_LIST_MAX);
    assert_int_equal(list.dropped, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(permutation_is_one_and_keyed),
        cmocka_unit_test(normal_numbers_are_normal),
        cmocka_unit_test(json_depth_is_bounded),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(json_suggests),
        cmocka_unit_test(json_pointer_escapes),
        cmocka_unit_test(json_rounds),
        cmocka_unit_test(files_are_whole),
        cmocka_unit_test(sha256_known_answer),
        cmocka_unit_test(weights_have_one_name),
        cmocka_unit_test(errors_keep_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
