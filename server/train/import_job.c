/* Imports one source under limits and in a sandbox: see import_job.h. */
#include "server/train/import_job.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "common/loop.h"
#include "common/sha256.h"
#include "server/train/emit.h"
#include "server/train/input.h"
#include "server/train/job.h"
#include "server/train/limit.h"
#include "server/train/say.h"
#include "server/train/stop.h"

enum { PROGRESS_MS = 1000, THREADS = 8, SECONDS_MORE = 60 };
#define MEMORY_BYTES (UINT64_C(3) << 30)
#define FILE_BYTES_MORE (UINT64_C(64) << 20) /* sheet and card */

struct importing {
    json_t *document; /* the daemon's line; owns the texts */
    const char *source, *out, *name;
    struct import_options options;
    struct import_limits limits;
    double test_fraction;
    json_int_t seed;
    struct emit emit;
    int64_t told_ms; /* when progress was last told */
    struct import_progress progress;
    const char *expected_sha256; /* of the archive; NULL: any */
    char archive_sha256[65];     /* "": the source is a directory */
    char entry[IMPORT_NAME_MAX + 1];
};

/* --- the daemon's line --- */

static int side(const json_t *value, int *ret_side) {
    json_int_t n = json_integer_value(value);
    *ret_side = (int)n;
    return json_is_integer(value) && n >= IMPORT_SIDE_MIN && n <= IMPORT_SIDE_MAX ? 0 : -1;
}

static int parse_size(const json_t *size, struct import_options *options, struct err *err) {
    if (json_is_null(size))
        return 0;
    bool pair = json_is_array(size) && json_array_size(size) == 2;
    if (side(pair ? json_array_get(size, 0) : size, &options->height) == 0 &&
        side(pair ? json_array_get(size, 1) : size, &options->width) == 0)
        return 0;
    return err_at(err, ERR_FIELD, "/options/size", "must be null, a side or [height, width], each of %d to %d", IMPORT_SIDE_MIN,
                  IMPORT_SIDE_MAX);
}

static int parse_fit(const char *fit, struct import_options *options, struct err *err) {
    static const char *const names[] = {[IMPORT_CROP] = "crop", [IMPORT_PAD] = "pad", [IMPORT_STRETCH] = "stretch"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], fit) == 0) {
            options->fit = (enum import_fit)i;
            return 0;
        }
    return err_at(err, ERR_FIELD, "/options/fit", "must be crop, pad or stretch");
}

static int parse_channels(const json_t *channels, struct import_options *options, struct err *err) {
    json_int_t n = json_integer_value(channels);
    options->channels = (int)n;
    if (json_is_null(channels) || (json_is_integer(channels) && (n == 1 || n == 3)))
        return 0;
    return err_at(err, ERR_FIELD, "/options/channels", "must be null, 1 or 3");
}

static int parse_options(struct importing *i, json_t *document, struct err *err) {
    json_t *size, *channels;
    const char *fit;
    int skip;
    json_error_t error;
    if (json_unpack_ex(document, &error, 0, "{s:o, s:s, s:o, s:F, s:I, s:b}", "size", &size, "fit", &fit, "channels", &channels,
                       "test_fraction", &i->test_fraction, "seed", &i->seed, "skip_damaged", &skip) != 0)
        return err_set(err, ERR_REQUEST, "the import's options are not as common/event.h says: %s", error.text);
    i->options.skip_damaged = skip != 0;
    if (!(i->test_fraction > 0 && i->test_fraction < 1))
        return err_at(err, ERR_FIELD, "/options/test_fraction", "is %g; it must lie between 0 and 1", i->test_fraction);
    if (parse_size(size, &i->options, err) != 0 || parse_fit(fit, &i->options, err) != 0)
        return -1;
    return parse_channels(channels, &i->options, err);
}

static int parse_limits(struct importing *i, json_t *document, struct err *err) {
    enum { LIMITS = 5 };
    json_int_t values[LIMITS];
    json_error_t error;
    if (json_unpack_ex(document, &error, 0, "{s:I, s:I, s:I, s:I, s:I}", "bytes", &values[0], "entries", &values[1], "ratio",
                       &values[2], "images", &values[3], "seconds", &values[4]) != 0)
        return err_set(err, ERR_REQUEST, "the import's limits are not as common/event.h says: %s", error.text);
    for (int n = 0; n < LIMITS; n++)
        if (values[n] < 1 || values[n] > INT64_C(1) << 48)
            return err_set(err, ERR_REQUEST, "a limit is %jd; 1 to 2^48 are possible", (intmax_t)values[n]);
    i->limits = (struct import_limits){.bytes = (uint64_t)values[0],
                                       .entries = (uint64_t)values[1],
                                       .ratio = (uint64_t)values[2],
                                       .images = (uint64_t)values[3],
                                       .seconds = (uint64_t)values[4]};
    if (i->limits.images > INT32_MAX || i->limits.seconds > INT32_MAX)
        return err_set(err, ERR_REQUEST, "the limits of images and seconds are at most %d", INT32_MAX);
    return 0;
}

static int parse(struct importing *i, struct err *err) {
    int protocol;
    json_t *options, *limits;
    json_error_t error;
    if (json_unpack_ex(i->document, &error, 0, "{s:i, s:s, s:s, s:s, s?s, s:o, s:o}", "protocol", &protocol, "source", &i->source,
                       "out", &i->out, "name", &i->name, "archive_sha256", &i->expected_sha256, "options", &options, "limits",
                       &limits) != 0)
        return err_set(err, ERR_REQUEST, "the import's line is not as common/event.h says: %s", error.text);
    if (protocol != EVENT_PROTOCOL)
        return err_set(err, ERR_REQUEST, "the import's line speaks protocol %d, this worker %d: install both from one version",
                       protocol, EVENT_PROTOCOL);
    if (i->source[0] != '/' || i->out[0] != '/')
        return err_set(err, ERR_REQUEST, "\"source\" and \"out\" must be absolute");
    if (parse_options(i, options, err) != 0)
        return -1;
    return parse_limits(i, limits, err);
}

/* --- what the daemon hears --- */

static void tell(struct importing *i, const char *phase) {
    const struct import_progress *p = &i->progress;
    json_t *total = p->total_bytes > 0 ? json_integer((json_int_t)p->total_bytes) : json_null();
    struct err err = {0};
    if (emit_line(&i->emit, "import",
                  json_pack("{s:s, s:I, s:I, s:I, s:o}", "phase", phase, "entries", (json_int_t)p->entries, "images",
                            (json_int_t)p->images, "bytes", (json_int_t)p->bytes, "total_bytes", total),
                  &err) != 0)
        say("%s", err.text); /* progress may be missed; what counts comes at the end */
    i->told_ms = clock_ms();
}

static bool must_stop(const struct importing *i) {
    return i->emit.closed || stop_asked(0);
}

static bool watch(void *arg, const struct import_progress *progress) {
    struct importing *i = arg;
    i->progress = *progress;
    if (clock_ms() - i->told_ms >= PROGRESS_MS)
        tell(i, "reading");
    return must_stop(i);
}

static enum worker_exit fail(struct importing *i, const struct err *failure) {
    struct err err = {0};
    say("failed: %s (%s)", failure->text, err_name(failure->code));
    emit_line(&i->emit, "error",
              json_pack("{s:s, s:s, s:s, s:s}", "code", err_name(failure->code), "text", failure->text, "pointer",
                        failure->pointer, "entry", i->entry),
              &err); /* without memory for that the exit code alone tells */
    return job_exit_of(failure->code);
}

/* --- the import --- */

/* Of a file; a directory has none. */
static int hash_source(struct importing *i, struct err *err) {
    struct stat st;
    int fd = open(i->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open %s", i->source);
    int rc = fstat(fd, &st);
    if (rc == 0 && S_ISREG(st.st_mode))
        rc = sha256_hex_file(fd, i->archive_sha256);
    int saved = errno;
    close(fd);
    if (rc != 0)
        return err_errno(err, ERR_IO, saved, "cannot read %s", i->source);
    if (i->expected_sha256 == NULL || strcmp(i->expected_sha256, i->archive_sha256) == 0)
        return 0;
    return err_set(err, ERR_DATA, "the archive arrived with SHA-256 %s; it was announced with %s: send it again",
                   i->archive_sha256, i->expected_sha256);
}

static int protect(const struct importing *i, struct err *err) {
    struct import_protection protection;
    mallopt(M_ARENA_MAX, 1); /* in arenas of their own the decoders' buffers meet at the same offsets of a page: a sixth slower */
    limit_memory(MEMORY_BYTES);
    limit_processor(i->limits.seconds * THREADS + SECONDS_MORE);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit fails instead */
    if (import_sandbox(i->source, i->out, i->limits.bytes + FILE_BYTES_MORE, &protection, err) != 0)
        return -1;
    say("sandbox: limits of memory, time, files; no new privileges%s; %s %d", protection.seccomp ? "; seccomp" : "; NO seccomp",
        protection.landlock > 0 ? "Landlock, version" : "NO Landlock:", protection.landlock);
    return 0;
}

static int store(struct importing *i, struct import_set *set, json_t **ret_card, struct err *err) {
    struct import_meta meta = {.name = i->name,
                               .out = i->out,
                               .test_fraction = i->test_fraction,
                               .seed = (uint64_t)i->seed,
                               .bytes_max = i->limits.bytes,
                               .archive_sha256 = i->archive_sha256[0] != '\0' ? i->archive_sha256 : NULL};
    tell(i, "writing");
    return import_write(set, &meta, ret_card, err);
}

static enum import_result finish(struct importing *i, json_t *steal_card, struct err *err) {
    if (must_stop(i)) {
        import_unwrite(i->out);
        json_decref(steal_card);
        return IMPORT_STOPPED;
    }
    int rc = emit_line(&i->emit, "imported", json_pack("{s:o}", "card", steal_card), err);
    if (rc != 0)
        import_unwrite(i->out);
    return rc == 0 ? IMPORT_DONE : IMPORT_FAILED;
}

static enum import_result run(struct importing *i, struct err *err) {
    struct import_request request = {i->source, i->out, i->options, i->limits, watch, i};
    struct import_set set;
    json_t *card = NULL;
    if (protect(i, err) != 0 || hash_source(i, err) != 0)
        return IMPORT_FAILED;
    enum import_result result = import_read(&request, &set, i->entry, err);
    if (result != IMPORT_DONE)
        return result;
    i->progress = (struct import_progress){set.entries, set.n, i->progress.total_bytes, i->progress.total_bytes};
    say("read %zu images of %d x %d x %d in %d classes (%s)", set.n, set.channels, set.height, set.width, set.classes,
        set.format);
    if (!must_stop(i))
        result = store(i, &set, &card, err) == 0 ? finish(i, card, err) : IMPORT_FAILED;
    else
        result = IMPORT_STOPPED;
    import_set_done(&set);
    return result;
}

static enum worker_exit end(struct importing *i, enum import_result result, const struct err *err) {
    switch (result) {
    case IMPORT_DONE:
        say("done");
        return WORKER_EXIT_DONE;
    case IMPORT_STOPPED:
        say("stopped");
        return WORKER_EXIT_STOPPED;
    case IMPORT_FAILED:
        break;
    }
    return fail(i, err);
}

static ssize_t read_document(struct importing *i, struct err *err) {
    char *line = malloc(EVENT_LINE_MAX);
    if (line == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the import's line");
    ssize_t size = input_line(line, EVENT_LINE_MAX);
    if (size > 0)
        i->document = json_parse(line, (size_t)size, err);
    else if (size == 0)
        err_set(err, ERR_REQUEST, "standard input holds no line of at most %d bytes with an import", EVENT_LINE_MAX);
    free(line);
    return size;
}

enum worker_exit import_job_run(int events_fd) {
    struct importing i = {.emit = {.fd = events_fd}};
    struct err err = {0};
    setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive turns names of other writings into UTF-8 by it */
    if (read_document(&i, &err) < 0 && err.code == ERR_NONE)
        return WORKER_EXIT_STOPPED;
    if (i.document == NULL || parse(&i, &err) != 0) {
        enum worker_exit code = fail(&i, &err);
        json_decref(i.document);
        return code == WORKER_EXIT_RETRY ? code : WORKER_EXIT_USAGE;
    }
    say("importing %s as \"%s\"", i.source, i.name);
    enum worker_exit code = end(&i, run(&i, &err), &err);
    json_decref(i.document);
    return code;
}
