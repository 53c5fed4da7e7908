/* Ctrl-C as a flag, for commands that have something to say before they end. */
#ifndef CLIENT_INTERRUPT_H
#define CLIENT_INTERRUPT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGINT, SIGTERM and SIGHUP raise the flag instead of ending the program. */
void interrupt_catch(void);
bool interrupt_seen(void);

/* Waits; returns at once, true, when the flag is or gets raised. */
bool interrupt_wait_ms(int64_t ms);

#endif
