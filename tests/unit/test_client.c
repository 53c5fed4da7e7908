/* Tests of the client's pure parts: command line, safe text, numbers, waiting times, progress and reports. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/backoff.h"
#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/progress.h"
#include "client/report.h"
#include "client/table.h"
#include "client/text.h"

/* --- command line --- */

static int parse(struct args *ret_args, struct err *err, const char *words) {
    static char copy[512];
    char *argv[16];
    int n = 0;
    *err = (struct err){0};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        argv[n++] = word;
    return command_parse(n, argv, ret_args, err);
}

static void options_stand_anywhere(void **state) {
    (void)state;
    static const char *const lines[] = {"--server http://h submit - --watch", "submit --watch --server=http://h -",
                                        "-s http://h -w submit -", "submit --watch --server http://h -- -"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct args args = {0};
        struct err err;
        assert_int_equal(parse(&args, &err, lines[i]), 0);
        assert_string_equal(args.command->name, "submit");
        assert_string_equal(args.option[OPTION_SERVER], "http://h");
        assert_string_equal(args.argument[0], "-");
        assert_non_null(args.option[OPTION_WATCH]);
        assert_null(args.option[OPTION_JSON]);
    }
}

static void wrong_command_lines_are_explained(void **state) {
    (void)state;
    static const struct {
        const char *line, *text;
    } wrong[] = {
        {"", "no command is given"},
        {"wach x", "did you mean \"watch\"?"},
        {"frobnicate", "\"residuum help\" lists them"},
        {"ls --stat queued", "did you mean --state?"},
        {"ls --frobnicate", "there is no option --frobnicate"},
        {"ls -x", "there is no option \"-x\""},
        {"ls -jq", "there is no option \"-jq\""},
        {"watch", "residuum watch JOB"},
        {"watch a b", "\"b\" is too much"},
        {"ls --limit", "--limit N"},
        {"ls --limit 1 --limit 2", "given twice"},
        {"ls --json=yes", "takes no value"},
        {"ls --watch", "residuum ls takes no option --watch"},
        {"devices --limit 3", "residuum devices takes no option --limit"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct args args = {0};
        struct err err;
        assert_int_equal(parse(&args, &err, wrong[i].line), -1);
        assert_int_equal(err_exit(err.code), 2);
        if (strstr(err.text, wrong[i].text) == NULL)
            fail_msg("%s: \"%s\" lacks \"%s\"", wrong[i].line, err.text, wrong[i].text);
    }
}

static void help_needs_no_arguments(void **state) {
    (void)state;
    struct args args = {0};
    struct err err;
    assert_int_equal(parse(&args, &err, "watch --help"), 0);
    assert_non_null(args.option[OPTION_HELP]);
    assert_int_equal(parse(&args, &err, "--version"), 0);
}

/* The text that a function writes. */
static char *written(void (*write)(FILE *, const struct command *), const struct command *command) {
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    write(file, command);
    fclose(file);
    return text;
}

static void write_usage(FILE *file, const struct command *command) {
    (void)command;
    command_usage(file);
}

static void lines_fit(const char *text) {
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > 80)
            fail_msg("longer than 80 columns: %.*s", (int)strcspn(line, "\n"), line);
    }
}

static void help_shows_every_row_in_80_columns(void **state) {
    (void)state;
    char *usage = written(write_usage, NULL);
    lines_fit(usage);
    for (size_t i = 0; i < commands_n; i++) {
        char *help = written(command_help, &commands[i]);
        lines_fit(help);
        assert_non_null(strstr(usage, commands[i].help));
        for (int o = 0; o < OPTIONS_N; o++)
            assert_true((strstr(help, option_rows[o].help) != NULL) ==
                        (option_rows[o].global || (commands[i].options >> o & 1) != 0));
        free(help);
    }
    free(usage);
}

/* --- text --- */

static void hostile_text_is_shown_as_escapes(void **state) {
    (void)state;
    static const struct {
        const char *in, *line, *lines;
    } cases[] = {
        {"plain", "plain", "plain"},
        {"na\xC3\xAFve \xE4\xB8\xAD\xF0\x9F\x98\x80", "na\xC3\xAFve \xE4\xB8\xAD\xF0\x9F\x98\x80", NULL},
        {"\033[31mred\007", "\\x1b[31mred\\x07", "\\x1b[31mred\\x07"},
        {"\033]0;title\033\\", "\\x1b]0;title\\x1b\\", NULL},
        {"a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd", "a\nb\tc\\x0dd"},
        {"\x7F\xC2\x9B"
         "31m",
         "\\x7f\\x9b31m", NULL}, /* DEL, and CSI as one C1 character */
        {"\xE2\x80\xAE"
         "evil\xEF\xBB\xBF",
         "\\u202eevil\\ufeff", NULL}, /* right-to-left override */
        {"\x9B"
         "31m \xC3",
         "\xEF\xBF\xBD"
         "31m \xEF\xBF\xBD",
         NULL},                                                 /* not UTF-8 */
        {"\xC0\x80 \xED\xA0\x80 \xF4\x90\x80\x80", NULL, NULL}, /* overlong, surrogate, beyond Unicode */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *line = text_clean(cases[i].in, TEXT_LINE), *lines = text_clean(cases[i].in, TEXT_LINES);
        if (cases[i].line != NULL)
            assert_string_equal(line, cases[i].line);
        else
            assert_non_null(strstr(line, "\xEF\xBF\xBD"));
        if (cases[i].lines != NULL)
            assert_string_equal(lines, cases[i].lines);
        free(line);
        free(lines);
    }
}

static char *captured; /* what text_put_json or text_put_fit wrote last */

static const char *capture_json(const char *json) {
    size_t size = 0;
    free(captured);
    FILE *file = open_memstream(&captured, &size);
    text_put_json(file, json, strlen(json));
    fclose(file);
    return captured;
}

static const char *capture_fit(const char *text, int width) {
    size_t size = 0;
    free(captured);
    FILE *file = open_memstream(&captured, &size);
    text_put_fit(file, text, width);
    fclose(file);
    return captured;
}

static void json_stays_the_same_document(void **state) {
    (void)state;
    static const char json[] = "{\"a\":\"\xC3\xA4 \xC2\x9B \xF0\x9F\x98\x80 \x7F\",\"n\":0.1}";
    const char *safe = capture_json(json);
    assert_string_equal(safe, "{\"a\":\"\\u00e4 \\u009b \\ud83d\\ude00 \\u007f\",\"n\":0.1}");
    json_t *before = json_loads(json, 0, NULL), *after = json_loads(safe, 0, NULL);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
}

static void width_counts_columns(void **state) {
    (void)state;
    assert_int_equal(text_width(""), 0);
    assert_int_equal(text_width("na\xC3\xAFve"), 5);
    assert_int_equal(text_width("nai\xCC\x88ve"), 5); /* a combining mark */
    assert_int_equal(text_width("\xE4\xB8\xAD\xE6\x96\x87"), 4);
    assert_int_equal(text_width("\xF0\x9F\x98\x80"), 2);
    assert_string_equal(capture_fit("abc", 5), "abc  ");
    assert_string_equal(capture_fit("abcdef", 5), "abcd\xE2\x80\xA6");
    assert_string_equal(capture_fit("\xE4\xB8\xAD\xE6\x96\x87", 3), "\xE4\xB8\xAD\xE2\x80\xA6");
    assert_string_equal(capture_fit("\xE4\xB8\xAD\xE6\x96\x87", 2), "\xE2\x80\xA6 ");
    assert_string_equal(capture_fit("\xE4\xB8\xAD\xE6\x96\x87", 4), "\xE4\xB8\xAD\xE6\x96\x87");
}

/* --- numbers --- */

static void numbers_read_well(void **state) {
    (void)state;
    char t[FORMAT_MAX];
    assert_string_equal(format_count(t, 0), "0");
    assert_string_equal(format_count(t, 999), "999");
    assert_string_equal(format_count(t, 272474), "272,474");
    assert_string_equal(format_count(t, INT64_MIN), "-9,223,372,036,854,775,808");
    assert_string_equal(format_bytes(t, 512), "512 B");
    assert_string_equal(format_bytes(t, 1536 * 1024), "1.5 MiB");
    assert_string_equal(format_flops(t, 0), "0");
    assert_string_equal(format_flops(t, 81.6e6), "81.6 M");
    assert_string_equal(format_share(t, 0.9203), "92.03 %");
    assert_string_equal(format_share(t, NAN), "-");
    assert_string_equal(format_loss(t, 0.31205), "0.3120");
    assert_string_equal(format_loss(t, 1e30), "1.000e+30");
    assert_string_equal(format_loss(t, NAN), "-");
    assert_string_equal(format_speed(t, 1920.5), "1920 images/s");
    assert_string_equal(format_speed(t, 1e300), "1.000e+300 images/s");
    assert_string_equal(format_speed(t, NAN), "- images/s");
}

static void times_read_well(void **state) {
    (void)state;
    char t[FORMAT_MAX];
    assert_string_equal(format_seconds(t, 31.24), "31.2 s");
    assert_string_equal(format_seconds(t, 158), "2 min 38 s");
    assert_string_equal(format_seconds(t, 11100), "3 h 05 min");
    assert_string_equal(format_seconds(t, -1), "-");
    assert_string_equal(format_clock(t, 92.4), "1:32");
    assert_string_equal(format_clock(t, 3725), "1:02:05");
    assert_string_equal(format_clock(t, NAN), "-");
    assert_string_equal(format_clock(t, 1e300), "-");
    assert_string_equal(format_time(t, "2026-11-24T06:50:28.123456Z"), "2026-11-24 06:50:28Z");
    assert_string_equal(format_time(t, ""), "-");
}

static void backoff_doubles_up_to_the_cap(void **state) {
    (void)state;
    assert_int_equal(backoff_ms(0, 3000, 30000, UINT32_MAX), 3000);
    assert_int_equal(backoff_ms(1, 3000, 30000, UINT32_MAX), 6000);
    assert_int_equal(backoff_ms(3, 3000, 30000, UINT32_MAX), 24000);
    assert_int_equal(backoff_ms(4, 3000, 30000, UINT32_MAX), 30000);
    assert_int_equal(backoff_ms(1000000, 3000, 30000, UINT32_MAX), 30000);
    assert_int_equal(backoff_ms(4, 3000, 30000, 0), 0); /* full jitter: from nothing ... */
    assert_int_equal(backoff_ms(4, 3000, 30000, UINT32_MAX / 2), 15000);
    assert_int_equal(backoff_ms(0, 60000, 30000, UINT32_MAX), 30000);
    for (int i = 0; i < 100; i++) {
        assert_in_range(backoff_next_ms(1, 100, 1000, 0), 0, 200);
        assert_in_range(backoff_next_ms(9, 100, 1000, 2), 2000, 2100);
    }
    assert_in_range(backoff_next_ms(0, 1, 1, 1000000000), 600000, 600001);
}

static void keys_differ(void **state) {
    (void)state;
    char a[33], b[33];
    assert_int_equal(backoff_key(a), 0);
    assert_int_equal(backoff_key(b), 0);
    assert_int_equal(strlen(a), 32);
    assert_string_not_equal(a, b);
}

static void fields_have_harmless_values(void **state) {
    (void)state;
    json_t *value = json_loads("{\"a\":{\"b\":{\"c\":7}},\"s\":\"x\",\"r\":2.5,\"big\":1e300,\"n\":null,\"t\":true}", 0, NULL);
    assert_int_equal(field_int(value, "a.b.c"), 7);
    assert_int_equal(field_int(value, "a.b.d"), 0);
    assert_int_equal(field_int(value, "s"), 0);
    assert_int_equal(field_int(value, "r"), 2);
    assert_int_equal(field_int(value, "big"), 0);
    assert_string_equal(field_text(value, "s"), "x");
    assert_string_equal(field_text(value, "a.b.c"), "");
    assert_string_equal(field_text(NULL, "s"), "");
    assert_true(isnan(field_real(value, "n")));
    assert_true(field_real(value, "a.b.c") == 7);
    assert_true(field_true(value, "t") && !field_true(value, "s"));
    json_decref(value);
}

/* --- what goes to standard output --- */

static int real_stdout = -1;

static void begin_capture(void) {
    char name[] = "/tmp/residuum-test-XXXXXX";
    fflush(stdout);
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    unlink(name);
    real_stdout = dup(STDOUT_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

static const char *end_capture(void) {
    static char text[65536];
    fflush(stdout);
    ssize_t n = pread(STDOUT_FILENO, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    dup2(real_stdout, STDOUT_FILENO);
    close(real_stdout);
    return text;
}

static void tables_align_and_clean(void **state) {
    (void)state;
    struct table table;
    struct term term = {.columns = 20};
    struct err err = {0};
    table_init(&table, "lrl");
    table_row(&table, (const char *[]){"A", "N", "NAME"});
    table_row(&table, (const char *[]){"\xE4\xB8\xAD", "7", "a rather long\033[2J name"});
    table_row(&table, (const char *[]){"long", "123", NULL});
    begin_capture();
    int rc = table_print(&table, &term, true, &err);
    const char *text = end_capture();
    assert_int_equal(rc, 0);
    assert_string_equal(text, "A       N  NAME\n\xE4\xB8\xAD      7  a rather long\\x1b[2J name\nlong  123  \n");
    term.tty = true;
    begin_capture();
    table_print(&table, &term, true, &err);
    text = end_capture();
    assert_string_equal(text, "A       N  NAME\n\xE4\xB8\xAD      7  a rather\xE2\x80\xA6\nlong  123  \n");
    table_done(&table);
}

static const char *tick(struct progress *progress, int64_t now_ms) {
    begin_capture();
    progress_tick(progress, now_ms);
    return end_capture();
}

static json_t *progress_data(int step) {
    return json_pack("{s:i,s:i,s:s,s:i,s:i,s:f,s:f,s:f}", "epoch", 2, "epochs", 5, "phase", "train", "step", step, "steps", 469,
                     "loss", 0.3121, "images_per_second", 1803.2, "seconds_left", 92.4);
}

static void a_pipe_gets_a_line_every_two_seconds(void **state) {
    (void)state;
    struct term term = {.columns = 80};
    struct progress progress = {.term = &term, .before = -1};
    assert_string_equal(tick(&progress, 1000), ""); /* nothing is known yet */
    progress_state(&progress, "queued", 2);
    assert_string_equal(tick(&progress, 1000), "queued, 2 jobs before it\n");
    progress_state(&progress, "queued", 2);
    assert_string_equal(tick(&progress, 62000), ""); /* once for each place */
    progress_state(&progress, "queued", 0);
    assert_string_equal(tick(&progress, 63000), "queued, the next to start\n");
    progress_state(&progress, "queued", 0);
    assert_string_equal(tick(&progress, 92000), "");
    progress_state(&progress, "running", -1);
    assert_string_equal(tick(&progress, 94000), "running\n");
    json_t *data = progress_data(100);
    progress_event(&progress, data);
    json_decref(data);
    assert_string_equal(tick(&progress, 95000), "");
    assert_string_equal(tick(&progress, 96000), "epoch 2/5 train  100/469  loss 0.3121  1803 images/s  1:32 left\n");
    assert_string_equal(tick(&progress, 98000), "epoch 2/5 train  100/469  loss 0.3121  1803 images/s  1:32 left\n");
    progress.off = true;
    assert_string_equal(tick(&progress, 200000), "");
}

static void a_terminal_gets_a_bar_that_fits(void **state) {
    (void)state;
    for (int columns = 20; columns <= 200; columns++) {
        struct term term = {.columns = columns, .tty = true};
        struct progress progress = {.term = &term, .before = -1};
        progress_state(&progress, "running", -1);
        json_t *data = progress_data(columns % 2 == 0 ? 469 : 200);
        progress_event(&progress, data);
        json_decref(data);
        const char *text = tick(&progress, 1000);
        assert_memory_equal(text, "\repoch 2/5", 10);
        char line[1024];
        snprintf(line, sizeof line, "%s", text + 1);
        char *end = strstr(line, "\033[K");
        assert_non_null(end);
        *end = '\0';
        assert_true(text_width(line) < columns);
        assert_true((strchr(line, '[') != NULL) == (columns >= 72));
        assert_string_equal(tick(&progress, 9000), ""); /* nothing new */
        progress_state(&progress, "succeeded", -1);
        begin_capture();
        progress_clear(&progress, 9000);
        assert_string_equal(end_capture(), "\r\033[K");
    }
}

static json_t *epoch_of(int classes) {
    json_t *rows = json_array();
    for (int i = 0; i < classes; i++) {
        json_t *row = json_array();
        for (int j = 0; j < classes; j++)
            json_array_append_new(row, json_integer(i == j ? 900 : (i + j) % 7));
        json_array_append_new(rows, row);
    }
    return json_pack("{s:i,s:{s:f,s:f},s:{s:f,s:f,s:o},s:f,s:f,s:f}", "epoch", 2, "train", "loss", 0.31, "accuracy", 0.8895,
                     "test", "loss", 0.3345, "accuracy", 0.879, "confusion", rows, "lr", 0.05, "seconds", 31.2,
                     "images_per_second", 1920.4);
}

static void epochs_fit_a_line(void **state) {
    (void)state;
    struct term term = {.columns = 80};
    json_t *epoch = epoch_of(2);
    begin_capture();
    report_epoch_heading(&term, epoch);
    report_epoch_row(epoch, 5);
    report_epoch_line(epoch, 5);
    const char *text = end_capture();
    assert_string_equal(text,
                        "    epoch  train loss   accuracy  test loss   accuracy        lr        time\n"
                        "      2/5      0.3100    88.95 %     0.3345    87.90 %      0.05      31.2 s\n"
                        "epoch 2/5 done: train loss 0.3100 accuracy 88.95 %, test loss 0.3345 accuracy 87.90 %, lr 0.05, 31.2 s, "
                        "1920 images/s\n");
    json_decref(epoch);
}

static void a_matrix_fits_80_columns_or_is_summed_up(void **state) {
    (void)state;
    struct term term = {.columns = 80};
    json_t *names = json_pack("[s,s,s,s,s,s,s,s,s,s]", "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                              "Sneaker", "Bag", "Ankle \033[31mboot of an endless name");
    json_t *ten = epoch_of(10), *hundred = epoch_of(100);
    begin_capture();
    report_confusion(&term, ten, names);
    const char *text = end_capture();
    lines_fit(text);
    assert_non_null(strstr(text, "T-shirt/top"));
    assert_non_null(strstr(text, "  0  900   1   2   3   4   5   6   0   1   2   97.40 %\n"));
    assert_null(strchr(text, '\033'));
    begin_capture();
    report_confusion(&term, hundred, names);
    text = end_capture();
    lines_fit(text);
    assert_non_null(strstr(text, "Most frequent mistakes"));
    assert_non_null(strstr(text, "       6 times 0 T-shirt/top taken for 6 Shirt\n"));
    json_decref(ten);
    json_decref(hundred);
    json_decref(names);
}

static void a_broken_matrix_is_left_out(void **state) {
    (void)state;
    static const char *const wrong[] = {"{}", "{\"test\":{\"confusion\":[]}}", "{\"test\":{\"confusion\":[[1,2],[3]]}}",
                                        "{\"test\":{\"confusion\":7}}", "{\"test\":{\"confusion\":[1]}}"};
    struct term term = {.columns = 80};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        json_t *epoch = json_loads(wrong[i], 0, NULL);
        begin_capture();
        report_confusion(&term, epoch, NULL);
        assert_string_equal(end_capture(), "");
        json_decref(epoch);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(wrong_command_lines_are_explained),
        cmocka_unit_test(help_needs_no_arguments),
        cmocka_unit_test(help_shows_every_row_in_80_columns),
        cmocka_unit_test(hostile_text_is_shown_as_escapes),
        cmocka_unit_test(json_stays_the_same_document),
        cmocka_unit_test(width_counts_columns),
        cmocka_unit_test(numbers_read_well),
        cmocka_unit_test(times_read_well),
        cmocka_unit_test(backoff_doubles_up_to_the_cap),
        cmocka_unit_test(keys_differ),
        cmocka_unit_test(fields_have_harmless_values),
        cmocka_unit_test(tables_align_and_clean),
        cmocka_unit_test(a_pipe_gets_a_line_every_two_seconds),
        cmocka_unit_test(a_terminal_gets_a_bar_that_fits),
        cmocka_unit_test(epochs_fit_a_line),
        cmocka_unit_test(a_matrix_fits_80_columns_or_is_summed_up),
        cmocka_unit_test(a_broken_matrix_is_left_out),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(captured);
    return failed;
}
