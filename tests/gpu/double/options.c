/* Reads how a test sets up the double from the environment: see struct options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/double/double.h"

static long long read_number(const char *name, long long otherwise) {
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0')
        return otherwise;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < 0)
        violation("%s=%s is no number", name, text);
    return value;
}

static void read_profile(char *ret_text, size_t size) {
    const char *name = getenv("RESIDUUM_DOUBLE_PROFILE");
    char path[512];
    snprintf(path, sizeof path, "%s/%s.json", DOUBLE_PROFILES, name != NULL && name[0] != '\0' ? name : "h100");
    FILE *file = fopen(path, "r");
    size_t n = file != NULL ? fread(ret_text, 1, size - 1, file) : 0;
    if (file == NULL || n == 0 || n == size - 1)
        violation("cannot read the profile %s", path);
    ret_text[n] = '\0';
    fclose(file);
}

/* --- faults --- */

static const struct {
    const char *word;
    enum fault_kind kind;
    int code; /* of the operation that fails and of all calls after it */
} faults[] = {
    {"oom", FAULT_OOM, CUDA_ERROR_OUT_OF_MEMORY},
    {"sticky", FAULT_STICKY, CUDA_ERROR_ILLEGAL_ADDRESS},
    {"ecc", FAULT_ECC, CUDA_ERROR_ECC_UNCORRECTABLE},
    {"lost", FAULT_LOST, CUDA_ERROR_LAUNCH_FAILED},
    {"remap", FAULT_REMAP, CUDA_ERROR_LAUNCH_FAILED},
    {"hang", FAULT_HANG, CUDA_SUCCESS},
    {"capture", FAULT_CAPTURE, CUDA_SUCCESS},
    {"wrong", FAULT_WRONG, CUDA_SUCCESS},
    {"busy", FAULT_BUSY, CUDA_SUCCESS},
};

/* "word:number@number", "wrong:name@number"; what the word does not need may be missing. */
static void parse_fault(const char *text, struct options *options) {
    size_t length = strcspn(text, ":@");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strlen(faults[i].word) == length && strncmp(text, faults[i].word, length) == 0) {
            options->fault.kind = faults[i].kind;
            options->fault.code = faults[i].code;
        }
    if (options->fault.kind == FAULT_NONE)
        violation("RESIDUUM_DOUBLE_FAULT: \"%s\" names no fault", text);
    const char *colon = strchr(text, ':'), *at = strchr(text, '@');
    if (colon != NULL && options->fault.kind == FAULT_STICKY)
        options->fault.code = (int)strtol(colon + 1, NULL, 10);
    if (colon != NULL && options->fault.kind == FAULT_WRONG)
        snprintf(options->fault.of, sizeof options->fault.of, "%.*s", (int)strcspn(colon + 1, "@"), colon + 1);
    options->fault.at = strtol(at != NULL                                            ? at + 1
                               : colon != NULL && options->fault.kind != FAULT_WRONG ? colon + 1
                                                                                     : "1",
                               NULL, 10);
}

/* A path is of a file that holds the fault; without the file there is none. */
static void read_fault(struct options *options) {
    const char *text = getenv("RESIDUUM_DOUBLE_FAULT");
    char line[64] = "";
    if (text == NULL || text[0] == '\0')
        return;
    if (text[0] != '/') {
        parse_fault(text, options);
        return;
    }
    FILE *file = fopen(text, "r");
    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file) == NULL)
        violation("cannot read the fault of %s", text);
    fclose(file);
    parse_fault(line, options);
    snprintf(options->fault.once, sizeof options->fault.once, "%s.happened", text);
}

void options_read(struct options *ret_options) {
    *ret_options = (struct options){0};
    ret_options->devices = (int)read_number("RESIDUUM_DOUBLE_DEVICES", 1);
    if (ret_options->devices > DEVICES_MAX)
        violation("RESIDUUM_DOUBLE_DEVICES: %d at most", DEVICES_MAX);
    ret_options->memory_bytes = (size_t)read_number("RESIDUUM_DOUBLE_MEMORY", 16LL << 30);
    ret_options->seed = (uint64_t)read_number("RESIDUUM_DOUBLE_SEED", 0);
    const char *cudnn = getenv("RESIDUUM_DOUBLE_CUDNN");
    ret_options->own_cudnn = cudnn != NULL && strcmp(cudnn, "own") == 0;
    read_fault(ret_options);
    read_profile(ret_options->profile, sizeof ret_options->profile);
}

/* The profiles are flat objects of numbers, arrays of numbers and one text. */
long long options_property(const struct options *options, const char *key, int index) {
    char quoted[96];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(options->profile, quoted);
    if (at == NULL)
        violation("the profile has no %s", key);
    at += strlen(quoted);
    at += strspn(at, " [");
    for (int i = 0; i < index; i++)
        at += strcspn(at, ",") + 1;
    return strtoll(at, NULL, 10);
}
