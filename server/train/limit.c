/* Limits of this process: see limit.h. */
#include "server/train/limit.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static rlim_t data_mapped(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%*s %*s %*s %*s %*s %llu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

void limit_memory(uint64_t bytes) {
    rlim_t data = data_mapped() + bytes;
    setrlimit(RLIMIT_DATA, &(struct rlimit){data, data});
}

void limit_processor(uint64_t seconds) {
    setrlimit(RLIMIT_CPU, &(struct rlimit){seconds, seconds});
}
