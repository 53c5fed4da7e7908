/* How the double tells of a broken rule: in a sentence, and by ending the process. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gpu/double/double.h"

static struct sigaction previous; /* what a trap did before; one for the process, as signals are */

_Noreturn void violation(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "double: %s\n", text);
    fflush(stderr);
    abort();
}

void *must_allocate(size_t bytes) {
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (memory == NULL)
        violation("no memory for the double itself (%zu bytes)", bytes);
    return memory;
}

/* Memory of the double traps for the host: then the process ends here. Every other trap goes where it went before. */
static void trapped(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    (void)signal_number;
    char place[256];
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    if (memory_is_device(address)) {
        memory_describe(address, place, sizeof place);
        violation("the host touched device memory: %s", place);
    }
    if (pinned_describe(address, place, sizeof place))
        violation("the host wrote pinned memory that a copy which is still queued reads: %s", place);
    sigaction(SIGSEGV, &previous, NULL);
}

void report_init(void) {
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, &previous);
}

void report_done(void) {
    sigaction(SIGSEGV, &previous, NULL);
}
