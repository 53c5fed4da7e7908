/* Watches standard input and signals: see stop.h. */
#include "server/train/stop.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t signalled;

static void on_signal(int signal_number) {
    (void)signal_number;
    signalled = 1;
}

void stop_init(void) {
    struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&stop.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* After the job's line nothing more is expected: what comes is thrown away, its end counts. */
static bool input_ended(void) {
    char rest[256];
    return read(STDIN_FILENO, rest, sizeof rest) == 0;
}

bool stop_asked(int wait_ms) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (signalled)
        return true;
    if (poll(&input, 1, wait_ms) <= 0)
        return signalled;
    if (input.revents & POLLIN)
        return input_ended() || signalled;
    return true; /* hung up, or closed from the start */
}
