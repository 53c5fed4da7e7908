/* The command report: how well each class is recognized, and what is confused. */
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/field.h"
#include "client/format.h"
#include "client/results.h"
#include "client/table.h"

enum { CONFUSED_DEFAULT = 4, CONFUSED_MOST = 10, EPOCH_MOST = 1000000 };

static const char *class_name(const json_t *names, size_t class, char room[FORMAT_MAX]) {
    const char *name = json_string_value(json_array_get(names, class));
    snprintf(room, FORMAT_MAX, "%zu", class);
    return name != NULL ? name : room;
}

static const char *share(char text[FORMAT_MAX], const json_t *value) {
    return format_share(text, json_number_value(value));
}

static void add_class(struct table *table, const json_t *report, const json_t *names, size_t class) {
    char number[FORMAT_MAX], room[FORMAT_MAX], precision[FORMAT_MAX], recall[FORMAT_MAX], f1[FORMAT_MAX], support[FORMAT_MAX];
    snprintf(number, sizeof number, "%zu", class);
    table_row(table, (const char *[]){
                         number, class_name(names, class, room),
                         share(precision, json_array_get(json_object_get(report, "precision"), class)),
                         share(recall, json_array_get(json_object_get(report, "recall"), class)),
                         share(f1, json_array_get(json_object_get(report, "f1"), class)),
                         format_count(support, json_integer_value(json_array_get(json_object_get(report, "support"), class)))});
}

static void add_mean(struct table *table, const json_t *report, const char *key, const char *title) {
    const json_t *mean = json_object_get(report, key);
    char precision[FORMAT_MAX], recall[FORMAT_MAX], f1[FORMAT_MAX];
    table_row(table,
              (const char *[]){"", title, share(precision, json_object_get(mean, "precision")),
                               share(recall, json_object_get(mean, "recall")), share(f1, json_object_get(mean, "f1")), ""});
}

static void fill_report(struct table *table, const json_t *report, const json_t *names) {
    table_init(table, "rlrrrr");
    table_row(table, (const char *[]){"", "CLASS", "PRECISION", "RECALL", "F1", "IMAGES"});
    for (size_t i = 0; i < json_array_size(json_object_get(report, "support")); i++)
        add_class(table, report, names, i);
    add_mean(table, report, "macro", "mean of classes");
    add_mean(table, report, "weighted", "mean of images");
}

static void fill_confused(struct table *table, const json_t *confused, const json_t *names, size_t most) {
    const json_t *classes = json_object_get(confused, "classes"), *pairs = json_object_get(confused, "pairs");
    table_init(table, "lrllr");
    table_row(table, (const char *[]){"MOST CONFUSED", "MISTAKES", "IS", "TAKEN FOR", "TIMES"});
    for (size_t i = 0; i < most && (i < json_array_size(classes) || i < json_array_size(pairs)); i++) {
        const json_t *class = json_array_get(classes, i), *pair = json_array_get(pairs, i);
        char room[3][FORMAT_MAX], mistakes[FORMAT_MAX], times[FORMAT_MAX];
        table_row(table, (const char *[]){class != NULL ? class_name(names, (size_t)field_int(class, "class"), room[0]) : "",
                                          class != NULL ? format_count(mistakes, field_int(class, "count")) : "",
                                          pair != NULL ? class_name(names, (size_t)field_int(pair, "true"), room[1]) : "",
                                          pair != NULL ? class_name(names, (size_t)field_int(pair, "predicted"), room[2]) : "",
                                          pair != NULL ? format_count(times, field_int(pair, "count")) : ""});
    }
}

static void print_summary(const json_t *epoch) {
    char accuracy[FORMAT_MAX], top5[FORMAT_MAX], ece[FORMAT_MAX];
    printf("Epoch %lld: test accuracy %s", (long long)field_int(epoch, "epoch"),
           format_share(accuracy, field_real(epoch, "test.accuracy")));
    if (json_is_number(field_at(epoch, "test.top5")))
        printf(", among the first five %s", format_share(top5, field_real(epoch, "test.top5")));
    printf(", calibration error %s\n\n", format_share(ece, field_real(epoch, "test.ece")));
}

static int print_tables(const struct client *client, const json_t *epoch, const json_t *names, size_t most) {
    struct table report, confused;
    struct err err = {0};
    fill_report(&report, field_at(epoch, "test.report"), names);
    fill_confused(&confused, field_at(epoch, "test.most_confused"), names, most);
    print_summary(epoch);
    if (table_print(&report, &client->term, true, &err) == 0 && confused.cells_n > confused.columns) {
        putchar('\n');
        table_print(&confused, &client->term, true, &err);
    }
    table_done(&report);
    table_done(&confused);
    return err.code == ERR_NONE ? 0 : client_fail(&err);
}

/* The epoch with its class names; --json prints only the report. */
static int print_report(const struct client *client, const json_t *epoch, size_t most) {
    char path[96];
    json_t *job = NULL, *body = NULL;
    snprintf(path, sizeof path, "/v1/jobs/%s", client->args->argument[0]);
    int code = client_get(client, path, &job);
    if (code == 0)
        code = print_tables(client, epoch, results_class_names(client, job, &body), most);
    json_decref(job);
    json_decref(body);
    return code;
}

int command_report(struct client *client) {
    long most = 0, number = 0;
    char rest[48] = "/epochs/last", *path = NULL;
    json_t *epoch = NULL;
    int code = client_number(client, OPTION_CONFUSED, CONFUSED_MOST, CONFUSED_DEFAULT, &most);
    if (code == 0)
        code = client_number(client, OPTION_EPOCH, EPOCH_MOST, 0, &number);
    if (number > 0)
        snprintf(rest, sizeof rest, "/epochs/%ld", number);
    if (code == 0)
        code = client_job_path(client, rest, &path);
    if (code == 0)
        code = client_get(client, path, &epoch);
    if (code == 0)
        code = client->json ? results_print_json(field_at(epoch, "test.report")) : print_report(client, epoch, (size_t)most);
    json_decref(epoch);
    free(path);
    return code;
}
