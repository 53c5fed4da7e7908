/* Tells the service manager about our state (sd_notify(3)), without its library. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* Sends a message to $NOTIFY_SOCKET, if there is one. Best effort. */
void notify_send(const char *message);

#endif
