/* Runs every case of tests/cases/spec: a job document, and either the canonical document or the errors it must give.
 *
 * A case is a file NAME.json: {"input": {...}, "canonical": {part of the canonical document}} or {"input": {...},
 * "errors": {"/pointer": "a part of the message", ...}} (exactly these pointers). */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/spec.h"

static const char folder[] = "tests/cases/spec";

/* Everything in part is in whole, too. */
static void check_part(const char *name, const json_t *part, const json_t *whole) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)part, key, value) {
        json_t *other = json_object_get(whole, key);
        if (json_is_object(value))
            check_part(name, value, other);
        else if (!json_equal(value, other))
            fail_msg("%s: \"%s\" is not as expected", name, key);
    }
}

static void check_errors(const char *name, const json_t *expected, const struct err_list *errors) {
    if (json_object_size(expected) != errors->n)
        fail_msg("%s: %zu errors, %zu expected; the first is %s %s", name, errors->n, json_object_size(expected),
                 errors->items[0].pointer, errors->items[0].text);
    for (size_t i = 0; i < errors->n; i++) {
        const char *part = json_string_value(json_object_get(expected, errors->items[i].pointer));
        if (part == NULL || strstr(errors->items[i].text, part) == NULL)
            fail_msg("%s: unexpected error %s: %s", name, errors->items[i].pointer, errors->items[i].text);
    }
}

/* Reading the canonical document again gives the same document. */
static void check_stable(const char *name, const json_t *canonical, const struct spec_context *context) {
    char *text = json_text(canonical);
    struct err err = {0};
    struct err_list errors = {0};
    struct spec again;
    json_t *read = json_parse(text, strlen(text), &err);
    assert_int_equal(spec_parse(read, context, &again, &errors), 0);
    json_t *second = spec_to_json(&again);
    char *second_text = json_text(second);
    if (strcmp(text, second_text) != 0)
        fail_msg("%s: the canonical document is not stable: %s", name, second_text);
    json_decref(read);
    spec_done(&again);
    json_decref(second);
    free(text);
    free(second_text);
}

static void run_case(const char *name, const json_t *test) {
    struct spec_context context = spec_context_builtin(2, 4);
    struct spec spec;
    struct err_list errors = {0};
    int rc = spec_parse(json_object_get(test, "input"), &context, &spec, &errors);
    const json_t *expected = json_object_get(test, "canonical");
    if (expected == NULL) {
        assert_int_equal(rc, -1);
        check_errors(name, json_object_get(test, "errors"), &errors);
        return;
    }
    if (rc != 0)
        fail_msg("%s: %s %s", name, errors.items[0].pointer, errors.items[0].text);
    json_t *canonical = spec_to_json(&spec);
    check_part(name, expected, canonical);
    check_stable(name, canonical, &context);
    spec_done(&spec);
    json_decref(canonical);
}

static void all_cases(void **state) {
    (void)state;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (strstr(entry->d_name, ".json") == NULL)
            continue;
        char path[sizeof folder + sizeof entry->d_name];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        json_error_t error;
        json_t *test = json_load_file(path, 0, &error);
        if (test == NULL)
            fail_msg("%s: %s", path, error.text);
        run_case(entry->d_name, test);
        json_decref(test);
        n++;
    }
    closedir(dir);
    print_message("%d cases\n", n);
    assert_true(n > 0);
}

/* Allocation number fail_at fails; 0: none does. */
static size_t allocations, fail_at;

static void *counted_malloc(size_t size) {
    return ++allocations == fail_at ? NULL : malloc(size);
}

/* Parsing and printing, repeated with allocation 1, 2, 3, ... failing until nothing fails: no crash, no half result. */
static void allocations_fail_in(const char *text) {
    struct spec_context context = spec_context_builtin(2, 4);
    json_set_alloc_funcs(counted_malloc, free);
    bool through = false;
    for (fail_at = 1; !through && fail_at < 10000; fail_at++) {
        allocations = 0;
        struct err err = {0};
        struct err_list errors = {0};
        struct spec spec = {0};
        json_t *doc = json_parse(text, strlen(text), &err);
        assert_true(doc != NULL || err.code != ERR_NONE);
        json_t *canonical = doc != NULL && spec_parse(doc, &context, &spec, &errors) == 0 ? spec_to_json(&spec) : NULL;
        through = canonical != NULL && allocations < fail_at;
        spec_done(&spec);
        json_decref(canonical);
        json_decref(doc);
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(through);
    assert_true(fail_at > 50);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    allocations_fail_in("{\"dataset\":\"shapes\",\"model\":{\"preset\":\"resnet20\",\"width\":0.5,\"depth\":[1,2,3],"
                        "\"overrides\":[{\"stage\":1,\"norm\":\"none\"}]},\"epochs\":2}");
    allocations_fail_in("{\"dataset\":\"shapes\",\"model\":{\"layers\":[{\"name\":\"a\",\"op\":\"flatten\"}]}}");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_cases), cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
