/* Tests of the event stream with its reconnections, against a scripted server in a child process. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/interrupt.h"
#include "client/stream.h"
#include "common/loop.h"

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: ok\n\nretry: 1\n\n"

/* --- the server: one answer a connection, in order; then it listens no more --- */

struct answer {
    const char *text; /* sent when the request has been read; NULL: the connection is closed at once */
    bool hold;        /* afterwards it stays open until the client closes it */
};

struct server {
    pid_t pid;
    int requests; /* the request heads, as the server read them */
    char address[64];
};

/* Reads up to the empty line and passes it on. */
static void pass_request(int connection, int requests) {
    char head[4096];
    size_t used = 0;
    ssize_t n;
    while (used < sizeof head - 1 && (n = read(connection, head + used, sizeof head - 1 - used)) > 0) {
        used += (size_t)n;
        head[used] = '\0';
        if (strstr(head, "\r\n\r\n") != NULL)
            break;
    }
    if (write(requests, head, used) < 0)
        _exit(1);
}

static void serve(int listener, int requests, const struct answer *answers, int n) {
    for (int i = 0; i < n; i++) {
        char byte;
        int connection = accept(listener, NULL, NULL);
        pass_request(connection, requests);
        if (answers[i].text != NULL && write(connection, answers[i].text, strlen(answers[i].text)) < 0)
            _exit(1);
        if (answers[i].hold)
            while (read(connection, &byte, 1) > 0)
                ;
        close(connection);
    }
    _exit(0);
}

static struct server start(const struct answer *answers, int n) {
    struct server server;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int pipe_ends[2], listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(pipe(pipe_ends), 0);
    server.pid = fork();
    if (server.pid == 0) {
        close(pipe_ends[0]);
        serve(listener, pipe_ends[1], answers, n);
    }
    close(listener);
    close(pipe_ends[1]);
    server.requests = pipe_ends[0];
    snprintf(server.address, sizeof server.address, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    return server;
}

/* Ends the server and gives what it was asked. */
static const char *stop(struct server *server) {
    static char asked[65536];
    size_t used = 0;
    kill(server->pid, SIGTERM);
    waitpid(server->pid, NULL, 0);
    for (ssize_t n; (n = read(server->requests, asked + used, sizeof asked - 1 - used)) > 0;)
        used += (size_t)n;
    asked[used] = '\0';
    close(server->requests);
    return asked;
}

/* --- the client --- */

struct heard {
    char text[1024];
    int until; /* events to hear */
    int events, lost, back, ticks, ticks_at_most;
    char why[256];
};

static int on_event(void *arg, const struct sse_event *event) {
    struct heard *heard = arg;
    size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "%s:%s;", event->id, event->data);
    return ++heard->events == heard->until;
}

static int on_tick(void *arg) {
    struct heard *heard = arg;
    heard->ticks++;
    return heard->ticks_at_most > 0 && heard->ticks >= heard->ticks_at_most;
}

static void on_news(void *arg, enum stream_news news, const char *why) {
    struct heard *heard = arg;
    if (news == STREAM_LOST)
        snprintf(heard->why, sizeof heard->why, "%s", why);
    heard->lost += news == STREAM_LOST;
    heard->back += news == STREAM_BACK;
}

static int follow(struct server *server, struct heard *heard, int64_t silence_ms, enum stream_end *ret_end,
                  struct http_response *ret_answer, struct err *err) {
    struct http *http = NULL;
    assert_int_equal(http_new(server->address, &http, err), 0);
    struct stream_options options = {.http = http,
                                     .path = "/v1/events?job=j&after=7",
                                     .silence_ms = silence_ms,
                                     .backoff_base_ms = 1,
                                     .backoff_cap_ms = 5,
                                     .on_event = on_event,
                                     .on_tick = on_tick,
                                     .on_news = on_news,
                                     .arg = heard};
    int rc = stream_run(&options, ret_end, ret_answer, err);
    http_free(http);
    return rc;
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        n++;
    return n;
}

enum { PATIENT_MS = 20000 };

static void comes_back_with_the_last_id(void **state) {
    (void)state;
    static const struct answer answers[] = {
        {STREAM_HEAD "id: 8\ndata: a\n\nid: 9\ndata: b\n\nid: 10\ndata: cut he", false}, /* cut in the middle of an event */
        {NULL, false},                                                                   /* and once more, before any answer */
        {STREAM_HEAD "id: 10\ndata: c\n\n", true},
    };
    struct server server = start(answers, 3);
    struct heard heard = {.until = 3};
    enum stream_end end = STREAM_REFUSED;
    struct http_response answer = {0};
    struct err err = {0};
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), 0);
    const char *asked = stop(&server);
    assert_int_equal(end, STREAM_DONE);
    assert_string_equal(heard.text, "8:a;9:b;10:c;");
    assert_int_equal(heard.lost, 1); /* one outage, told once */
    assert_int_equal(heard.back, 1);
    assert_int_equal(count(asked, "GET /v1/events?job=j&after=7 HTTP/1.1\r\n"), 3);
    assert_int_equal(count(asked, "\r\nLast-Event-ID: 9\r\n"), 2); /* not with the first request */
    assert_int_equal(count(asked, "Accept: text/event-stream\r\n"), 3);
}

static void silence_counts_as_lost(void **state) {
    (void)state;
    static const struct answer answers[] = {{STREAM_HEAD "id: 8\ndata: a\n\n", true}, {STREAM_HEAD "id: 9\ndata: b\n\n", true}};
    struct server server = start(answers, 2);
    struct heard heard = {.until = 2};
    enum stream_end end = STREAM_REFUSED;
    struct http_response answer = {0};
    struct err err = {0};
    int64_t began = clock_ms();
    assert_int_equal(follow(&server, &heard, 300, &end, &answer, &err), 0);
    assert_in_range(clock_ms() - began, 300, 10000);
    assert_int_equal(count(stop(&server), "\r\nLast-Event-ID: 8\r\n"), 1);
    assert_int_equal(end, STREAM_DONE);
    assert_string_equal(heard.text, "8:a;9:b;");
    assert_non_null(strstr(heard.why, "no sign of life"));
}

static void waits_when_asked_to(void **state) {
    (void)state;
    static const struct answer answers[] = {
        {"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}", false},
        {STREAM_HEAD "data: a\n\n", true},
    };
    struct server server = start(answers, 2);
    struct heard heard = {.until = 1};
    enum stream_end end = STREAM_REFUSED;
    struct http_response answer = {0};
    struct err err = {0};
    int64_t began = clock_ms();
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), 0);
    assert_true(clock_ms() - began >= 1000); /* Retry-After, although the backoff is 5 ms at most */
    stop(&server);
    assert_int_equal(end, STREAM_DONE);
    assert_int_equal(heard.lost, 1);
    assert_non_null(strstr(heard.why, "status 503"));
    assert_true(heard.ticks > 2); /* the display lives on meanwhile */
}

static void a_final_answer_ends_it(void **state) {
    (void)state;
    static const struct answer answers[] = {
        {"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json; charset=utf-8\r\nContent-Length: "
         "12\r\n\r\n{\"title\":"
         "\"x\"}",
         false},
    };
    struct server server = start(answers, 1);
    struct heard heard = {0};
    enum stream_end end = STREAM_DONE;
    struct http_response answer = {0};
    struct err err = {0};
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), 0);
    stop(&server);
    assert_int_equal(end, STREAM_REFUSED);
    assert_int_equal(answer.status, 404);
    assert_string_equal(answer.type, "application/problem+json");
    assert_memory_equal(answer.body, "{\"title\":\"x\"", 12);
    assert_int_equal(heard.lost, 0);
    http_response_done(&answer);
}

static void something_else_is_no_stream(void **state) {
    (void)state;
    static const struct answer answers[] = {{"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>data: a\n\n", true}};
    struct server server = start(answers, 1);
    struct heard heard = {0};
    enum stream_end end = STREAM_DONE;
    struct http_response answer = {0};
    struct err err = {0};
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), -1);
    stop(&server);
    assert_int_equal(err.code, ERR_PROTOCOL);
    assert_non_null(strstr(err.text, "text/html"));
    assert_int_equal(heard.events, 0);
}

static void a_tick_may_end_it(void **state) {
    (void)state;
    static const struct answer answers[] = {{STREAM_HEAD, true}};
    struct server server = start(answers, 1);
    struct heard heard = {.ticks_at_most = 2};
    enum stream_end end = STREAM_REFUSED;
    struct http_response answer = {0};
    struct err err = {0};
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), 0);
    stop(&server);
    assert_int_equal(end, STREAM_DONE);
}

/* The last test: the flag stays raised. */
static void an_interrupt_ends_it(void **state) {
    (void)state;
    static const struct answer answers[] = {{STREAM_HEAD, true}};
    struct server server = start(answers, 1);
    struct heard heard = {0};
    enum stream_end end = STREAM_REFUSED;
    struct http_response answer = {0};
    struct err err = {0};
    interrupt_catch();
    raise(SIGINT);
    assert_int_equal(follow(&server, &heard, PATIENT_MS, &end, &answer, &err), 0);
    stop(&server);
    assert_int_equal(end, STREAM_INTERRUPTED);
    assert_int_equal(heard.lost, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_with_the_last_id), cmocka_unit_test(silence_counts_as_lost),
        cmocka_unit_test(waits_when_asked_to),         cmocka_unit_test(a_final_answer_ends_it),
        cmocka_unit_test(something_else_is_no_stream), cmocka_unit_test(a_tick_may_end_it),
        cmocka_unit_test(an_interrupt_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
