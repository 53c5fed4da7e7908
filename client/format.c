/* Numbers as people read them: see format.h. */
#include "client/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS_MAX = 24 };

const char *format_count(char ret_text[FORMAT_MAX], int64_t value) {
    char digits[DIGITS_MAX];
    int n = snprintf(digits, sizeof digits, "%llu", value < 0 ? 0ULL - (unsigned long long)value : (unsigned long long)value);
    char *to = ret_text;
    if (value < 0)
        *to++ = '-';
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return ret_text;
}

/* value with the largest unit that leaves at least 1. */
static const char *scaled(char ret_text[FORMAT_MAX], double value, double step, const char *const *units, int units_n) {
    int unit = 0;
    for (; unit + 1 < units_n && fabs(value) >= step; unit++)
        value /= step;
    snprintf(ret_text, FORMAT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return ret_text;
}

const char *format_bytes(char ret_text[FORMAT_MAX], double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    return scaled(ret_text, bytes, 1024, units, 5);
}

const char *format_flops(char ret_text[FORMAT_MAX], double flops) {
    static const char *const units[] = {"", "k", "M", "G", "T"};
    scaled(ret_text, flops, 1000, units, 5);
    size_t n = strlen(ret_text);
    if (n > 0 && ret_text[n - 1] == ' ')
        ret_text[n - 1] = '\0';
    return ret_text;
}

const char *format_share(char ret_text[FORMAT_MAX], double fraction) {
    snprintf(ret_text, FORMAT_MAX, isfinite(fraction) ? "%.2f %%" : "-", 100 * fraction);
    return ret_text;
}

const char *format_loss(char ret_text[FORMAT_MAX], double loss) {
    snprintf(ret_text, FORMAT_MAX, !isfinite(loss) ? "-" : fabs(loss) < 10000 ? "%.4f" : "%.3e", loss);
    return ret_text;
}

const char *format_speed(char ret_text[FORMAT_MAX], double per_second) {
    if (isfinite(per_second))
        snprintf(ret_text, FORMAT_MAX, fabs(per_second) < 1e9 ? "%.0f images/s" : "%.3e images/s", per_second);
    else
        snprintf(ret_text, FORMAT_MAX, "- images/s");
    return ret_text;
}

/* Seconds beyond a century are as good as not known; the cast to a whole number is safe below. */
static int known(double seconds) {
    return isfinite(seconds) && seconds >= 0 && seconds < 3.2e9;
}

const char *format_seconds(char ret_text[FORMAT_MAX], double seconds) {
    if (!known(seconds)) {
        snprintf(ret_text, FORMAT_MAX, "-");
        return ret_text;
    }
    long long whole = llround(seconds);
    if (seconds < 99.95)
        snprintf(ret_text, FORMAT_MAX, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(ret_text, FORMAT_MAX, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(ret_text, FORMAT_MAX, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
    return ret_text;
}

const char *format_clock(char ret_text[FORMAT_MAX], double seconds) {
    long long whole = known(seconds) ? llround(seconds) : -1;
    if (whole < 0)
        snprintf(ret_text, FORMAT_MAX, "-");
    else if (whole < 3600)
        snprintf(ret_text, FORMAT_MAX, "%lld:%02lld", whole / 60, whole % 60);
    else
        snprintf(ret_text, FORMAT_MAX, "%lld:%02lld:%02lld", whole / 3600, whole % 3600 / 60, whole % 60);
    return ret_text;
}

const char *format_time(char ret_text[FORMAT_MAX], const char *rfc3339) {
    if (strlen(rfc3339) < 19)
        snprintf(ret_text, FORMAT_MAX, "%s", rfc3339[0] == '\0' ? "-" : rfc3339);
    else
        snprintf(ret_text, FORMAT_MAX, "%.10s %.8sZ", rfc3339, rfc3339 + 11);
    return ret_text;
}
