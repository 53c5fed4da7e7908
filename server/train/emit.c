/* Writes event lines: see emit.h. */
#include "server/train/emit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "server/train/say.h"

static const char *const type_names[] = {
#define EVENT_NAME(name, text) [name] = text,
    EVENT_TYPES(EVENT_NAME)
#undef EVENT_NAME
};

static int write_all(struct emit *emit, const char *text, size_t size, struct err *err) {
    while (size > 0) {
        ssize_t n = write(emit->fd, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE) {
            emit->closed = true;
            return 0;
        }
        if (n < 0)
            return err_errno(err, ERR_IO, errno, "cannot write an event to standard output");
        text += n;
        size -= (size_t)n;
    }
    return 0;
}

static int write_line(struct emit *emit, const char *type, char *text, struct err *err) {
    size_t size = strlen(text);
    if (size + 1 > EVENT_LINE_MAX)
        return err_set(err, ERR_INTERNAL, "an event \"%s\" has %zu bytes; %d are allowed", type, size, EVENT_LINE_MAX);
    emit->seq++;
    text[size] = '\n'; /* in the place of the NUL, so that line and end go out in one write */
    return write_all(emit, text, size + 1, err);
}

int emit_line(struct emit *emit, const char *type, json_t *fields, struct err *err) {
    json_t *line = fields == NULL ? NULL : json_pack("{s:s, s:I}", "type", type, "seq", emit->seq + 1);
    char *text = line == NULL || json_object_update(line, fields) != 0 ? NULL : json_text(line);
    json_decref(line);
    json_decref(fields);
    if (text == NULL)
        return err_set(err, ERR_MEMORY, "out of memory while writing an event \"%s\"", type);
    int rc = emit->closed ? 0 : write_line(emit, type, text, err);
    free(text);
    return rc;
}

int emit_event(struct emit *emit, enum event_type type, json_t *fields, struct err *err) {
    return emit_line(emit, type_names[type], fields, err);
}

void emit_error(struct emit *emit, const struct err *failure) {
    say("failed: %s (%s)", failure->text, err_name(failure->code));
    emit_event(emit, EVENT_ERROR,
               json_pack("{s:s, s:s, s:s}", "code", err_name(failure->code), "text", failure->text, "pointer", failure->pointer),
               NULL);
}
