/* Ctrl-C as a flag: see interrupt.h. */
#include "client/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>

#include "common/loop.h"

enum { SLICE_MS = 100 }; /* how late a signal between check and wait may be noticed */

static volatile sig_atomic_t seen;

static void on_signal(int number) {
    (void)number;
    seen = 1;
}

void interrupt_catch(void) {
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a wait ends */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

bool interrupt_seen(void) {
    return seen != 0;
}

bool interrupt_wait_ms(int64_t ms) {
    int64_t end = clock_ms() + ms;
    for (int64_t left = ms; left > 0 && !interrupt_seen(); left = end - clock_ms())
        poll(NULL, 0, left < SLICE_MS ? (int)left : SLICE_MS);
    return interrupt_seen();
}
