/* Tests of entries' names: which may be, how others are shown, and that none is lost or comes twice, memory or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/train/import/import.h"
#include "server/train/import/names.h"

static long allowed = -1; /* allocations that may still succeed; negative: all */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool may_allocate(void) {
    if (allowed > 0)
        allowed--;
    else if (allowed == 0)
        return false;
    return true;
}

void *__wrap_calloc(size_t n, size_t size) {
    return may_allocate() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *memory, size_t size) {
    return may_allocate() ? __real_realloc(memory, size) : NULL;
}

static void good_names(void **state) {
    (void)state;
    static const char *const names[] = {"a",
                                        "a/b",
                                        "train/rose/0.png",
                                        "...",
                                        "a..b/..c",
                                        "\xc3\xa4/\xe8\x96\x94\xe8\x96\x87/\xf0\x9f\x8c\xb9",
                                        "a b",
                                        "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(name_check(names[i], NULL), 0);
}

static void bad_names(void **state) {
    (void)state;
    static const char *const names[] = {"",
                                        "/",
                                        "/a",
                                        "a/",
                                        "a//b",
                                        "..",
                                        "../a",
                                        "a/..",
                                        "a/../b",
                                        "a\\b",
                                        "a\nb",
                                        "a\x7f",
                                        "\x80",
                                        "\xc3",
                                        "\xc0\xaf",
                                        "\xe0\x80\xaf",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xff",
                                        "a/\xe8\x96"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct err err = {0};
        assert_int_equal(name_check(names[i], &err), -1);
        assert_int_equal(err.code, ERR_DATA);
    }
}

static void lengths(void **state) {
    (void)state;
    char name[IMPORT_NAME_MAX + 2];
    memset(name, 'x', sizeof name);
    name[IMPORT_COMPONENT_MAX] = '\0';
    assert_int_equal(name_check(name, NULL), 0);
    name[IMPORT_COMPONENT_MAX] = 'x';
    name[IMPORT_COMPONENT_MAX + 1] = '\0';
    assert_int_equal(name_check(name, NULL), -1);
    for (int depth = 1; depth <= IMPORT_DEPTH_MAX + 1; depth++) {
        for (int i = 0; i < depth; i++)
            memcpy(name + 2 * i, "d/", 2);
        name[2 * depth - 1] = '\0';
        assert_int_equal(name_check(name, NULL), depth <= IMPORT_DEPTH_MAX ? 0 : -1);
    }
    for (int i = 0; i <= IMPORT_NAME_MAX; i++)
        name[i] = i % 100 == 99 ? '/' : 'x';
    name[IMPORT_NAME_MAX + 1] = '\0';
    assert_int_equal(name_check(name, NULL), -1);
    name[IMPORT_NAME_MAX] = '\0';
    assert_int_equal(name_check(name, NULL), 0);
}

static void shown_names_are_utf_8(void **state) {
    (void)state;
    char text[8];
    name_show("a\xff\xc3\xa4", text, sizeof text);
    assert_string_equal(text, "a?\xc3\xa4");
    name_show("123456\xc3\xa4", text, sizeof text); /* no half of a character at the end */
    assert_string_equal(text, "123456");
    name_show("12345678", text, sizeof text);
    assert_string_equal(text, "1234567");
}

enum { MANY = 5000 };

/* false: memory ran out, and what was there before is still there. */
static bool keep_many(struct names *names) {
    for (int i = 0; i < MANY; i++) {
        char name[16];
        size_t at;
        struct err err = {0};
        snprintf(name, sizeof name, "n%d", i);
        if (names_add(names, name, &at, &err) != 0) {
            assert_int_equal(err.code, ERR_MEMORY);
            return false;
        }
        assert_string_equal(names->bytes + at, name);
    }
    return true;
}

static void no_name_comes_twice(void **state) {
    (void)state;
    struct names names = {0};
    assert_true(keep_many(&names));
    for (int i = 0; i < MANY; i++) {
        char name[16];
        size_t at;
        struct err err = {0};
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(names_add(&names, name, &at, &err), -1);
        assert_int_equal(err.code, ERR_DATA);
    }
    assert_int_equal(names.n, MANY);
    names_done(&names);
}

static void memory_runs_out(void **state) {
    (void)state;
    bool done = false;
    for (long n = 0; !done; n++) {
        struct names names = {0};
        allowed = n;
        done = keep_many(&names);
        allowed = -1;
        names_done(&names);
        assert_true(n < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_names),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(lengths),
        cmocka_unit_test(shown_names_are_utf_8),
        cmocka_unit_test(no_name_comes_twice),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
