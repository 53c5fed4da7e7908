/* The API's parts that need no server: targets, routes, hosts, offers, growing texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "server/api/private.h"
#include "server/api/submit.h"

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

static int allocations_left = -1; /* -1: no limit */

void *__wrap_realloc(void *old, size_t size) {
    if (allocations_left == 0)
        return NULL;
    if (allocations_left > 0)
        allocations_left--;
    return __real_realloc(old, size);
}

/* --- targets --- */

static void test_targets_are_decoded(void **state) {
    (void)state;
    static const char raw[] = "/v1/%6Aobs?state=queued%2Crunning&&limit=+5&x&y=a%3Db=c";
    char buffer[sizeof raw + 32];
    struct target target;
    struct err err = {0};
    assert_int_equal(target_parse(raw, buffer, &target, &err), 0);
    assert_string_equal(target.path, "/v1/jobs");
    assert_int_equal(target.params_n, 4);
    assert_string_equal(target_param(&target, "state"), "queued,running");
    assert_string_equal(target_param(&target, "limit"), " 5");
    assert_string_equal(target_param(&target, "x"), "");
    assert_string_equal(target_param(&target, "y"), "a=b=c");
    assert_null(target_param(&target, "z"));
}

static void test_broken_targets(void **state) {
    (void)state;
    static const char *const broken[] = {"",     "v1",    "*",       "/%",        "/%4",       "/%4g",     "/%00",   "/a%00b",
                                         "/a b", "/a\tb", "/\x7f",   "/\xc3\xa4", "/%ff",      "/%c3",     "/a%2Fb", "/a%2fb",
                                         "/a#b", "/?x=%", "/?%00=1", "/?a=%ff",   "/?a=1&a=2", "/?a&b=1&a"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        char buffer[128];
        struct target target;
        struct err err = {0};
        if (target_parse(broken[i], buffer, &target, &err) == 0)
            fail_msg("\"%s\" was taken for a target", broken[i]);
        assert_int_equal(err_http(err.code), 400);
    }
}

/* The decoded text needs one NUL per piece: the buffer that request.c gives must be enough at the limit of parameters. */
static void test_buffer_is_enough(void **state) {
    (void)state;
    static const char raw[] = "/?a&b&c&d&e&f&g&h";
    size_t size = strlen(raw) + 2 * TARGET_PARAMS_MAX + 2;
    char *buffer = malloc(size + 8);
    struct target target;
    struct err err = {0};
    memset(buffer + size, 0x5a, 8);
    assert_int_equal(target_parse(raw, buffer, &target, &err), 0);
    assert_int_equal(target.params_n, TARGET_PARAMS_MAX);
    for (int i = 0; i < 8; i++)
        assert_int_equal(buffer[size + (size_t)i], 0x5a);
    free(buffer);
}

static void test_numbers(void **state) {
    (void)state;
    static const char *const wrong[] = {"", " 1", "1 ", "+1", "-1", "0x1", "1.0", "1e3", "9999999999999999999"};
    int64_t value = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(number_parse(wrong[i], &value));
    assert_int_equal(value, 7);
    assert_true(number_parse("000", &value));
    assert_int_equal(value, 0);
    assert_true(number_parse("999999999999999999", &value));
    assert_int_equal(value, 999999999999999999);
}

/* --- routes --- */

static void test_every_route_finds_itself(void **state) {
    (void)state;
    size_t n;
    const struct route *routes = route_table(&n);
    for (size_t i = 0; i < n; i++) {
        char args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE];
        unsigned allow;
        assert_ptr_equal(route_find(routes[i].method, routes[i].path, args, &allow), &routes[i]);
        assert_true(allow & 1u << routes[i].method);
        assert_false(routes[i].body != BODY_NONE && !routes[i].writes);
        assert_true(routes[i].method == METHOD_GET || routes[i].writes);
    }
}

static void test_route_arguments(void **state) {
    (void)state;
    char args[ROUTE_ARGS_MAX][ROUTE_ARG_SIZE], longest[256];
    unsigned allow;
    const struct route *route = route_find(METHOD_GET, "/v1/jobs/job_1/epochs/last", args, &allow);
    assert_string_equal(route->path, "/v1/jobs/{id}/epochs/{n}");
    assert_string_equal(args[0], "job_1");
    assert_string_equal(args[1], "last");
    assert_string_equal(route_find(METHOD_GET, "/v1/jobs/", args, &allow)->path, "/{file}");
    assert_string_equal(route_find(METHOD_GET, "/v1/jobs/a/b/c/d", args, &allow)->path, "/{file}");
    route = route_find(METHOD_OTHER, "/v1/jobs/x", args, &allow);
    assert_int_equal(allow, 1u << METHOD_GET | 1u << METHOD_DELETE);
    assert_int_not_equal(route->method, METHOD_OTHER);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "/v1/jobs/", 9);
    assert_string_equal(route_find(METHOD_GET, longest, args, &allow)->path, "/{file}");
}

/* --- hosts --- */

static void test_hosts(void **state) {
    (void)state;
    const struct listener listener = {.host = "127.0.0.1", .port = 8080},
                          any = {.host = "0.0.0.0", .name = "lab", .any = true, .port = 80};
    static const char *const ours[] = {"localhost", "localhost:8080", "LocalHost",    "127.0.0.1:8080",
                                       "[::1]",     "[::1]:8080",     "localhost:80", "[::1]:80"};
    static const char *const foreign[] = {
        "",    "localhost:65536", "localhost:", "localhost:8080x", "localhost.", "[::1",    "[::1]x",
        "::1", "127.0.0.2",       "0.0.0.0",    "example.org",     "lab",        "10.0.0.1"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(listener_is_host(&listener, ours[i]));
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        assert_false(listener_is_host(&listener, foreign[i]));
    assert_true(listener_is_host(&any, "10.0.0.1:80"));
    assert_true(listener_is_host(&any, "[fe80::1]"));
    assert_true(listener_is_host(&any, "LAB:80"));
    assert_false(listener_is_host(&any, "10.0.0.1.example.org"));
    assert_false(listener_is_host(&any, "example.org"));
}

/* --- offers --- */

static json_t *devices(const char *state) {
    json_t *value =
        json_pack("{s:s, s:[{s:s, s:[{s:s, s:s}], s:I, s:[{s:s, s:[s,s]}, {s:s, s:[s]}]}, {s:s, s:I, s:[{s:s, s:[s]}]}]}",
                  "state", state, "items", "id", "cpu", "unusable", "name", "cudnn", "reason", "no driver", "memory_bytes",
                  (json_int_t)1000 << 20, "backends", "name", "onednn", "precisions", "f32", "bf16", "name", "ref", "precisions",
                  "f32", "id", "cpu2", "memory_bytes", (json_int_t)4000 << 20, "backends", "name", "ref", "precisions", "f32");
    assert_non_null(value);
    return value;
}

static const struct offer_case {
    enum spec_backend backend;
    enum spec_precision precision;
    int64_t mib;
    const char *pointer; /* NULL: fine */
    const char *says;
} offer_cases[] = {
    {BACKEND_AUTO, PRECISION_F32, 100, NULL, NULL},
    {BACKEND_AUTO, PRECISION_BF16, 100, NULL, NULL},
    {BACKEND_REF, PRECISION_F32, 3999, NULL, NULL}, /* the second device has room */
    {BACKEND_CUDNN, PRECISION_F32, 1, "/backend", "there is onednn, ref. The reason: no driver"},
    {BACKEND_REF, PRECISION_BF16, 1, "/precision", "offers precision \"bf16\" with backend \"ref\"; there is f32"},
    {BACKEND_AUTO, PRECISION_TF32, 1, "/precision", "precision \"tf32\" needs a GPU; here there is f32, bf16"},
    {BACKEND_ONEDNN, PRECISION_F32, 1001, "/batch_size", "needs about 0.98 GiB and the processor here has 0.97 GiB"},
    {BACKEND_AUTO, PRECISION_F32, 4001, "/batch_size", "has 3.90 GiB"},
    {BACKEND_AUTO, PRECISION_BF16, 2000, "/batch_size", "has 0.97 GiB"},
};

static void test_offers(void **state) {
    (void)state;
    json_t *ready = devices("ready"), *probing = devices("probing");
    for (size_t i = 0; i < sizeof offer_cases / sizeof offer_cases[0]; i++) {
        const struct offer_case *row = &offer_cases[i];
        struct spec spec = {.dataset = "shapes", .device = "auto", .backend = row->backend, .precision = row->precision};
        struct err err = {0};
        assert_int_equal(offer_check_probe(ready, NULL, &spec, row->mib << 20, &err), row->pointer == NULL ? 0 : -1);
        assert_string_equal(err.pointer, row->pointer != NULL ? row->pointer : "");
        if (row->says != NULL && strstr(err.text, row->says) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.text, row->says);
        err = (struct err){0};
        assert_int_equal(offer_check_probe(probing, NULL, &spec, row->mib << 20, &err), 0);
    }
    json_decref(ready);
    json_decref(probing);
}

static void assert_unknown(const json_t *devices, const char *name, const char *says) {
    struct spec spec = {.dataset = "shapes"};
    struct err err = {0};
    snprintf(spec.device, sizeof spec.device, "%s", name);
    assert_int_equal(offer_check_probe(devices, NULL, &spec, 1, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.pointer, "/device");
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

/* How any GPU is had, or why there is none; a beginning that only one has. */
static void test_unknown_devices(void **state) {
    (void)state;
    json_t *ready = devices("ready"), *gpu = json_pack("{s:s, s:s, s:[]}", "id", "GPU-a1", "compute", "9.0", "backends");
    assert_unknown(ready, "gpu", "is cpu, cpu2. \"device\" left out means any GPU, but there is none: no driver");
    assert_unknown(ready, "cp", "but there is none: no driver");
    json_array_append_new(json_object_get(ready, "items"), gpu);
    assert_unknown(ready, "cuda", "is cpu, cpu2, GPU-a1. Leave \"device\" out for any GPU");
    assert_unknown(ready, "GPU-a", "did you mean \"GPU-a1\"?");
    json_decref(ready);
}

static void test_missing_dataset(void **state) {
    (void)state;
    json_t *ready = devices("ready");
    json_t *datasets = json_pack("{s:{s:b, s:s}, s:{s:b, s:n}}", "fashion-mnist", "available", 0, "reason",
                                 "install the package x", "shapes", "available", 1, "reason");
    struct spec spec = {.dataset = "fashion-mnist", .device = "auto"};
    struct err err = {0};
    assert_int_equal(offer_check_probe(ready, datasets, &spec, 1, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_string_equal(err.pointer, "/dataset");
    assert_non_null(strstr(err.text, "install the package x"));
    strcpy(spec.dataset, "shapes");
    err = (struct err){0};
    assert_int_equal(offer_check_probe(ready, datasets, &spec, 1, &err), 0);
    json_decref(datasets);
    json_decref(ready);
}

/* --- texts --- */

static void test_text_grows(void **state) {
    (void)state;
    struct text text = {0};
    size_t size;
    for (int i = 0; i < 1000; i++)
        text_printf(&text, "%d,", i % 10);
    text_puts(&text, "");
    text_add(&text, NULL, 0);
    char *data = text_steal(&text, &size);
    assert_int_equal(size, 2000);
    assert_int_equal(strlen(data), 2000);
    free(data);
    assert_null(text.data);
    data = text_steal(&text, &size);
    assert_string_equal(data, "");
    free(data);
}

static void test_text_fails_once_and_for_all(void **state) {
    (void)state;
    for (int allowed = 0; allowed < 4; allowed++) {
        struct text text = {0};
        size_t size;
        allocations_left = allowed;
        for (int i = 0; i < 10000; i++)
            text_puts(&text, "0123456789");
        allocations_left = -1;
        assert_true(text.failed);
        text_puts(&text, "more");
        assert_null(text_steal(&text, &size));
        assert_null(text.data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets_are_decoded),
        cmocka_unit_test(test_broken_targets),
        cmocka_unit_test(test_buffer_is_enough),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_every_route_finds_itself),
        cmocka_unit_test(test_route_arguments),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_unknown_devices),
        cmocka_unit_test(test_missing_dataset),
        cmocka_unit_test(test_text_grows),
        cmocka_unit_test(test_text_fails_once_and_for_all),
    };
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
