/* Parser of server-sent events: see sse.h. */
#include "client/sse.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/buffer.h"

enum { SSE_RETRY_MAX_MS = 24 * 3600 * 1000 };

struct sse {
    sse_event_fn *fn;
    void *arg;
    struct buffer line, data, type;
    struct buffer id;      /* of the event being read, if id_set */
    struct buffer last_id; /* of the last finished event; survives a restart */
    bool id_set;
    int64_t retry_ms;
    bool first_line; /* may begin with a byte order mark */
    bool after_cr;   /* a line feed now belongs to the line that is already over */
};

struct sse *sse_new(sse_event_fn *fn, void *arg) {
    struct sse *sse = calloc(1, sizeof *sse);
    if (sse == NULL)
        return NULL;
    sse->fn = fn;
    sse->arg = arg;
    sse->retry_ms = -1;
    sse->first_line = true;
    return sse;
}

void sse_free(struct sse *sse) {
    if (sse == NULL)
        return;
    buffer_done(&sse->line);
    buffer_done(&sse->data);
    buffer_done(&sse->type);
    buffer_done(&sse->id);
    buffer_done(&sse->last_id);
    free(sse);
}

static int add(struct buffer *buffer, const char *bytes, size_t n, size_t limit, const char *what, struct err *err) {
    switch (buffer_add(buffer, bytes, n, limit)) {
    case BUFFER_OK:
        return 0;
    case BUFFER_MEMORY:
        return err_set(err, ERR_MEMORY, "out of memory while reading the event stream");
    case BUFFER_LIMIT:
        break;
    }
    return err_set(err, ERR_PROTOCOL, "the event stream holds %s of more than %zu bytes, which a residuum server never sends",
                   what, limit);
}

static int replace(struct buffer *buffer, const char *bytes, size_t n, struct err *err) {
    buffer_clear(buffer);
    return add(buffer, bytes, n, SSE_LINE_MAX, "a line", err);
}

/* An empty line: the event is finished, its id becomes the last one even if there was no data. */
static int dispatch(struct sse *sse) {
    int stop = 0;
    if (sse->id_set) {
        struct buffer old = sse->last_id;
        sse->last_id = sse->id;
        sse->id = old;
        sse->id_set = false;
    }
    if (sse->data.size > 0) {
        sse->data.data[--sse->data.size] = '\0'; /* the newline behind the last data line */
        struct sse_event event = {.type = sse->type.size > 0 ? sse->type.data : "message",
                                  .data = sse->data.data,
                                  .data_size = sse->data.size,
                                  .id = buffer_text(&sse->last_id)};
        stop = sse->fn(sse->arg, &event) != 0;
    }
    buffer_clear(&sse->data);
    buffer_clear(&sse->type);
    return stop;
}

static int take_data(struct sse *sse, const char *value, size_t n, struct err *err) {
    if (add(&sse->data, value, n, SSE_DATA_MAX, "an event", err) < 0)
        return -1;
    return add(&sse->data, "\n", 1, SSE_DATA_MAX, "an event", err);
}

static int take_id(struct sse *sse, const char *value, size_t n, struct err *err) {
    if (replace(&sse->id, value, n, err) < 0)
        return -1;
    sse->id_set = true;
    return 0;
}

static void take_retry(struct sse *sse, const char *value, size_t n) {
    int64_t ms = 0;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9')
            return;
        ms = ms * 10 + (value[i] - '0');
        if (ms > SSE_RETRY_MAX_MS)
            ms = SSE_RETRY_MAX_MS;
    }
    if (n > 0)
        sse->retry_ms = ms;
}

static bool is(const char *name, size_t n, const char *field) {
    return n == strlen(field) && memcmp(name, field, n) == 0;
}

static int take_field(struct sse *sse, const char *name, size_t name_n, const char *value, size_t n, struct err *err) {
    if (is(name, name_n, "data"))
        return take_data(sse, value, n, err);
    if (is(name, name_n, "event"))
        return replace(&sse->type, value, n, err);
    if (is(name, name_n, "id") && memchr(value, '\0', n) == NULL)
        return take_id(sse, value, n, err);
    if (is(name, name_n, "retry"))
        take_retry(sse, value, n);
    return 0; /* unknown fields are ignored */
}

static int take_line(struct sse *sse, const char *line, size_t n, struct err *err) {
    if (sse->first_line && n >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0) {
        line += 3;
        n -= 3;
    }
    sse->first_line = false;
    if (n == 0)
        return dispatch(sse);
    const char *colon = memchr(line, ':', n);
    if (colon == line)
        return 0; /* a comment */
    if (colon == NULL)
        return take_field(sse, line, n, "", 0, err);
    const char *value = colon + 1;
    size_t value_n = n - (size_t)(value - line);
    if (value_n > 0 && value[0] == ' ') {
        value++;
        value_n--;
    }
    return take_field(sse, line, (size_t)(colon - line), value, value_n, err);
}

static size_t line_part(const char *bytes, size_t n) {
    size_t i = 0;
    while (i < n && bytes[i] != '\n' && bytes[i] != '\r')
        i++;
    return i;
}

int sse_feed(struct sse *sse, const char *bytes, size_t n, struct err *err) {
    while (n > 0) {
        if (sse->after_cr && bytes[0] == '\n') {
            sse->after_cr = false;
            bytes++;
            n--;
            continue;
        }
        sse->after_cr = false;
        size_t part = line_part(bytes, n);
        if (add(&sse->line, bytes, part, SSE_LINE_MAX, "a line", err) < 0)
            return -1;
        if (part == n)
            return 0;
        sse->after_cr = bytes[part] == '\r';
        int result = take_line(sse, buffer_text(&sse->line), sse->line.size, err);
        if (result != 0)
            return result;
        buffer_clear(&sse->line);
        bytes += part + 1;
        n -= part + 1;
    }
    return 0;
}

void sse_restart(struct sse *sse) {
    buffer_clear(&sse->line);
    buffer_clear(&sse->data);
    buffer_clear(&sse->type);
    sse->id_set = false; /* of an unfinished event, which will come again */
    sse->first_line = true;
    sse->after_cr = false;
}

const char *sse_last_id(const struct sse *sse) {
    return buffer_text(&sse->last_id);
}

int64_t sse_retry_ms(const struct sse *sse) {
    return sse->retry_ms;
}
