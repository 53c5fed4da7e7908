/* Programs: lists of launches with all their numbers, put into the stream as often as wanted. See core.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/backend/cudnn/core.h"

enum {
    PARAMS_ALIGN = 16,
    BLOCKS_MAX = 160 * 8 /* of KERNEL_THREADS: what the largest devices of today run at a time (160 processors, 2048 threads) */
};

/* Makes room for one more item of an array that grows by doubling. */
static int reserve(void **items, int n, int *room, size_t size, struct err *err) {
    if (n < *room)
        return 0;
    int wider = *room == 0 ? 64 : 2 * *room;
    void *grown = realloc(*items, (size_t)wider * size);
    if (grown == NULL)
        return err_set(err, ERR_MEMORY, "No memory for a step of %d launches", wider);
    *items = grown;
    *room = wider;
    return 0;
}

static int append(struct program *program, const struct program_step *step, struct err *err) {
    if (reserve((void **)&program->steps, program->steps_n, &program->steps_room, sizeof *program->steps, err) < 0)
        return -1;
    program->steps[program->steps_n++] = *step;
    return 0;
}

/* Copies a kernel's struct to program->params. */
static int copy_params(struct program *program, const void *params, size_t size, size_t *ret_at, struct err *err) {
    size_t at = (program->params_size + PARAMS_ALIGN - 1) / PARAMS_ALIGN * PARAMS_ALIGN;
    if (at + size > program->params_room) {
        size_t wider = 2 * (at + size);
        unsigned char *grown = realloc(program->params, wider);
        if (grown == NULL)
            return err_set(err, ERR_MEMORY, "No memory for a step with %zu bytes of parameters", wider);
        program->params = grown;
        program->params_room = wider;
    }
    memcpy(program->params + at, params, size);
    program->params_size = at + size;
    *ret_at = at;
    return 0;
}

int program_kernel(struct program *program, enum kernel kernel, const void *params, size_t size, uint32_t blocks_x,
                   uint32_t blocks_y, struct err *err) {
    struct program_step step = {.kind = PROGRAM_KERNEL, .kernel = kernel, .blocks_x = blocks_x, .blocks_y = blocks_y};
    return copy_params(program, params, size, &step.params_at, err) < 0 ? -1 : append(program, &step, err);
}

int program_conv(struct program *program, struct conv_plan *conv, struct err *err) {
    return append(program, &(struct program_step){.kind = PROGRAM_CONV, .conv = conv}, err);
}

int program_norm(struct program *program, struct norm_plan *norm, struct err *err) {
    return append(program, &(struct program_step){.kind = PROGRAM_NORM, .norm = norm}, err);
}

const char *program_symbol(enum kernel kernel) {
    static const char *const symbols[KERNELS_N] = {
#define KERNEL_SYMBOL(name, addresses) [KERNEL_##name] = "residuum_" #name,
        KERNELS(KERNEL_SYMBOL)
#undef KERNEL_SYMBOL
    };
    return symbols[kernel];
}

static int launch(const struct program *program, const struct program_step *step, struct backend *backend, struct err *err) {
    void *params[] = {program->params + step->params_at};
    CUresult result = backend->driver.cuLaunchKernel(backend->kernels[step->kernel], step->blocks_x, step->blocks_y, 1,
                                                     KERNEL_THREADS, 1, 1, 0, backend->stream, params, NULL);
    if (result == CUDA_SUCCESS)
        return 0;
    char what[64];
    snprintf(what, sizeof what, "run the kernel %s", program_symbol(step->kernel));
    return core_check(backend, result, what, err);
}

/* What cuDNN answers is looked at here, as its plans do not know the device's health. */
static int blame(struct backend *backend, int failed, struct err *err) {
    if (failed != 0 && err != NULL)
        nvml_blame(&backend->nvml, err);
    return failed;
}

static int run_step(const struct program *program, const struct program_step *step, struct backend *backend, struct err *err) {
    switch (step->kind) {
    case PROGRAM_KERNEL:
        return launch(program, step, backend, err);
    case PROGRAM_CONV:
        return blame(backend, conv_plan_run(step->conv, backend->handle, err), err);
    case PROGRAM_NORM:
        return blame(backend, norm_plan_run(step->norm, backend->handle, err), err);
    }
    return 0;
}

int program_run(const struct program *program, struct backend *backend, struct err *err) {
    for (int i = 0; i < program->steps_n; i++)
        if (run_step(program, &program->steps[i], backend, err) != 0)
            return -1;
    return 0;
}

void program_done(struct program *program) {
    free(program->steps);
    free(program->params);
    *program = (struct program){0};
}

uint32_t program_blocks(int64_t blocks) {
    return (uint32_t)(blocks < 1 ? 1 : blocks > BLOCKS_MAX ? BLOCKS_MAX : blocks);
}
