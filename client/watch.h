/* Following one job to its end. */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

#include "client/command.h"

/* Follows a job and prints what happens; the exit code: 0 succeeded, 1 failed or cancelled, or what went wrong with watching. */
int watch_job(const struct client *client, const char *id);

#endif
