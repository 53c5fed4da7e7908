/* The scheduler's parts: what a worker may say, lines out of a pipe, child processes, the job's log. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "server/sched/private.h"

/* --- messages --- */

#define HELLO_REST                                                                                                               \
    "\"program\":\"0.1.0\",\"backend\":\"ref\",\"backend_version\":\"1\",\"algorithms\":\"\",\"device\":\"fake\",\"device_id\":" \
    "\"cpu\",\"precision\":"                                                                                                     \
    "\"f32\","                                                                                                                   \
    "\"threads\":1,\"data_sha256\":\"" DIGEST                                                                                    \
    "\",\"train_images\":6,\"validation_images\":0,\"test_images\":6,\"initial\":null,\"parameters\":10,"                        \
    "\"memory_bytes\":100,\"resumed\":null}"
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

#define PROGRESS                                                                                                       \
    "{\"type\":\"progress\",\"seq\":7,\"epoch\":1,\"epochs\":2,\"phase\":\"train\",\"step\":0,\"steps\":5,\"loss\":1," \
    "\"images_per_second\":1,\"seconds_left\":1,\"gpu\":"

/* Lines with seq 7; a part of the complaint, or NULL for a good line. */
static const struct {
    const char *line, *complaint;
} lines[] = {
    {"{\"type\":\"hello\",\"seq\":7,\"protocol\":3," HELLO_REST, NULL},
    {"{\"type\":\"hello\",\"seq\":7,\"protocol\":1," HELLO_REST, "protocol"},
    {"{\"type\":\"hello\",\"seq\":7," HELLO_REST, "lacks \"protocol\""},
    {"{\"type\":\"hello\",\"seq\":7,\"protocol\":3,\"more\":1," HELLO_REST, "fields"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":false,\"best_epoch\":null}", NULL},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":true,\"best_epoch\":5}", NULL},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":true,\"best_epoch\":null}", "without a best epoch"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":false,\"best_epoch\":6}", "best epoch is 6 of 5"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":false,\"best_epoch\":0}", "best_epoch"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"stopped_early\":0,\"best_epoch\":null}", "stopped_early"},
    {"{\"type\":\"done\",\"seq\":8,\"epochs\":5}", "seq"},
    {"{\"type\":\"done\",\"seq\":6,\"epochs\":5}", "seq"},
    {"{\"type\":\"done\",\"seq\":\"7\",\"epochs\":5}", "seq"},
    {"{\"type\":\"done\",\"epochs\":5}", "seq"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":0}", "epochs"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5.5}", "epochs"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":99999999999}", "epochs"},
    {"{\"type\":\"bye\",\"seq\":7}", "type"},
    {"{\"seq\":7}", "type"},
    {"[]", "not an object"},
    {"", "not JSON"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5", "not JSON"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5}{}", "not JSON"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":5,\"x\":\"\xff\"}", "not JSON"},
    {"{\"type\":\"done\",\"seq\":7,\"epochs\":NaN}", "not JSON"},
    {"{\"type\":\"error\",\"seq\":7,\"code\":\"non-finite-loss\",\"text\":\"t\",\"pointer\":\"\"}", NULL},
    {"{\"type\":\"error\",\"seq\":7,\"code\":\"none\",\"text\":\"t\",\"pointer\":\"\"}", "unknown code"},
    {"{\"type\":\"error\",\"seq\":7,\"code\":\"oops\",\"text\":\"t\",\"pointer\":\"\"}", "unknown code"},
    {"{\"type\":\"error\",\"seq\":7,\"code\":\"internal\",\"text\":\"\",\"pointer\":\"\"}", "text"},
    {"{\"type\":\"checkpoint\",\"seq\":7,\"epoch\":0,\"step\":3,\"file\":\"a\",\"bytes\":9}", NULL},
    {"{\"type\":\"checkpoint\",\"seq\":7,\"epoch\":0,\"step\":3,\"file\":\"../a\",\"bytes\":9}", "outside"},
    {"{\"type\":\"checkpoint\",\"seq\":7,\"epoch\":0,\"step\":-1,\"file\":\"a\",\"bytes\":9}", "step"},
    {"{\"type\":\"progress\",\"seq\":7,\"epoch\":1,\"epochs\":2,\"phase\":\"validation\",\"step\":0,\"steps\":5,\"loss\":null,"
     "\"images_per_second\":null,\"seconds_left\":null,\"gpu\":null}",
     NULL},
    {"{\"type\":\"progress\",\"seq\":7,\"epoch\":1,\"epochs\":2,\"phase\":\"lunch\",\"step\":0,\"steps\":5,\"loss\":1,"
     "\"images_per_second\":1,\"seconds_left\":1,\"gpu\":null}",
     "phase"},
    {"{\"type\":\"progress\",\"seq\":7,\"epoch\":1,\"epochs\":2,\"phase\":\"train\",\"step\":0,\"steps\":5,\"loss\":1,"
     "\"images_per_second\":-1,\"seconds_left\":1}",
     "images_per_second"},
    {PROGRESS "{\"temperature_c\":61.5,\"utilization\":1,\"power_w\":null,\"memory_used_bytes\":5}}", NULL},
    {PROGRESS "{\"temperature_c\":61.5,\"utilization\":93,\"power_w\":1,\"memory_used_bytes\":5}}", "utilization"},
    {PROGRESS "{\"temperature_c\":61.5,\"utilization\":1,\"power_w\":1}}", "memory_used_bytes"},
    {PROGRESS "{\"temperature_c\":1,\"utilization\":1,\"power_w\":1,\"memory_used_bytes\":5,\"energy_j\":1}}", "fields"},
};

/* line must be heard, or (complaint not NULL) refused with words that hold it. */
static void expect(const char *line, const char *complaint) {
    struct message message = {0};
    struct err err = {0};
    int rc = message_parse(line, strlen(line), 7, &message, &err);
    if (complaint == NULL && rc != 0)
        fail_msg("%s\n%s", line, err.text);
    if (complaint != NULL && (rc == 0 || err.code != ERR_PROTOCOL || strstr(err.text, complaint) == NULL))
        fail_msg("%s\n%d '%s', expected '%s'", line, rc, err.text, complaint);
    if (rc == 0)
        message_done(&message);
}

static void test_messages(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        expect(lines[i].line, lines[i].complaint);
}

/* --- epochs --- */

static const char epoch_line[] =
    "{\"type\":\"epoch\",\"seq\":7,\"epoch\":1,\"train\":{\"loss\":1.0,\"accuracy\":0.5},\"validation\":null,"
    "\"test\":{\"loss\":1,\"accuracy\":0.9,\"top5\":null,\"ece\":0.1,\"confusion\":[[3,0,0],[1,2,0],[0,2,2]],"
    "\"report\":{\"precision\":[0.75,0.5,1],\"recall\":[1,0.6,0.5],\"f1\":[0.8,0.5,0.6],\"support\":[3,3,4],"
    "\"macro\":{\"precision\":0.7,\"recall\":0.7,\"f1\":0.7},\"weighted\":{\"precision\":0.7,\"recall\":0.7,\"f1\":0.7}},"
    "\"most_confused\":{\"pairs\":[{\"true\":2,\"predicted\":1,\"count\":2},{\"true\":1,\"predicted\":0,\"count\":1}],"
    "\"classes\":[{\"class\":1,\"count\":3},{\"class\":2,\"count\":2},{\"class\":0,\"count\":1}]},"
    "\"softmax\":[[0.5,0.25,0.25]],\"labels\":[1]},"
    "\"layers\":{\"weights\":{\"name\":[\"conv1\"],\"gradient_norm\":[0.1],\"weight_norm\":[2],\"update_ratio\":[null]},"
    "\"activations\":{\"name\":[\"relu1\",\"add1\"],\"mean\":[0.5,-0.5],\"deviation\":[1,1],\"dead\":[0.25,null]}},"
    "\"weights_sha256\":\"" DIGEST "\",\"exported_sha256\":\"" DIGEST
    "\",\"best\":null,\"lr\":0.1,\"seconds\":1.5,\"images_per_second\":100.0,\"gpu\":null}";

/* The good epoch with one text in place of another, and what must be said of that. */
static const struct {
    const char *text, *instead, *complaint;
} changes[] = {
    {"\"loss\":1,", "\"loss\":1e3,", NULL},
    {"\"gpu\":null", "\"gpu\":{\"temperature_c\":1,\"utilization\":0,\"power_w\":0,\"memory_used_bytes\":0,\"energy_j\":1.5}",
     NULL},
    {"\"gpu\":null", "\"gpu\":{\"temperature_c\":1,\"utilization\":0,\"power_w\":0,\"memory_used_bytes\":0}", "energy_j"},
    {"\"validation\":null", "\"validation\":{\"loss\":1,\"accuracy\":1,\"top5\":null}", "\"best\""},
    {"\"best\":null", "\"best\":true", "\"best\""},
    {"\"validation\":null", "\"validation\":{\"loss\":1,\"accuracy\":1,\"top5\":0.5}", "\"top5\""},
    {"\"validation\":null", "\"validation\":{\"loss\":1,\"accuracy\":1}", "lacks \"top5\""},
    {"\"top5\":null", "\"top5\":0.5", "\"top5\""},
    {"\"accuracy\":0.9", "\"accuracy\":1.1", "accuracy"},
    {"\"loss\":1,", "\"loss\":null,", "loss"},
    {"\"ece\":0.1", "\"ece\":-0.1", "ece"},
    {"[3,0,0]", "[3,0]", "confusion"},
    {"[[3,0,0],[1,2,0],[0,2,2]]", "[[3,0,0],[1,2,0]]", "not square"},
    {"[[3,0,0],", "[[-3,0,0],", "confusion"},
    {"[[3,0,0],[1,2,0],[0,2,2]]", "{}", "confusion"},
    {"[[3,0,0],[1,2,0],[0,2,2]]", "[]", "confusion"},
    {"[[3,0,0],[1,2,0],[0,2,2]]", "[[]]", "confusion"},
    {"[0.5,0.25,0.25]", "[0.5,0.25,1.25]", "softmax"},
    {"[0.5,0.25,0.25]", "[1]", "fit together"},
    {"\"labels\":[1]", "\"labels\":[]", "fit together"},
    {"\"labels\":[1]", "\"labels\":[3]", "no class"},
    {"\"support\":[3,3,4]", "\"support\":[3,3,3]", "\"support\""},
    {"\"support\":[3,3,4]", "\"support\":[3,3]", "\"support\""},
    {"\"f1\":[0.8,0.5,0.6]", "\"f1\":[0.8,0.5,null]", "f1"},
    {"\"recall\":[1,0.6,0.5]", "\"recall\":[1,0.6,0.5,0.5]", "recall"},
    {"\"predicted\":1,\"count\":2", "\"predicted\":1,\"count\":1", "most_confused"},
    {"\"true\":2,\"predicted\":1", "\"true\":2,\"predicted\":2", "most_confused"},
    {"\"true\":2,\"predicted\":1", "\"true\":2,\"predicted\":9", "most_confused"},
    {"{\"class\":1,\"count\":3},{\"class\":2,\"count\":2}", "{\"class\":2,\"count\":2},{\"class\":1,\"count\":3}", "most first"},
    {"{\"class\":1,\"count\":3}", "{\"class\":7,\"count\":3}", "most_confused"},
    {"\"count\":3}", "\"count\":0}", "count"},
    {"\"gradient_norm\":[0.1]", "\"gradient_norm\":[0.1,0.2]", "\"gradient_norm\""},
    {"\"gradient_norm\":[0.1]", "\"gradient_norm\":[-0.1]", "gradient_norm"},
    {"\"dead\":[0.25,null]", "\"dead\":[1.25,null]", "dead"},
    {"\"dead\":[0.25,null]", "\"dead\":[0.25]", "\"dead\""},
    {"\"weights_sha256\":\"0", "\"weights_sha256\":\"", "weights_sha256"},
    {"\"weights_sha256\":\"0", "\"weights_sha256\":\"A", "weights_sha256"},
    {"\"exported_sha256\":\"0", "\"exported_sha256\":\"A", "exported_sha256"},
    {"\"test\":{", "\"test\":{\"more\":1,", "fields"},
};

/* epoch_line with the first text changed. Caller frees. */
static char *changed(const char *text, const char *instead) {
    const char *at = strstr(epoch_line, text);
    char *line = malloc(sizeof epoch_line + strlen(instead));
    assert_non_null(at);
    sprintf(line, "%.*s%s%s", (int)(at - epoch_line), epoch_line, instead, at + strlen(text));
    return line;
}

static void test_epochs(void **state) {
    (void)state;
    expect(epoch_line, NULL);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *line = changed(changes[i].text, changes[i].instead);
        expect(line, changes[i].complaint);
        free(line);
    }
}

static void test_message_content(void **state) {
    (void)state;
    struct message message = {0};
    struct err err = {0};
    static const char line[] =
        "{\"type\":\"error\",\"seq\":7,\"code\":\"storage-full\",\"text\":\"no 100%s room\",\"pointer\":\"/a\"}";
    assert_int_equal(message_parse(line, sizeof line - 1, 7, &message, &err), 0);
    assert_int_equal(message.said.code, ERR_FULL);
    assert_string_equal(message.said.text, "no 100%s room");
    assert_string_equal(message.said.pointer, "/a");
    assert_null(json_object_get(message.fields, "seq"));
    message_done(&message);
}

#define DEVICE(id)                                                                                                       \
    "{\"id\":\"" id "\",\"name\":\"c\",\"threads\":2,\"memory_bytes\":1,\"memory_free_bytes\":null,\"compute\":\"9.0\"," \
    "\"driver\":null,\"profile\":{\"any\":1},\"note\":null,\"backends\":[{\"name\":\"ref\",\"version\":\"1\","           \
    "\"precisions\":[\"f32\"]}],\"unusable\":[]}"
#define PROBE(devices)                                        \
    "{\"protocol\":3,\"complete\":true,\"devices\":[" devices \
    "],\"datasets\":[{\"name\":\"shapes\",\"available\":true,\"reason\":null}]}"

static void test_probe_answers(void **state) {
    (void)state;
    static const char good[] = PROBE(DEVICE("cpu") "," DEVICE("GPU-1"));
    static const struct {
        const char *answer, *complaint;
    } bad[] = {{PROBE(DEVICE("")), "\"id\" of devices"},
               {PROBE(DEVICE("../cpu")), "impossible id"},
               {PROBE(DEVICE(".")), "impossible id"},
               {PROBE(DEVICE("cpu") "," DEVICE("GPU-1") "," DEVICE("cpu")), "two devices with the id \"cpu\""}};
    struct err none = {0};
    json_t *answer = message_parse_probe(good, sizeof good - 1, &none);
    assert_non_null(answer);
    json_decref(answer);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = {0};
        assert_null(message_parse_probe(bad[i].answer, strlen(bad[i].answer), &err));
        if (strstr(err.text, bad[i].complaint) == NULL)
            fail_msg("%s: %s", bad[i].answer, err.text);
    }
    for (size_t size = 0; size < sizeof good - 1; size++) { /* cut anywhere: refused, never read beyond */
        char *cut = malloc(size + 1);
        memcpy(cut, good, size);
        struct err why = {0};
        assert_null(message_parse_probe(cut, size, &why));
        free(cut);
    }
}

/* --- lines out of a pipe --- */

struct heard {
    struct loop *loop;
    struct pump *pump;
    int fds[2], lines, oversize, refuse;
    size_t bytes;
    char last[64];
};

static int hear(void *arg, const char *line, size_t size) {
    struct heard *heard = arg;
    heard->lines++;
    heard->bytes += size;
    snprintf(heard->last, sizeof heard->last, "%.*s", (int)size, line);
    return heard->refuse;
}

static void hear_oversize(void *arg) {
    ((struct heard *)arg)->oversize++;
}

static void heard_start(struct heard *heard, size_t line_max) {
    struct err err = {0};
    *heard = (struct heard){.loop = loop_new(&err)};
    assert_int_equal(pipe2(heard->fds, O_NONBLOCK), 0);
    struct pump_options options = {
        .loop = heard->loop, .fd = heard->fds[0], .line_max = line_max, .fn = hear, .oversize = hear_oversize, .arg = heard};
    heard->pump = pump_new(&options, &err);
    assert_non_null(heard->pump);
}

static void heard_stop(struct heard *heard) {
    pump_free(heard->pump);
    loop_free(heard->loop);
    close(heard->fds[0]);
    if (heard->fds[1] >= 0)
        close(heard->fds[1]);
}

static void say(struct heard *heard, const char *text) {
    assert_int_equal(write(heard->fds[1], text, strlen(text)), strlen(text));
    pump_drain(heard->pump);
}

static void test_lines_cut_anywhere(void **state) {
    (void)state;
    static const char text[] = "one\n\ntwo three\nfour";
    for (size_t cut = 0; cut <= sizeof text - 1; cut++) {
        struct heard heard;
        char head[sizeof text];
        heard_start(&heard, 64);
        memcpy(head, text, cut);
        head[cut] = '\0';
        say(&heard, head);
        say(&heard, text + cut);
        assert_int_equal(heard.lines, 3);
        assert_string_equal(heard.last, "two three");
        assert_true(pump_is_cut(heard.pump));
        say(&heard, "\n");
        assert_string_equal(heard.last, "four");
        assert_false(pump_is_cut(heard.pump));
        heard_stop(&heard);
    }
}

static void test_line_limit(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int lines, oversize;
    } cases[] = {
        {"123456789\n", 2, 0},           /* 10 bytes with the newline: allowed */
        {"1234567890\n", 0, 1},          /* 11 */
        {"1234567890", 0, 1},            /* no newline could make it fit */
        {"a\n1234567890123\nb\n", 1, 1}, /* nothing after it is heard */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct heard heard;
        heard_start(&heard, 10);
        say(&heard, cases[i].text);
        say(&heard, "more\n");
        assert_int_equal(heard.lines, cases[i].lines);
        assert_int_equal(heard.oversize, cases[i].oversize);
        heard_stop(&heard);
    }
}

static void test_refusal_ends_the_reading(void **state) {
    (void)state;
    struct heard heard;
    heard_start(&heard, 64);
    heard.refuse = -1;
    say(&heard, "one\ntwo\n");
    assert_int_equal(heard.lines, 1);
    heard_stop(&heard);
}

static void test_long_lines(void **state) {
    (void)state;
    struct heard heard;
    enum { BYTES = 1000000 };
    heard_start(&heard, BYTES + 1);
    char *text = malloc(10001);
    memset(text, 'x', 10000);
    text[10000] = '\0';
    for (int i = 0; i < BYTES / 10000; i++)
        say(&heard, text);
    say(&heard, "\n");
    assert_int_equal(heard.lines, 1);
    assert_int_equal(heard.bytes, BYTES);
    free(text);
    heard_stop(&heard);
}

/* --- processes --- */

struct child {
    struct loop *loop;
    struct proc proc;
    struct proc_end end;
    char text[4096];
    size_t used;
    bool reaped;
};

static int child_said(void *arg, const char *data, size_t size) {
    struct child *child = arg;
    assert_true(child->used + size < sizeof child->text);
    memcpy(child->text + child->used, data, size);
    child->used += size;
    return 0;
}

static void child_ended(void *arg, uint32_t epoll_events) {
    struct child *child = arg;
    (void)epoll_events;
    child->reaped = proc_reap(&child->proc, &child->end);
    loop_stop(child->loop);
}

/* Runs a shell command to its end. */
static struct child run_child(const char *command) {
    struct err err = {0};
    struct child child = {.loop = loop_new(&err), .proc = PROC_NONE};
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    struct proc_options options = {.argv = argv, .dir = "/", .nice = 3};
    if (proc_spawn(&options, &child.proc, &err) != 0)
        fail_msg("%s", err.text);
    struct pump_options out = {.loop = child.loop, .fd = child.proc.out, .fn = child_said, .arg = &child};
    struct pump *pump = pump_new(&out, &err);
    struct loop_fd *watch = loop_fd_add(child.loop, child.proc.pidfd, EPOLLIN, child_ended, &child, &err);
    proc_close_in(&child.proc);
    assert_int_equal(loop_run(child.loop, &err), 0);
    assert_true(child.reaped);
    pump_drain(pump);
    pump_free(pump);
    loop_fd_remove(watch);
    proc_done(&child.proc);
    loop_free(child.loop);
    return child;
}

static void test_child_is_clean(void **state) {
    (void)state;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(dup2(STDERR_FILENO, 77), 77); /* without close-on-exec, as a library might */
    setenv("SECRET_TOKEN", "x", 1);
    setenv("RESIDUUM_TEST", "kept", 1);
    struct child child = run_child("echo \"$SECRET_TOKEN,$RESIDUUM_TEST,$(nice),$PWD\"; [ -e /proc/$$/fd/77 ] && echo leaked; "
                                   "exec grep -E 'Sig(Blk|Ign)' /proc/self/status");
    close(77);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    child.text[child.used] = '\0';
    assert_non_null(strstr(child.text, ",kept,3,/\nSig"));
    assert_non_null(strstr(child.text, "SigBlk:\t0000000000000000"));
    /* Without signals 32 and 33: they are the C library's own, which leaves them ignored in what make starts, and cannot be set.
     */
    const char *ignored = strstr(child.text, "SigIgn:\t");
    assert_non_null(ignored);
    assert_int_equal(strtoull(ignored + sizeof "SigIgn:\t" - 1, NULL, 16) & ~0x180000000ULL, 0);
}

static void test_how_children_end(void **state) {
    (void)state;
    static const struct {
        const char *command, *description;
    } cases[] = {
        {"exit 0", "exit code 0 (done)"},
        {"exit 5", "exit code 5 (trying again may help)"},
        {"exit 77", "exit code 77 (not one of the worker's own)"},
        {"kill -9 $$", "killed by signal 9 (SIGKILL)"},
        {"kill -SEGV $$", "killed by signal 11 (SIGSEGV)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child child = run_child(cases[i].command);
        char text[96];
        proc_describe(&child.end, text, sizeof text);
        assert_string_equal(text, cases[i].description);
    }
}

static void test_program_that_cannot_run(void **state) {
    (void)state;
    static const char *const missing[] = {"/nowhere/residuum-worker", NULL}, *const folder[] = {"/tmp", NULL},
                             *const sh[] = {"/bin/sh", NULL};
    struct proc_options options = {.argv = missing, .dir = "/"};
    struct proc proc;
    struct err err = {0}, denied = {0}, nowhere = {0};
    assert_int_equal(proc_spawn(&options, &proc, &err), -1);
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    options.argv = folder;
    assert_int_equal(proc_spawn(&options, &proc, &denied), -1);
    assert_non_null(strstr(denied.text, strerror(EACCES)));
    options = (struct proc_options){.argv = sh, .dir = "/nowhere"};
    assert_int_equal(proc_spawn(&options, &proc, &nowhere), -1);
}

/* A zombie, whose new parent has not looked yet, has no command line any more. */
static bool lives(const char *pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", atoi(pid));
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    bool alive = fgetc(file) != EOF;
    fclose(file);
    return alive;
}

static void test_the_group_goes_with_the_child(void **state) {
    (void)state;
    static const char *const argv[] = {"/bin/sh", "-c", "sleep 1000 & echo $!; wait", NULL};
    struct proc_options options = {.argv = argv, .dir = "/"};
    struct proc proc;
    struct err err = {0};
    char pid[16] = "";
    assert_int_equal(proc_spawn(&options, &proc, &err), 0);
    fcntl(proc.out, F_SETFL, 0);
    assert_true(read(proc.out, pid, sizeof pid - 1) > 0);
    proc_done(&proc);
    int64_t deadline = clock_ms() + 5000;
    while (lives(pid))
        assert_true(clock_ms() < deadline);
    assert_int_equal(proc.pidfd, -1);
}

/* --- the log --- */

static void test_log(void **state) {
    (void)state;
    char dir[] = "/tmp/residuum-test-log-XXXXXX", *text = NULL;
    size_t size = 1;
    struct err err = {0};
    struct joblog log;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(joblog_tail(dir, 100, &text, &size, &err), 0); /* none yet */
    assert_int_equal(size, 0);
    free(text);
    assert_int_equal(joblog_open(dir, &log, &err), 0);
    joblog_append(&log, "one\ntw\x01o \xc3\xa4 \xff\xc3\n", 15);
    joblog_append(&log, "half", 4);
    joblog_note(&log, "attempt %d", 2);
    joblog_close(&log);
    assert_int_equal(joblog_tail(dir, 10000, &text, &size, &err), 0);
    assert_non_null(strstr(text, "one\ntw?o \xc3\xa4 ??\nhalf\n"));
    assert_non_null(strstr(text, " residuumd: attempt 2\n"));
    size_t all = size;
    free(text);
    assert_int_equal(joblog_tail(dir, all - 2, &text, &size, &err), 0); /* from a line start */
    assert_int_equal(strncmp(text, "tw?o", 4), 0);
    free(text);
    file_remove_tree(dir, NULL);
}

static void test_log_is_bounded(void **state) {
    (void)state;
    char dir[] = "/tmp/residuum-test-log-XXXXXX", *text = NULL;
    static char chunk[65536];
    size_t size = 0;
    struct err err = {0};
    struct joblog log;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(joblog_open(dir, &log, &err), 0);
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 40; i++)
        joblog_append(&log, chunk, sizeof chunk);
    for (int i = 0; i < 10000; i++)
        joblog_note(&log, "attempt %d", i);
    joblog_close(&log);
    assert_int_equal(joblog_tail(dir, SIZE_MAX / 2, &text, &size, &err), 0);
    assert_true(size >= JOBLOG_MAX && size <= JOBLOG_MAX + JOBLOG_RESERVE + 1024);
    assert_non_null(strstr(text, "\n20")); /* a time: the note that says so begins a line */
    assert_non_null(strstr(text, "the log is cut here"));
    free(text);
    file_remove_tree(dir, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_message_content),
        cmocka_unit_test(test_probe_answers),
        cmocka_unit_test(test_lines_cut_anywhere),
        cmocka_unit_test(test_line_limit),
        cmocka_unit_test(test_refusal_ends_the_reading),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_child_is_clean),
        cmocka_unit_test(test_how_children_end),
        cmocka_unit_test(test_program_that_cannot_run),
        cmocka_unit_test(test_the_group_goes_with_the_child),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_log_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
