/* Which of several devices takes a job: by what they offer, what the job leaves open, which are drained, and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/sched/sched.h"

/* A processor, a GPU of which bf16 cannot be had, two large ones; states as below. */
static const struct {
    const char *id, *compute, *backend, *precisions[3];
    int64_t memory;
} cards[] = {{"cpu", NULL, "onednn", {"f32", "bf16"}, 1},
             {"GPU-old", "7.5", "cudnn", {"f32"}, 16},
             {"GPU-a", "9.0", "cudnn", {"f32", "bf16", "tf32"}, 80},
             {"GPU-b", "9.0", "cudnn", {"f32", "bf16", "tf32"}, 80}};
enum { CPU, OLD, A, B, CARDS_N };

/* The devices, those whose bit is set in drained out of use. */
static json_t *devices(unsigned drained) {
    json_t *items = json_array();
    for (int i = 0; i < CARDS_N; i++) {
        json_t *precisions = json_array();
        for (int k = 0; k < 3 && cards[i].precisions[k] != NULL; k++)
            json_array_append_new(precisions, json_string(cards[i].precisions[k]));
        json_array_append_new(items, json_pack("{s:s, s:s?, s:I, s:s, s:[{s:s, s:o}]}", "id", cards[i].id, "compute",
                                               cards[i].compute, "memory_bytes", (json_int_t)cards[i].memory, "state",
                                               drained & 1u << i ? "drained" : "ready", "backends", "name", cards[i].backend,
                                               "precisions", precisions));
    }
    return items;
}

/* The need of the job stands in its sequence number. */
static bool room(void *arg, const struct job *job, const json_t *device) {
    (void)arg;
    return job->seq <= json_integer_value(json_object_get(device, "memory_bytes"));
}

/* takers: the bits of the devices that must take the job. */
static const struct {
    struct sched_wish wish;
    int64_t need;
    unsigned drained, takers;
} cases[] = {
    /* GPUs come before the processor, and only when none is left it takes the job. */
    {{"auto", "auto", "f32"}, 1, 0, 1u << OLD | 1u << A | 1u << B},
    {{"auto", "auto", "bf16"}, 1, 0, 1u << A | 1u << B},
    {{"auto", "auto", "tf32"}, 1, 0, 1u << A | 1u << B},
    {{"auto", "auto", "f32"}, 1, 1u << OLD | 1u << A | 1u << B, 1u << CPU | 1u << OLD | 1u << A | 1u << B},
    {{"auto", "auto", "bf16"}, 1, 1u << A | 1u << B, 1u << CPU | 1u << A | 1u << B},
    /* What the job names, it gets. */
    {{"cpu", "auto", "f32"}, 1, 0, 1u << CPU},
    {{"auto", "onednn", "f32"}, 1, 0, 1u << CPU},
    {{"auto", "cudnn", "f32"}, 1, 0, 1u << OLD | 1u << A | 1u << B},
    {{"GPU-b", "auto", "bf16"}, 1, 0, 1u << B},
    /* Memory: the small GPU is left out, unless no other is large enough either. */
    {{"auto", "auto", "f32"}, 40, 0, 1u << A | 1u << B},
    {{"auto", "auto", "f32"}, 40, 1u << A | 1u << B, 1u << A | 1u << B},
    {{"auto", "auto", "f32"}, 90, 0, 1u << OLD | 1u << A | 1u << B},
    {{"GPU-old", "auto", "f32"}, 40, 0, 1u << OLD},
    /* What none can do is given to one that says so; but a device that is not there is waited for. */
    {{"auto", "ref", "f32"}, 1, 0, 1u << CPU},
    {{"GPU-old", "auto", "bf16"}, 1, 0, 1u << OLD},
    {{"GPU-gone", "auto", "f32"}, 1, 0, 0},
};

static void test_takers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *items = devices(cases[i].drained);
        struct job job = {.seq = cases[i].need};
        struct sched_fit fit = {.devices = items, .wish = &cases[i].wish, .job = &job, .room = room};
        unsigned takers = 0;
        for (size_t k = 0; k < CARDS_N; k++)
            takers |= (unsigned)sched_device_takes(&fit, json_array_get(items, k)) << k;
        if (takers != cases[i].takers)
            fail_msg("case %zu: devices %x take it, expected %x", i, takers, cases[i].takers);
        json_decref(items);
    }
}

static void test_wish_of_an_older_spec(void **state) {
    (void)state;
    json_t *spec = json_pack("{s:s, s:s}", "precision", "bf16", "backend", "ref");
    struct sched_wish wish = sched_wish_of(spec), none = sched_wish_of(NULL);
    assert_string_equal(wish.device, "auto");
    assert_string_equal(wish.precision, "bf16");
    assert_string_equal(wish.backend, "ref");
    assert_string_equal(none.backend, "auto");
    assert_string_equal(none.precision, "f32");
    json_decref(spec);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_takers), cmocka_unit_test(test_wish_of_an_older_spec)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
