/* Device profiles of GPUs: the built-in ones read as their texts say, and what is wrong with another one is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "server/graph/gpu.h"

static json_t *document_of(const char *name) {
    struct err err = {0};
    const char *text = gpu_profile_json(name);
    assert_non_null(text);
    json_t *document = json_parse(text, strlen(text), &err);
    if (document == NULL)
        fail_msg("%s: %s", name, err.text);
    return document;
}

static void built_in_ones_are_what_their_texts_say(void **state) {
    (void)state;
    size_t n;
    const struct gpu_profile *profiles = gpu_profiles(&n);
    assert_int_equal(n, 7);
    for (size_t i = 0; i < n; i++) {
        struct gpu_profile read;
        struct err err = {0};
        json_t *document = document_of(profiles[i].name);
        if (gpu_profile_read(profiles[i].name, document, &read, &err) < 0)
            fail_msg("%s: %s %s", profiles[i].name, err.pointer, err.text);
        assert_string_equal(read.name, profiles[i].name);
        assert_string_equal(read.device, profiles[i].device);
        assert_int_equal(read.compute, profiles[i].compute);
        assert_int_equal(read.memory_bytes, profiles[i].memory_bytes);
        assert_true(i == 0 || strcmp(profiles[i - 1].name, profiles[i].name) < 0);
        json_decref(document);
    }
}

static void one_is_found_by_its_name(void **state) {
    (void)state;
    struct err err = {0};
    const struct gpu_profile *h100 = gpu_profile_find("h100", "/gpu", &err);
    assert_non_null(h100);
    assert_string_equal(h100->device, "NVIDIA H100 80GB HBM3");
    assert_int_equal(h100->compute, 90);
    assert_int_equal(h100->memory_bytes, INT64_C(85024112640));
    assert_ptr_equal(gpu_profile_find("H100", "/gpu", &err), h100);
    assert_int_equal(err.code, ERR_NONE);
}

static void an_unknown_name_is_told_the_nearest(void **state) {
    (void)state;
    struct err err = {0};
    assert_null(gpu_profile_find("h10", "/gpu", &err));
    assert_int_equal(err.code, ERR_FIELD);
    assert_string_equal(err.pointer, "/gpu");
    assert_non_null(strstr(err.text, "did you mean 'h100'?"));
    err = (struct err){0};
    assert_null(gpu_profile_find("a processor", "/gpu", &err));
    assert_non_null(strstr(err.text, "known ones are a100, b200, h100, r3090, r4090, r5090, t4"));
    assert_non_null(strstr(err.text, "your own is written by --self-check"));
    assert_null(gpu_profile_json("a processor"));
    err = (struct err){0};
    assert_null(gpu_profile_find("h100,a100", "/gpu", &err));
    assert_non_null(strstr(err.text, "name one GPU at a time"));
}

/* Reads a document that is wrong at key. */
static void assert_refused(const json_t *document, const char *key) {
    struct gpu_profile profile = {.compute = 1};
    struct err err = {0};
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/%s", key);
    assert_int_equal(gpu_profile_read("x", document, &profile, &err), -1);
    assert_int_equal(err.code, ERR_FIELD);
    assert_string_equal(err.pointer, pointer);
    assert_non_null(strstr(err.text, key));
    assert_int_equal(profile.compute, 1);
}

static void what_is_missing_or_wrong_is_named(void **state) {
    (void)state;
    json_t *whole = document_of("a100");
    const char *key;
    json_t *value;
    size_t keys = 0;
    json_object_foreach(whole, key, value) {
        json_t *damaged[] = {json_copy(whole), json_copy(whole), json_copy(whole), json_copy(whole), json_copy(whole)};
        json_object_del(damaged[0], key);
        json_object_set_new(damaged[1], key, json_null());
        json_object_set_new(damaged[2], key, json_is_string(value) ? json_string("") : json_integer(-1));
        json_object_set_new(damaged[3], key, json_pack("[i, i]", 1, 2));
        json_object_set_new(damaged[4], key, json_pack("[i, i, i, i]", 1, 2, 3, 4));
        for (int i = 0; i < 5; i++) {
            assert_refused(damaged[i], key);
            json_decref(damaged[i]);
        }
        keys++;
    }
    assert_int_equal(keys, 23);
    json_decref(whole);
}

static void only_an_object_is_a_profile(void **state) {
    (void)state;
    struct gpu_profile profile;
    struct err err = {0};
    json_t *list = json_array();
    assert_int_equal(gpu_profile_read("x", list, &profile, &err), -1);
    assert_int_equal(err.code, ERR_FIELD);
    json_decref(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in_ones_are_what_their_texts_say),
        cmocka_unit_test(one_is_found_by_its_name),
        cmocka_unit_test(an_unknown_name_is_told_the_nearest),
        cmocka_unit_test(what_is_missing_or_wrong_is_named),
        cmocka_unit_test(only_an_object_is_a_profile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
