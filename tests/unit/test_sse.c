/* Tests of the event stream parser: vectors cut in every way, limits, failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/sse.h"

/* --- failing allocations: the linker sends malloc's family here --- */

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static int allocations_left = -1; /* -1: all succeed */

static bool allocation_fails(void) {
    if (allocations_left < 0)
        return false;
    return allocations_left-- == 0;
}

void *__wrap_calloc(size_t n, size_t size) {
    return allocation_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return allocation_fails() ? NULL : __real_realloc(old, size);
}

/* --- vectors --- */

#define TEXT(literal) literal, sizeof literal - 1

/* expected: each event as "type|data|id;" with newlines in data as "/"; then last id and retry at the end. */
struct vector {
    const char *why, *input;
    size_t size;
    const char *expected, *last_id;
    int64_t retry_ms;
};

static const struct vector vectors[] = {
    {"one event", TEXT("data: a\n\n"), "message|a|;", "", -1},
    {"as residuumd sends it", TEXT(": ok\n\nretry: 3000\n\nid: 17\nevent: epoch\ndata: {\"x\":1}\n\n"), "epoch|{\"x\":1}|17;",
     "17", 3000},
    {"CR", TEXT("id: 1\rdata: a\r\rdata: b\r\r"), "message|a|1;message|b|1;", "1", -1},
    {"CRLF", TEXT("id: 1\r\ndata: a\r\n\r\ndata: b\r\n\r\n"), "message|a|1;message|b|1;", "1", -1},
    {"mixed ends", TEXT("data: a\r\ndata: b\n\rdata: c\r\r\n\n"), "message|a/b|;message|c|;", "", -1},
    {"byte order mark",
     TEXT("\xEF\xBB\xBF"
          "data: a\n\n"),
     "message|a|;", "", -1},
    {"a second mark is text",
     TEXT("\xEF\xBB\xBF\xEF\xBB\xBF"
          "data: a\n\n"),
     "", "", -1},
    {"a mark later is text",
     TEXT("data: a\n\n\xEF\xBB\xBF"
          "data: b\n\n"),
     "message|a|;", "", -1},
    {"one optional space", TEXT("data:a\ndata: b\ndata:  c\n\n"), "message|a/b/ c|;", "", -1},
    {"a tab is no space", TEXT("data:\ta\n\n"), "message|\ta|;", "", -1},
    {"empty data lines", TEXT("data\n\ndata:\ndata\n\n"), "message||;message|/|;", "", -1},
    {"no data, no event", TEXT("event: epoch\n\ndata: a\n\n"), "message|a|;", "", -1},
    {"no data, but the id counts", TEXT("id: 5\n\n"), "", "5", -1},
    {"id of an unfinished event", TEXT("id: 5\ndata: a\n\nid: 6\ndata: b\n"), "message|a|5;", "5", -1},
    {"unfinished line", TEXT("data: a\n\ndata: b\n\nda"), "message|a|;message|b|;", "", -1},
    {"id with NUL",
     TEXT("id: 5\n\nid: 6\0"
          "7\ndata: a\n\n"),
     "message|a|5;", "5", -1},
    {"empty id", TEXT("id: 5\n\nid\ndata: a\n\n"), "message|a|;", "", -1},
    {"comments and unknown fields", TEXT(":\n: data: x\nfoo: bar\nfoo\n data: x\ndata: a\n\n"), "message|a|;", "", -1},
    {"names are exact", TEXT("Data: x\ndatas: x\ndat: x\ndata: a\n\n"), "message|a|;", "", -1},
    {"retry digits only", TEXT("retry: 250\nretry: 25a\nretry: -1\nretry:\nretry: 1 \n\n"), "", "", 250},
    {"retry is bounded", TEXT("retry: 99999999999999999999999999\n"), "", "", 86400000},
    {"the last event name wins", TEXT("event: a\nevent: b\ndata: x\n\n"), "b|x|;", "", -1},
    {"a colon in the value", TEXT("data: a:b: c\n\n"), "message|a:b: c|;", "", -1},
    {"nothing", TEXT(""), "", "", -1},
    {"blank lines only", TEXT("\n\r\r\n\n"), "", "", -1},
};
enum { VECTORS_N = sizeof vectors / sizeof vectors[0] };

struct heard {
    char text[4096];
    size_t used;
    int stop_after; /* events until the callback ends it; 0: never */
    int events;
};

static int hear(void *arg, const struct sse_event *event) {
    struct heard *heard = arg;
    assert_int_equal(strlen(event->data), event->data_size);
    heard->used += (size_t)snprintf(heard->text + heard->used, sizeof heard->text - heard->used, "%s|", event->type);
    for (const char *c = event->data; *c != '\0'; c++)
        heard->text[heard->used++] = *c == '\n' ? '/' : *c;
    heard->used += (size_t)snprintf(heard->text + heard->used, sizeof heard->text - heard->used, "|%s;", event->id);
    return ++heard->events == heard->stop_after;
}

static void check(const struct vector *vector, const struct heard *heard, const struct sse *sse) {
    if (strcmp(heard->text, vector->expected) != 0 || strcmp(sse_last_id(sse), vector->last_id) != 0 ||
        sse_retry_ms(sse) != vector->retry_ms)
        fail_msg("%s: heard \"%s\", last id \"%s\", retry %lld; expected \"%s\", \"%s\", %lld", vector->why, heard->text,
                 sse_last_id(sse), (long long)sse_retry_ms(sse), vector->expected, vector->last_id, (long long)vector->retry_ms);
}

/* Feeds a vector in pieces of the sizes that next(arg) gives. */
static void feed_in_pieces(const struct vector *vector, size_t (*next)(unsigned *), unsigned *arg) {
    struct heard heard = {0};
    struct err err = {0};
    struct sse *sse = sse_new(hear, &heard);
    for (size_t at = 0, n; at < vector->size; at += n) {
        n = next(arg);
        if (n > vector->size - at)
            n = vector->size - at;
        char *piece = malloc(n == 0 ? 1 : n); /* exactly as large, so that a sanitizer sees a read behind it */
        memcpy(piece, vector->input + at, n);
        assert_int_equal(sse_feed(sse, piece, n, &err), 0);
        free(piece);
    }
    check(vector, &heard, sse);
    sse_free(sse);
}

static size_t whole(unsigned *arg) {
    (void)arg;
    return SIZE_MAX;
}

static size_t one_byte(unsigned *arg) {
    (void)arg;
    return 1;
}

static size_t random_size(unsigned *seed) {
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) % 7; /* 0 as well: an empty read is nothing */
}

static void vectors_whole(void **state) {
    (void)state;
    for (int i = 0; i < VECTORS_N; i++)
        feed_in_pieces(&vectors[i], whole, NULL);
}

static void vectors_byte_by_byte(void **state) {
    (void)state;
    for (int i = 0; i < VECTORS_N; i++)
        feed_in_pieces(&vectors[i], one_byte, NULL);
}

static void vectors_in_random_pieces(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++)
        for (int i = 0; i < VECTORS_N; i++)
            feed_in_pieces(&vectors[i], random_size, &(unsigned){seed * 31 + (unsigned)i});
}

/* --- restarts, ends and limits --- */

static void restart_drops_what_is_unfinished(void **state) {
    (void)state;
    struct heard heard = {0};
    struct err err = {0};
    struct sse *sse = sse_new(hear, &heard);
    assert_int_equal(sse_feed(sse, TEXT("retry: 10\nid: 1\ndata: a\n\nid: 2\nevent: x\ndata: b\nda"), &err), 0);
    sse_restart(sse);
    assert_string_equal(sse_last_id(sse), "1");
    assert_int_equal(sse_retry_ms(sse), 10);
    assert_int_equal(sse_feed(sse,
                              TEXT("\xEF\xBB\xBF"
                                   "data: c\n\n"),
                              &err),
                     0);
    assert_string_equal(heard.text, "message|a|1;message|c|1;");
    sse_free(sse);
}

static void restart_forgets_a_carriage_return(void **state) {
    (void)state;
    struct heard heard = {0};
    struct err err = {0};
    struct sse *sse = sse_new(hear, &heard);
    assert_int_equal(sse_feed(sse, TEXT("data: a\r\r"), &err), 0);
    sse_restart(sse);
    /* The line feed is a first line of its own, so that the mark behind it is text. */
    assert_int_equal(sse_feed(sse,
                              TEXT("\n\xEF\xBB\xBF"
                                   "data: b\n\n"),
                              &err),
                     0);
    assert_string_equal(heard.text, "message|a|;");
    sse_free(sse);
}

static void callback_ends_the_feeding(void **state) {
    (void)state;
    struct heard heard = {.stop_after = 2};
    struct err err = {0};
    struct sse *sse = sse_new(hear, &heard);
    assert_int_equal(sse_feed(sse, TEXT("data: a\n\ndata: b\n\ndata: c\n\n"), &err), 1);
    assert_string_equal(heard.text, "message|a|;message|b|;");
    assert_int_equal(err.code, ERR_NONE);
    sse_free(sse);
}

/* Feeds a line of n bytes besides its end, in pieces. */
static int feed_long_line(const char *start, size_t n, struct err *err) {
    static char piece[4096];
    struct sse *sse = sse_new(NULL, NULL);
    int rc = sse_feed(sse, start, strlen(start), err);
    memset(piece, 'x', sizeof piece);
    for (size_t left = n - strlen(start), part; left > 0 && rc == 0; left -= part) {
        part = left < sizeof piece ? left : sizeof piece;
        rc = sse_feed(sse, piece, part, err);
    }
    if (rc == 0)
        rc = sse_feed(sse, "\n", 1, err);
    sse_free(sse);
    return rc;
}

static void lines_are_bounded(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(feed_long_line("data: ", SSE_LINE_MAX, &err), 0);
    assert_int_equal(feed_long_line(": ", SSE_LINE_MAX, &err), 0);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(feed_long_line("data: ", SSE_LINE_MAX + 1, &err), -1);
    assert_int_equal(err.code, ERR_PROTOCOL);
    assert_non_null(strstr(err.text, "a line of more than 1048576 bytes"));
}

static void events_are_bounded(void **state) {
    (void)state;
    static char line[65536 + 1];
    struct err err = {0};
    struct sse *sse = sse_new(NULL, NULL);
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "data:", 5);
    line[sizeof line - 2] = '\n';
    int lines = 0;
    while (sse_feed(sse, line, sizeof line - 1, &err) == 0)
        lines++;
    assert_int_equal(err.code, ERR_PROTOCOL);
    assert_int_equal(lines, SSE_DATA_MAX / (65536 - 5));
    sse_free(sse);
}

/* Every allocation fails once, the first ones first; never a leak, a crash or a wrong event. */
static void allocations_may_fail(void **state) {
    (void)state;
    static const char input[] = "id: 1\nevent: e\ndata: a\n\nid: 2\ndata: b\n\n";
    bool finished = false;
    int failing = 0;
    for (; !finished; failing++) {
        struct heard heard = {0};
        struct err err = {0};
        allocations_left = failing;
        struct sse *sse = sse_new(hear, &heard);
        int rc = sse == NULL ? -1 : sse_feed(sse, input, sizeof input - 1, &err);
        finished = allocations_left >= 0; /* the failing one was not reached */
        allocations_left = -1;
        assert_int_equal(rc, finished ? 0 : -1);
        if (sse != NULL && !finished)
            assert_int_equal(err.code, ERR_MEMORY);
        assert_memory_equal("e|a|1;message|b|2;", heard.text, strlen(heard.text));
        sse_free(sse);
    }
    assert_in_range(failing, 5, 100); /* parser, line, id, type, data at least */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_whole),
        cmocka_unit_test(vectors_byte_by_byte),
        cmocka_unit_test(vectors_in_random_pieces),
        cmocka_unit_test(restart_drops_what_is_unfinished),
        cmocka_unit_test(restart_forgets_a_carriage_return),
        cmocka_unit_test(callback_ends_the_feeding),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(events_are_bounded),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
