/* Opens the double in place of the driver's libraries: server/backend/cudnn/load.c is not linked where this is. */
#include <stdio.h>
#include <string.h>

#include "tests/gpu/double/double.h"

struct state *state(void) {
    static struct state the;
    return &the;
}

/* A row of the table that no file has filled is a function that the double lacks. */
static void check_filled(const struct gpu_driver *driver) {
#define FILLED(function)          \
    if (driver->function == NULL) \
        violation("the double has no %s", #function);
    CUDA_FUNCTIONS(FILLED)
    CUDNN_FUNCTIONS(FILLED)
#undef FILLED
}

static void fill(struct gpu_driver *driver) {
    device_fill(driver);
    memory_fill(driver);
    pinned_fill(driver);
    stream_fill(driver);
    event_fill(driver);
    copy_fill(driver);
    launch_fill(driver);
    graph_fill(driver);
    descriptor_fill(driver);
    handle_fill(driver);
}

int gpu_driver_open(struct gpu_driver *ret_driver, struct err *err) {
    (void)err;
    if (state()->opened++ == 0) {
        options_read(&state()->options);
        state()->current = -1;
        state()->random = state()->options.seed;
        memory_init();
        report_init();
        if (!state()->options.own_cudnn)
            real_open(&state()->real);
    }
    struct gpu_driver driver = {0};
    fill(&driver);
    check_filled(&driver);
    *ret_driver = driver;
    return 0;
}

/* The last one to close finds what was left behind. */
void gpu_driver_close(struct gpu_driver *driver) {
    bool open = driver->cuInit != NULL;
    *driver = (struct gpu_driver){0};
    if (!open || --state()->opened > 0)
        return;
    if (state()->fault.unseen != CUDA_SUCCESS)
        violation("nobody has looked at the error %d of %s", (int)state()->fault.unseen, state()->fault.unseen_of);
    stream_run_all();
    objects_done();
    memory_done();
    pinned_done();
    device_done();
    report_done();
    memset(state(), 0, sizeof *state());
}
