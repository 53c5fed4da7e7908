/* Tests of the kernels over the parameters: norms, clipping, optimizers, averages, bf16 copies. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/gpu_kernels.h"
#include "tests/unit/kernel_rig.h"

/* A narrow weight of two chunks, a bias, a wide weight, a running statistic. Flat f32 regions have gaps between parameters. */
enum { CHUNKS = 5, PARAMS = 4, FLAT = 1344, NARROW = 900, WIDE = 264 };
static const struct kernel_chunk chunks[CHUNKS] = {
    {.first = 0, .count = 600, .param = 0, .gradient = 0, .working = 0, .narrow = 1, .decays = 1},
    {.first = 600, .count = 300, .param = 0, .gradient = 1200, .working = 1200, .narrow = 1, .decays = 1},
    {.first = 960, .count = 24, .param = 1, .gradient = 2048, .working = -1, .narrow = 0, .decays = 0},
    {.first = 1024, .count = 200, .param = 2, .gradient = 2304, .working = -1, .narrow = 0, .decays = 1},
    {.first = 1280, .count = 8, .param = 3, .gradient = -1, .working = -1, .narrow = 0, .decays = 0}};
static const struct kernel_param params[PARAMS] = {{0, 2}, {2, 1}, {3, 1}, {4, 1}};

/* Both kinds of gradients in one region of bytes: bf16 ones first, f32 ones from byte 2048 on. */
struct scene {
    struct tensor narrow, wide; /* random numbers */
    unsigned char region[2048 + WIDE * 4];
    struct tensor master, momentum, square, average;
    struct kernel_step step;
    uint64_t chunks, params, gradient;
    float clip;
};

static void make_scene(struct rig *rig, struct scene *s) {
    memset(s->region, 0x7f, sizeof s->region);
    s->narrow = rig_dense(rig, 1, NARROW, true, 1);
    s->wide = rig_dense(rig, 1, WIDE, false, 2);
    memcpy(s->region, rig_read(s->narrow.at), NARROW * 2);
    memcpy(s->region + 2048, rig_read(s->wide.at), WIDE * 4);
    s->chunks = rig_input(rig, chunks, sizeof chunks);
    s->params = rig_input(rig, params, sizeof params);
    s->gradient = rig_input(rig, s->region, sizeof s->region);
}

/* Gradient of value k of a chunk. */
static double gradient_of(const struct scene *s, const struct kernel_chunk *chunk, int k) {
    return chunk->narrow ? s->narrow.values[chunk->gradient / 2 + k] : s->wide.values[(chunk->gradient - 2048) / 4 + k];
}

static bool in_some_chunk(int64_t at) {
    for (int i = 0; i < CHUNKS; i++)
        if (at >= chunks[i].first && at < chunks[i].first + chunks[i].count)
            return true;
    return false;
}

/* --- norms --- */

/* Runs the norms and the clipping with this limit; checks both. Returns the factor. */
static float run_norms(struct rig *rig, const struct scene *s, float clip_norm) {
    struct kernel_step step = {.n = 1, .clip_norm = clip_norm};
    struct kernel_statistics none[PARAMS] = {{0}}, statistics[PARAMS];
    struct kernel_result result;
    double partial[CHUNKS * 3], all = 0;
    memset(partial, 0xff, sizeof partial);
    struct kernel_gradient_norms first = {
        .chunks = s->chunks, .gradient = s->gradient, .partial = rig_target(rig, partial, sizeof partial), .chunks_n = CHUNKS};
    rig_run(rig, KERNEL_gradient_norms, &first, CHUNKS, 1);
    struct kernel_gradient_clip second = {.params = s->params,
                                          .partial = rig_input(rig, rig_read(first.partial), sizeof partial),
                                          .step = rig_input(rig, &step, sizeof step),
                                          .statistics = rig_target(rig, none, sizeof none),
                                          .result = rig_target(rig, NULL, sizeof result),
                                          .params_n = PARAMS};
    rig_run(rig, KERNEL_gradient_clip, &second, 1, 1);
    memcpy(statistics, rig_read(second.statistics), sizeof statistics);
    memcpy(&result, rig_read(second.result), sizeof result);
    for (int p = 0; p < PARAMS; p++) {
        double sum = 0;
        for (int i = 0; i < CHUNKS; i++)
            for (int k = 0; chunks[i].param == p && chunks[i].gradient >= 0 && k < chunks[i].count; k++)
                sum += pow(gradient_of(s, &chunks[i], k), 2);
        all += sum;
        assert_true(rig_close(statistics[p].gradient, sqrt(sum), 1e-12, false));
    }
    assert_true(rig_close(result.gradient_norm, sqrt(all), 1e-12, false));
    double factor = clip_norm > 0 ? fmin(1, (double)clip_norm / (sqrt(all) + 1e-6)) : 1;
    assert_true(rig_close((double)result.clip, factor, 1e-7, false));
    return result.clip;
}

/* --- optimizers, in double --- */

struct value {
    double weight, momentum, square;
};

static struct value moved(const struct kernel_step *step, struct value v, double g, double decay) {
    double lr = (double)step->lr, momentum = (double)step->momentum, epsilon = (double)step->epsilon;
    if (step->optimizer == KERNEL_ADAMW)
        v.weight -= lr * decay * v.weight;
    else
        g += decay * v.weight;
    if (step->optimizer == KERNEL_SGD) {
        v.momentum = momentum * v.momentum + g;
        v.weight -= lr * (step->nesterov ? g + momentum * v.momentum : v.momentum);
    } else if (step->optimizer == KERNEL_RMSPROP) {
        v.square = (double)step->alpha * v.square + (1 - (double)step->alpha) * g * g;
        v.momentum = momentum * v.momentum + g / (sqrt(v.square) + epsilon);
        v.weight -= lr * v.momentum;
    } else {
        v.momentum = (double)step->beta1 * v.momentum + (1 - (double)step->beta1) * g;
        v.square = (double)step->beta2 * v.square + (1 - (double)step->beta2) * g * g;
        v.weight -= lr * v.momentum / (double)step->correction1 / (sqrt(v.square / (double)step->correction2) + epsilon);
    }
    return v;
}

static struct kernel_step step_of(int optimizer, bool nesterov, bool weights_only) {
    return (struct kernel_step){.n = 1,
                                .optimizer = optimizer,
                                .nesterov = nesterov,
                                .decay_weights_only = weights_only,
                                .lr = 0.05f,
                                .momentum = 0.9f,
                                .weight_decay = 0.01f,
                                .beta1 = 0.9f,
                                .beta2 = 0.99f,
                                .alpha = 0.95f,
                                .epsilon = 1e-3f,
                                .average_decay = 0.9f,
                                .correction1 = 0.271f,
                                .correction2 = 0.0297f};
}

static void make_state(struct rig *rig, struct scene *s) {
    s->master = rig_dense(rig, 1, FLAT, false, 3);
    s->momentum = rig_dense(rig, 1, FLAT, false, 4);
    s->square = rig_dense(rig, 1, FLAT, false, 5);
    s->average = rig_dense(rig, 1, FLAT, false, 6);
    for (int at = 0; at < FLAT; at++)
        rig_set(rig, &s->square, 0, at, fabs(s->square.values[at]));
    s->master.at = rig_target(rig, rig_read(s->master.at), FLAT * 4);
    s->momentum.at = rig_target(rig, rig_read(s->momentum.at), FLAT * 4);
    s->square.at = rig_target(rig, rig_read(s->square.at), FLAT * 4);
    s->average.at = rig_target(rig, rig_read(s->average.at), FLAT * 4);
}

/* Checks one value; returns how much it moved. */
static double check_value(const struct scene *s, const struct kernel_chunk *chunk, int k, const struct tensor *working,
                          bool average) {
    int at = (int)chunk->first + k;
    struct value v = {s->master.values[at], s->momentum.values[at], s->square.values[at]};
    double decay = chunk->decays || !s->step.decay_weights_only ? (double)s->step.weight_decay : 0;
    if (chunk->gradient >= 0)
        v = moved(&s->step, v, gradient_of(s, chunk, k) * (double)s->clip, decay);
    rig_expect(&s->master, 0, at, v.weight, 2e-6);
    if (chunk->gradient >= 0)
        rig_expect(&s->momentum, 0, at, v.momentum, 2e-6);
    if (chunk->gradient >= 0 && s->step.optimizer != KERNEL_SGD)
        rig_expect(&s->square, 0, at, v.square, 2e-6);
    if (average)
        rig_expect(&s->average, 0, at, 0.9 * s->average.values[at] + 0.1 * v.weight, 2e-6);
    if (chunk->working >= 0)
        assert_true(rig_get(working, 0, (int)chunk->working / 2 + k) == rig_round(rig_get(&s->master, 0, at), true));
    return rig_get(&s->master, 0, at) - s->master.values[at];
}

static void check_update(const struct scene *s, const struct tensor *working, bool average, const double *partial) {
    for (int i = 0; i < CHUNKS; i++) {
        double weights = 0, updates = 0;
        for (int k = 0; k < chunks[i].count; k++) {
            double weight = s->master.values[chunks[i].first + k];
            updates += pow(check_value(s, &chunks[i], k, working, average), 2);
            weights += chunks[i].gradient >= 0 ? weight * weight : 0;
        }
        assert_true(rig_close(partial[3 * i + 1], weights, 1e-9, false));
        assert_true(fabs(partial[3 * i + 2] - updates) <= 1e-6 * updates);
        assert_true(partial[3 * i] == i);
    }
    for (int at = 0; at < FLAT; at++)
        if (!in_some_chunk(at))
            assert_true(rig_get(&s->master, 0, at) == s->master.values[at]);
}

static void update(void **state, struct kernel_step step, float clip_norm, bool average) {
    struct rig *rig = rig_new(state);
    struct scene s = {.step = step};
    double partial[CHUNKS * 3];
    for (int i = 0; i < CHUNKS * 3; i++)
        partial[i] = i / 3;
    make_scene(rig, &s);
    s.clip = run_norms(rig, &s, clip_norm);
    make_state(rig, &s);
    struct kernel_result result = {.clip = s.clip};
    struct tensor working = rig_dense_output(rig, 1, NARROW, true);
    struct kernel_update call = {.chunks = s.chunks,
                                 .step = rig_input(rig, &step, sizeof step),
                                 .result = rig_input(rig, &result, sizeof result),
                                 .gradient = s.gradient,
                                 .master = s.master.at,
                                 .momentum = s.momentum.at,
                                 .square = step.optimizer == KERNEL_SGD ? 0 : s.square.at,
                                 .average = average ? s.average.at : 0,
                                 .working = working.at,
                                 .partial = rig_target(rig, partial, sizeof partial),
                                 .chunks_n = CHUNKS};
    rig_run(rig, KERNEL_update, &call, CHUNKS, 1);
    memcpy(partial, rig_read(call.partial), sizeof partial);
    check_update(&s, &working, average, partial);
    rig_free(rig);
}

void test_update(void **state) {
    for (int optimizer = KERNEL_SGD; optimizer <= KERNEL_RMSPROP; optimizer++)
        for (int how = 0; how < 8; how++)
            update(state, step_of(optimizer, how & 1, how & 2), how & 2 ? 0.5f : how & 1 ? 1e6f : 0, how & 4);
}

void test_update_norms(void **state) {
    struct rig *rig = rig_new(state);
    double partial[CHUNKS * 3];
    struct kernel_statistics before[PARAMS] = {{.gradient = 5}, {.gradient = 6}}, after[PARAMS];
    for (int i = 0; i < CHUNKS * 3; i++)
        partial[i] = i * i;
    struct kernel_update_norms call = {.params = rig_input(rig, params, sizeof params),
                                       .partial = rig_input(rig, partial, sizeof partial),
                                       .statistics = rig_target(rig, before, sizeof before),
                                       .params_n = PARAMS};
    rig_run(rig, KERNEL_update_norms, &call, 2, 1);
    memcpy(after, rig_read(call.statistics), sizeof after);
    assert_true(after[0].gradient == 5 && after[1].gradient == 6);
    assert_true(after[0].weight == sqrt(1 + 16) && after[0].update == sqrt(4 + 25));
    assert_true(after[3].weight == 13 && after[3].update == 14);
    rig_free(rig);
}

/* --- bf16 copies --- */

/* Numbers that are hard to round: ties to even, the largest ones, subnormal ones, infinities and a NaN. */
void test_narrow(void **state) {
    static const uint32_t hard[][2] = {{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80},
                                       {0x00000001, 0x0000}, {0x80018000, 0x8002}, {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
                                       {0x7f800001, 0x7fc0}, {0xffffffff, 0x7fc0}};
    enum { HARD = sizeof hard / sizeof hard[0] };
    struct rig *rig = rig_new(state);
    float master[FLAT] = {0};
    uint16_t working[NARROW];
    for (int k = 0; k < HARD; k++)
        memcpy(&master[k], &hard[k][0], 4);
    for (int k = HARD; k < FLAT; k++)
        master[k] = (float)rig_random(1, (uint32_t)k);
    struct kernel_narrow call = {.chunks = rig_input(rig, chunks, sizeof chunks),
                                 .master = rig_input(rig, master, sizeof master),
                                 .working = rig_target(rig, NULL, sizeof working),
                                 .chunks_n = CHUNKS};
    rig_run(rig, KERNEL_narrow, &call, CHUNKS, 1);
    memcpy(working, rig_read(call.working), sizeof working);
    for (int k = 0; k < HARD; k++)
        assert_int_equal(working[k], hard[k][1]);
    for (int k = HARD; k < NARROW; k++) {
        uint32_t bits = (uint32_t)working[k] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        assert_true((double)value == rig_round((double)master[k], true));
    }
    rig_free(rig);
}
