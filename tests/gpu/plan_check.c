/* plan_check [--norm] [DEVICE]...: every plan that a training step of every preset asks of cuDNN, at batch 128 on 32x32 images,
 * is found for the devices (built-in profiles; four by default), deterministic and within the workspace; without a GPU. With
 * --norm the plans of fused batch norm, which take some tenths of a second each; RESIDUUM_PLAN_CACHE keeps them. Prints a table.
 * Exits with 1 when a plan is missing or is none that its key allows, and with 77 where cuDNN is not installed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/gpu/plan_rig.h"

enum { EXIT_SKIP = 77, KEYS_MAX = 4096, KEY_NUMBERS = 24, DEVICES_MAX = 16 };

static const char *const default_devices[] = {"a100", "h100", "r4090", "r5090"};
static const enum spec_precision precisions[] = {PRECISION_BF16, PRECISION_F32, PRECISION_TF32};

/* A plan that was asked for before: presets share most of theirs. */
struct known {
    int key[KEY_NUMBERS];
    bool found, tensor_cores;
    int64_t workspace_bytes;
};

struct check {
    struct planner *planner;
    int64_t workspace_max;
    const char *device;
    struct known *known; /* [KEYS_MAX], of this device */
    int known_n;
    /* of this row */
    int plans, unsupported;
    int64_t workspace_bytes;
    bool tensor_cores;
    /* in all */
    int wrong;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* --- one plan --- */

/* A complaint about a plan, on a line of its own. */
static void complain(struct check *check, const char *what, const char *text) {
    check->wrong++;
    printf("WRONG on %s: %s: %s\n", check->device, what, text);
}

/* What no key of the product allows: engines say themselves what they do. */
static void look_at(struct check *check, enum spec_precision precision, const char *text, struct known *known) {
    known->found = true;
    if (known->workspace_bytes > check->workspace_max)
        complain(check, "the workspace is larger than the device's", text);
    known->tensor_cores = strstr(text, "tensor cores") != NULL;
    if (precision == PRECISION_F32 && (known->tensor_cores || strstr(text, "inputs of fewer bits") != NULL))
        complain(check, "strict f32 got an engine of fewer bits", text);
    if (strstr(text, "nondeterministic") != NULL)
        complain(check, "the engine is not deterministic", text);
    if (strstr(text, "sums of fewer bits") != NULL)
        complain(check, "the engine does not add in f32", text);
}

static void plan_conv(struct check *check, const struct conv_key *key, struct known *known) {
    struct err err = {0};
    struct conv_plan *plan = NULL;
    char text[PLAN_TEXT_MAX];
    if (conv_plan_new(check->planner, key, &plan, &err) != 0) {
        complain(check, "no plan", err.text);
        return;
    }
    conv_plan_describe(plan, text);
    known->workspace_bytes = conv_plan_workspace(plan);
    look_at(check, key->precision, text, known);
    if (conv_plan_bind(plan, 1 << 20, 2 << 20, 3 << 20, 4 << 20, &err) != 0)
        complain(check, "addresses are refused", err.text);
    conv_plan_free(plan);
}

static void plan_norm(struct check *check, const struct norm_key *key, struct known *known) {
    const struct norm_addresses at = {1 << 20, 2 << 20, 3 << 20,  4 << 20,  5 << 20,  6 << 20,  7 << 20,  8 << 20,  9 << 20,
                                      9 << 20, 9 << 20, 10 << 20, 11 << 20, 12 << 20, 13 << 20, 14 << 20, 15 << 20, 16 << 20};
    struct err err = {0};
    struct norm_plan *plan = NULL;
    char text[PLAN_TEXT_MAX];
    if (norm_plan_new(check->planner, key, &plan, &err) != 0) {
        complain(check, "no plan", err.text);
        return;
    }
    norm_plan_describe(plan, text);
    known->workspace_bytes = norm_plan_workspace(plan);
    look_at(check, PRECISION_BF16, text, known);
    if (norm_plan_bind(plan, &at, &err) != 0)
        complain(check, "addresses are refused", err.text);
    norm_plan_free(plan);
}

/* --- all plans of a network --- */

/* The row of a key; *ret_new: it was not asked for before. */
static struct known *find(struct check *check, const int key[KEY_NUMBERS], bool *ret_new) {
    for (int i = 0; i < check->known_n; i++)
        if (memcmp(check->known[i].key, key, sizeof check->known[i].key) == 0) {
            *ret_new = false;
            return &check->known[i];
        }
    if (check->known_n == KEYS_MAX) {
        fprintf(stderr, "more than %d different plans\n", KEYS_MAX);
        exit(EXIT_FAILURE);
    }
    struct known *known = &check->known[check->known_n++];
    *known = (struct known){0};
    memcpy(known->key, key, sizeof known->key);
    *ret_new = true;
    return known;
}

static void count(struct check *check, const struct known *known) {
    check->plans++;
    if (!known->found)
        check->unsupported++;
    if (known->workspace_bytes > check->workspace_bytes)
        check->workspace_bytes = known->workspace_bytes;
    check->tensor_cores |= known->tensor_cores;
}

static void visit_conv(void *arg, const struct conv_key *key) {
    struct check *check = arg;
    const int numbers[KEY_NUMBERS] = {(int)key->op,
                                      (int)key->precision,
                                      key->n,
                                      key->h,
                                      key->w,
                                      key->c,
                                      key->oh,
                                      key->ow,
                                      key->k,
                                      key->kernel_h,
                                      key->kernel_w,
                                      key->stride_h,
                                      key->stride_w,
                                      key->pad_h,
                                      key->pad_w,
                                      key->dilation_h,
                                      key->dilation_w,
                                      key->groups,
                                      key->nondeterministic};
    bool new;
    struct known *known = find(check, numbers, &new);
    if (new)
        plan_conv(check, key, known);
    count(check, known);
}

static void visit_norm(void *arg, const struct norm_key *key) {
    struct check *check = arg;
    const int numbers[KEY_NUMBERS] = {(int)key->op, key->n, key->h, key->w, key->c, key->relu, key->add, key->nondeterministic};
    bool new;
    struct known *known = find(check, numbers, &new);
    if (new)
        plan_norm(check, key, known);
    count(check, known);
}

/* --- the table --- */

static void check_preset(struct check *check, const char *preset, enum spec_precision precision, bool norm) {
    const struct plan_rig_visitor visitor = {.conv = norm ? NULL : visit_conv, .norm = norm ? visit_norm : NULL, .arg = check};
    struct plan_rig_net net = plan_rig_net(preset, precision);
    double start = now();
    check->plans = check->unsupported = 0;
    check->workspace_bytes = 0;
    check->tensor_cores = false;
    plan_rig_walk(&net, &visitor);
    plan_rig_net_done(&net);
    printf("%-18s %-5s %-6s %6d %12d %14.1f %9.3f\n", preset, spec_precision_name(precision), check->device, check->plans,
           check->unsupported, (double)check->workspace_bytes / (1 << 20), now() - start);
    if (!norm && precision != PRECISION_F32 && check->plans > 0 && !check->tensor_cores)
        complain(check, "no plan uses tensor cores, or their note is not read", preset);
}

static int check_device(const struct gpu_driver *driver, const char *device, bool norm) {
    struct check check = {.device = device, .known = calloc(KEYS_MAX, sizeof *check.known)};
    size_t presets_n;
    const struct graph_preset *presets = graph_presets(&presets_n);
    if (check.known == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    check.planner = plan_rig_planner(driver, device, getenv("RESIDUUM_PLAN_CACHE"));
    check.workspace_max = gpu_workspace_bytes(gpu_profile_find(device, "", NULL)->memory_bytes);
    double start = now();
    for (size_t p = 0; p < (norm ? 1 : sizeof precisions / sizeof precisions[0]); p++)
        for (size_t i = 0; i < presets_n; i++)
            check_preset(&check, presets[i].name, precisions[p], norm);
    printf("%s: %d different plans, %d wrong, %.2f s\n", device, check.known_n, check.wrong, now() - start);
    if (check.known_n == 0)
        complain(&check, "nothing was planned", "");
    planner_free(check.planner);
    free(check.known);
    return check.wrong;
}

int main(int argc, char **argv) {
    struct gpu_driver driver;
    char reason[512] = "";
    bool norm = argc > 1 && strcmp(argv[1], "--norm") == 0;
    const char *const *devices = argc > 1 + norm ? (const char *const *)argv + 1 + norm : default_devices;
    int devices_n = argc > 1 + norm ? argc - 1 - norm : (int)(sizeof default_devices / sizeof default_devices[0]), wrong = 0;
    if (!plan_rig_open(&driver, reason, sizeof reason)) {
        printf("skipped: %s\n", reason);
        return EXIT_SKIP;
    }
    printf("cuDNN %zu, batch %d, 32x32 images, deterministic engines, no GPU\n", driver.cudnnGetVersion(), PLAN_RIG_BATCH);
    printf("%-18s %-5s %-6s %6s %12s %14s %9s\n", "preset", "", "device", "plans", "unsupported", "workspace MiB", "seconds");
    for (int i = 0; i < devices_n; i++)
        wrong += check_device(&driver, devices[i], norm);
    printf("%d wrong\n", wrong);
    return wrong > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
