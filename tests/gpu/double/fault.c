/* What every call goes through: errors that the test ordered, errors that nobody looks at, and what a capture forbids. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/gpu/double/double.h"

/* Whether the fault happens now: it does once in a process, or, when a file orders it, once in all of them. */
static bool happens(enum fault_kind kind) {
    if (state()->options.fault.kind != kind || state()->fault.happened)
        return false;
    const char *once = state()->options.fault.once;
    if (once[0] != '\0') {
        int file = open(once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (file < 0)
            return false;
        close(file);
    }
    state()->fault.happened = true;
    return true;
}

bool fault_happened(enum fault_kind kind) {
    const char *once = state()->options.fault.once;
    return state()->options.fault.kind == kind && (state()->fault.happened || (once[0] != '\0' && access(once, F_OK) == 0));
}

bool fault_allocation(void) {
    return ++state()->fault.allocations == state()->options.fault.at && happens(FAULT_OOM);
}

/* Such a device refuses every capture, not only the first. */
bool fault_capture(void) {
    return happens(FAULT_CAPTURE) || fault_happened(FAULT_CAPTURE);
}

/* Another program has the device for itself. */
bool fault_context(void) {
    return happens(FAULT_BUSY);
}

void fault_operation(void) {
    static const enum fault_kind sticky[] = {FAULT_STICKY, FAULT_ECC, FAULT_LOST, FAULT_REMAP};
    if (++state()->fault.operations != state()->options.fault.at)
        return;
    for (size_t i = 0; i < sizeof sticky / sizeof sticky[0]; i++)
        if (happens(sticky[i]))
            state()->fault.sticky = (CUresult)state()->options.fault.code;
    /* A kernel that never ends; whoever watches has to end the process. */
    if (happens(FAULT_HANG))
        for (;;)
            pause();
}

void fault_result(const struct op *op) {
    const char *of = state()->options.fault.of;
    if (of[0] == '\0' || strstr(op->name, of) == NULL || ++state()->fault.results != state()->options.fault.at ||
        !happens(FAULT_WRONG))
        return;
    for (int i = 0; i < op->accesses_n; i++) {
        const struct access *access = &op->accesses[i];
        unsigned char *at = memory_shadow(access->at);
        for (size_t b = access->element; access->element > 0 && b <= access->bytes; b += access->element)
            at[b - 1] ^= 0x80;
    }
}

CUresult call_begin(const char *function, enum call_kind kind) {
    if (state()->opened == 0)
        violation("%s is called before the driver was opened, or after it was closed", function);
    if (state()->fault.unseen != CUDA_SUCCESS && kind != CALL_CLEANUP)
        violation("%s is called, but nobody has looked at the error %d of %s", function, (int)state()->fault.unseen,
                  state()->fault.unseen_of);
    if (!state()->initialized)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (state()->fault.sticky != CUDA_SUCCESS)
        return state()->fault.sticky;
    if (state()->current < 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    return kind != CALL_PLAIN && capture_refuses() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

/* What a failed capture answers needs no look: it is the sign to go without. */
CUresult call_end(const char *function, CUresult result) {
    if (result != CUDA_SUCCESS &&
        !(result >= CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && result <= CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)) {
        state()->fault.unseen = result;
        state()->fault.unseen_of = function;
    }
    return result;
}

void call_looked_at(CUresult result) {
    if (result == state()->fault.unseen)
        state()->fault.unseen = CUDA_SUCCESS;
}
