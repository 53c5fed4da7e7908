/* Numbers as people read them, into the caller's buffer; each returns that buffer. */
#ifndef CLIENT_FORMAT_H
#define CLIENT_FORMAT_H

#include <stdint.h>

enum { FORMAT_MAX = 32 };

const char *format_count(char ret_text[FORMAT_MAX], int64_t value);      /* "272,474" */
const char *format_bytes(char ret_text[FORMAT_MAX], double bytes);       /* "512 B", "12.3 MiB" */
const char *format_flops(char ret_text[FORMAT_MAX], double flops);       /* "81.6 M" */
const char *format_share(char ret_text[FORMAT_MAX], double fraction);    /* "92.03 %"; "-" when not finite */
const char *format_loss(char ret_text[FORMAT_MAX], double loss);         /* "0.3121"; "-" when not finite */
const char *format_speed(char ret_text[FORMAT_MAX], double per_second);  /* "1920 images/s"; "- images/s" when not finite */
const char *format_seconds(char ret_text[FORMAT_MAX], double seconds);   /* "31.2 s", "2 min 38 s", "3 h 05 min" */
const char *format_clock(char ret_text[FORMAT_MAX], double seconds);     /* "1:32", "1:02:05"; "-" when not known */
const char *format_time(char ret_text[FORMAT_MAX], const char *rfc3339); /* "2026-11-24 06:50:28Z"; "-" for "" */

#endif
