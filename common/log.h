/* One line per event on standard error, logfmt: time, level, event, then pairs. For the top of a program and for what it watches;
 * lower floors report failures by struct err instead. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

/* Writes `ts=... level=LEVEL event=EVENT key=value ...`. After event come pairs of strings, key then value, ended by NULL; a NULL
 * value is left out. Values are quoted where needed and control characters escaped, so that no value can forge a line. */
void log_line(const char *level, const char *event, ...) __attribute__((sentinel));

/* RFC 3339 with microseconds, UTC, as in the API: "2026-11-24T06:50:28.123456Z". */
enum { LOG_TIME_SIZE = 40 };
void log_time(long long unix_us, char ret_text[LOG_TIME_SIZE]);

#endif
