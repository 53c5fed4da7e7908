/* What a finished epoch and a finished job look like in text. Everything goes to standard output. */
#ifndef CLIENT_REPORT_H
#define CLIENT_REPORT_H

#include <jansson.h>

#include "client/term.h"

/* The heading of the lines of report_epoch_row, and one such line: aligned, 80 columns at most. Where the job has a validation
 * set (the heading looks at the first epoch), its loss and accuracy take the place of the learning rate. */
void report_epoch_heading(const struct term *term, const json_t *epoch);
void report_epoch_row(const json_t *epoch, int epochs);

/* The same on one line that explains itself, for logs and pipes. */
void report_epoch_line(const json_t *epoch, int epochs);

/* The confusion matrix of an epoch with class names (an array of strings; may be NULL): in full where it fits, else the most
 * frequent mistakes. */
void report_confusion(const struct term *term, const json_t *epoch, const json_t *names);

#endif
