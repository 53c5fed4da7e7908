/* What a refusing answer says, for people, and the exit code that goes with it. */
#ifndef CLIENT_PROBLEM_H
#define CLIENT_PROBLEM_H

#include <stdio.h>

#include "client/http.h"

/* Prints a problem document (RFC 9457) as text: title and status, detail, each wrong field with its pointer, the request id. An
 * answer that is none is described as well as it can be. */
void problem_print(FILE *file, const struct http_response *response);

/* The exit code for an answer that is not what was asked for, never 0: the row of the error table that the problem names, else by
 * its status. */
int problem_exit(const struct http_response *response);

#endif
