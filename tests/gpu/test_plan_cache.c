/* The cache of cuDNN's plans: a plan comes back from the disk, and an entry that is damaged or made for something else is built
 * again. With the real cuDNN, without a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "tests/gpu/plan_rig.h"

struct fixture {
    struct gpu_driver driver;
    char folder[64];
};

static const struct conv_key conv_key = {.precision = PRECISION_BF16,
                                         .n = 128,
                                         .h = 16,
                                         .w = 16,
                                         .c = 64,
                                         .oh = 16,
                                         .ow = 16,
                                         .k = 32,
                                         .kernel_h = 1,
                                         .kernel_w = 1,
                                         .stride_h = 1,
                                         .stride_w = 1,
                                         .dilation_h = 1,
                                         .dilation_w = 1,
                                         .groups = 1};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    *state = fixture;
    snprintf(fixture->folder, sizeof fixture->folder, "/tmp/residuum-test-plans-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    file_remove_tree(fixture->folder, NULL);
    free(fixture);
    return 0;
}

static struct fixture *need_cudnn(void **state) {
    struct fixture *fixture = *state;
    fixture->driver = plan_rig_need();
    return fixture;
}

/* Plans through the cache in a folder and describes the plan. */
static void plan(const struct fixture *fixture, const char *cache, const struct conv_key *key, char ret_text[PLAN_TEXT_MAX]) {
    struct planner *planner = plan_rig_planner(&fixture->driver, "h100", cache);
    struct conv_plan *made = NULL;
    struct err err = {0};
    if (conv_plan_new(planner, key, &made, &err) != 0 || conv_plan_bind(made, 1 << 20, 2 << 20, 3 << 20, 4 << 20, &err) != 0)
        fail_msg("%s", err.text);
    conv_plan_describe(made, ret_text);
    conv_plan_free(made);
    planner_free(planner);
}

static bool comes_from_cache(const struct fixture *fixture, const struct conv_key *key) {
    char text[PLAN_TEXT_MAX];
    plan(fixture, fixture->folder, key, text);
    return strstr(text, "from the cache") != NULL;
}

/* How many entries there are; the path of the last one. */
static int entries(const struct fixture *fixture, char *ret_path, size_t size) {
    DIR *folder = opendir(fixture->folder);
    int n = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') {
            n++;
            snprintf(ret_path, size, "%s/%s", fixture->folder, entry->d_name);
        }
    closedir(folder);
    return n;
}

static void write_file(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void read_file(const char *path, char **ret_bytes, size_t *ret_size) {
    assert_int_equal(file_read(path, 1 << 20, ret_bytes, ret_size, NULL), 0);
}

/* --- tests --- */

static void test_a_plan_comes_back_as_it_was(void **state) {
    struct fixture *fixture = need_cudnn(state);
    char first[PLAN_TEXT_MAX], second[PLAN_TEXT_MAX], expected[PLAN_TEXT_MAX + 32], path[512];
    plan(fixture, fixture->folder, &conv_key, first);
    assert_null(strstr(first, "cache"));
    assert_int_equal(entries(fixture, path, sizeof path), 1);
    plan(fixture, fixture->folder, &conv_key, second);
    snprintf(expected, sizeof expected, "%s, from the cache", first);
    assert_string_equal(second, expected);
}

static void test_a_fused_batch_norm_comes_back(void **state) {
    struct fixture *fixture = need_cudnn(state);
    const struct norm_key key = {.op = NORM_BACK, .n = 128, .h = 8, .w = 8, .c = 16, .relu = true};
    struct planner *planner = plan_rig_planner(&fixture->driver, "h100", fixture->folder);
    char text[PLAN_TEXT_MAX];
    for (int i = 0; i < 2; i++) {
        struct norm_plan *made = NULL;
        struct err err = {0};
        if (norm_plan_new(planner, &key, &made, &err) != 0)
            fail_msg("%s", err.text);
        norm_plan_describe(made, text);
        norm_plan_free(made);
    }
    assert_non_null(strstr(text, "from the cache"));
    planner_free(planner);
}

/* What is at the path is not taken, and is whole again afterwards. */
static void assert_rebuilt(const struct fixture *fixture, const char *path, const char *whole, size_t size, size_t damaged_at) {
    char *again = NULL;
    size_t after;
    if (comes_from_cache(fixture, &conv_key))
        fail_msg("damage at byte %zu of %zu was taken for a plan", damaged_at, size);
    read_file(path, &again, &after);
    assert_int_equal(after, size);
    assert_memory_equal(again, whole, size);
    free(again);
}

static void test_a_damaged_entry_is_built_again(void **state) {
    enum { STEP = 11, ZERO_STEP = 200 };
    struct fixture *fixture = need_cudnn(state);
    char path[512], *whole = NULL;
    size_t size;
    assert_false(comes_from_cache(fixture, &conv_key));
    assert_int_equal(entries(fixture, path, sizeof path), 1);
    read_file(path, &whole, &size);
    for (size_t at = 0; at < size; at += STEP) {
        char kept = whole[at], *damaged = malloc(size);
        assert_non_null(damaged);
        memcpy(damaged, whole, size);
        damaged[at] = at % ZERO_STEP == 0 ? '\0' : (char)(kept ^ 1);
        write_file(path, damaged, size);
        assert_rebuilt(fixture, path, whole, size, at);
        free(damaged);
    }
    for (size_t cut = 0; cut < size; cut += ZERO_STEP) {
        write_file(path, whole, cut);
        assert_rebuilt(fixture, path, whole, size, cut);
    }
    assert_true(comes_from_cache(fixture, &conv_key));
    free(whole);
}

/* A whole entry under the name of another one. */
static void test_an_entry_of_something_else_is_not_taken(void **state) {
    struct fixture *fixture = need_cudnn(state);
    char path[512], other_path[512];
    struct conv_key first = conv_key, other = conv_key;
    size_t size;
    /* Their lines have the same length. */
    first.op = CONV_BACK_X;
    other.op = CONV_BACK_W;
    assert_false(comes_from_cache(fixture, &first));
    entries(fixture, path, sizeof path);
    char *whole = NULL;
    read_file(path, &whole, &size);
    file_remove_tree(fixture->folder, NULL);
    assert_false(comes_from_cache(fixture, &other));
    entries(fixture, other_path, sizeof other_path);
    assert_string_not_equal(path, other_path);
    write_file(other_path, whole, size);
    assert_false(comes_from_cache(fixture, &other));
    free(whole);
}

/* FNV-1a, as the entry's first line has it. */
static uint64_t checksum(const char *text) {
    uint64_t sum = 0xcbf29ce484222325;
    for (; *text != '\0'; text++)
        sum = (sum ^ (unsigned char)*text) * 0x100000001b3;
    return sum;
}

static char *line_after(char *text) {
    char *end = strchr(text, '\n');
    assert_non_null(end);
    return end + 1;
}

/* A right checksum over what cuDNN cannot read: an entry of a version that wrote something else. */
static void test_json_that_cudnn_refuses_is_built_again(void **state) {
    static const char *const bodies[] = {"", "{}", "{\"plan\":1}", "not json", "[[[["};
    struct fixture *fixture = need_cudnn(state);
    char path[512], head[64];
    size_t size;
    assert_false(comes_from_cache(fixture, &conv_key));
    entries(fixture, path, sizeof path);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        char *whole = NULL, *text = NULL;
        read_file(path, &whole, &size);
        char *key = line_after(whole), *json = line_after(line_after(key));
        snprintf(head, sizeof head, "residuum plan 1 %016" PRIx64 "\n", checksum(key));
        assert_memory_equal(head, whole, (size_t)(key - whole)); /* the checksum here is that of the cache */
        *json = '\0';
        assert_true(asprintf(&text, "%s%s", key, bodies[i]) > 0);
        snprintf(head, sizeof head, "residuum plan 1 %016" PRIx64 "\n", checksum(text));
        free(whole);
        assert_true(asprintf(&whole, "%s%s", head, text) > 0);
        write_file(path, whole, strlen(whole));
        if (comes_from_cache(fixture, &conv_key))
            fail_msg("taken for a plan: %s", bodies[i]);
        free(whole);
        free(text);
    }
}

static bool planned_with(const struct planner_options *options) {
    struct planner *planner = NULL;
    struct conv_plan *made = NULL;
    struct err err = {0};
    char text[PLAN_TEXT_MAX];
    if (planner_new(options, &planner, &err) != 0 || conv_plan_new(planner, &conv_key, &made, &err) != 0)
        fail_msg("%s", err.text);
    conv_plan_describe(made, text);
    conv_plan_free(made);
    planner_free(planner);
    return strstr(text, "from the cache") != NULL;
}

/* An entry holds for one device, limit and list of denied engines. */
static void test_entries_of_other_limits_are_told_apart(void **state) {
    struct fixture *fixture = need_cudnn(state);
    struct planner_options base = {.driver = &fixture->driver,
                                   .profile = gpu_profile_json("h100"),
                                   .compute = 90,
                                   .workspace_bytes = 512 << 20,
                                   .cache = fixture->folder};
    struct planner_options others[4] = {base, base, base, base};
    char path[512];
    others[1].workspace_bytes = 64 << 20;
    others[2].deny = "forward:4711";
    others[3].profile = gpu_profile_json("a100");
    for (int i = 0; i < 4; i++) {
        assert_false(planned_with(&others[i]));
        assert_int_equal(entries(fixture, path, sizeof path), i + 1);
        assert_true(planned_with(&others[i]));
    }
    others[2].deny = "back_w:4711"; /* says nothing of this operation */
    assert_true(planned_with(&others[2]));
}

static void test_a_cache_that_cannot_be_written_is_said(void **state) {
    struct fixture *fixture = need_cudnn(state);
    char file[512], text[PLAN_TEXT_MAX];
    snprintf(file, sizeof file, "%s/file", fixture->folder);
    write_file(file, "", 0);
    plan(fixture, file, &conv_key, text);
    assert_non_null(strstr(text, "not cached: "));
    plan(fixture, "", &conv_key, text);
    assert_non_null(strstr(text, "not cached: "));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_plan_comes_back_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_fused_batch_norm_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_damaged_entry_is_built_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_entry_of_something_else_is_not_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_that_cudnn_refuses_is_built_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entries_of_other_limits_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_cache_that_cannot_be_written_is_said, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
