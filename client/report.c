/* Epochs and confusion matrices as text: see report.h. */
#include "client/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/format.h"
#include "client/text.h"

/* --- epochs --- */

static bool has_validation(const json_t *epoch) {
    return json_is_object(json_object_get(epoch, "validation"));
}

void report_epoch_heading(const struct term *term, const json_t *epoch) {
    const char *bold = term_paint(term, PAINT_BOLD), *plain = term_plain(term);
    if (has_validation(epoch))
        printf("%s%9s %10s %8s %9s %8s %9s %8s %10s%s\n", bold, "epoch", "train loss", "accuracy", "val. loss", "accuracy",
               "test loss", "accuracy", "time", plain);
    else
        printf("%s%9s  %10s  %9s  %9s  %9s  %8s  %10s%s\n", bold, "epoch", "train loss", "accuracy", "test loss", "accuracy",
               "lr", "time", plain);
}

struct epoch_text {
    char train_loss[FORMAT_MAX], train_share[FORMAT_MAX], validation_loss[FORMAT_MAX], validation_share[FORMAT_MAX];
    char test_loss[FORMAT_MAX], test_share[FORMAT_MAX], seconds[FORMAT_MAX], speed[FORMAT_MAX];
    double lr;
    long long number;
};

static struct epoch_text describe(const json_t *epoch) {
    struct epoch_text text = {.lr = field_real(epoch, "lr"), .number = (long long)field_int(epoch, "epoch")};
    format_loss(text.train_loss, field_real(epoch, "train.loss"));
    format_share(text.train_share, field_real(epoch, "train.accuracy"));
    format_loss(text.validation_loss, field_real(epoch, "validation.loss"));
    format_share(text.validation_share, field_real(epoch, "validation.accuracy"));
    format_loss(text.test_loss, field_real(epoch, "test.loss"));
    format_share(text.test_share, field_real(epoch, "test.accuracy"));
    format_seconds(text.seconds, field_real(epoch, "seconds"));
    format_speed(text.speed, field_real(epoch, "images_per_second"));
    return text;
}

void report_epoch_row(const json_t *epoch, int epochs) {
    struct epoch_text text = describe(epoch);
    char number[FORMAT_MAX];
    snprintf(number, sizeof number, "%lld/%d", text.number, epochs);
    if (has_validation(epoch))
        printf("%9s %10s %8s %9s %8s %9s %8s %10s\n", number, text.train_loss, text.train_share, text.validation_loss,
               text.validation_share, text.test_loss, text.test_share, text.seconds);
    else
        printf("%9s  %10s  %9s  %9s  %9s  %8.3g  %10s\n", number, text.train_loss, text.train_share, text.test_loss,
               text.test_share, text.lr, text.seconds);
}

void report_epoch_line(const json_t *epoch, int epochs) {
    struct epoch_text text = describe(epoch);
    printf("epoch %lld/%d done: train loss %s accuracy %s, ", text.number, epochs, text.train_loss, text.train_share);
    if (has_validation(epoch))
        printf("validation loss %s accuracy %s, ", text.validation_loss, text.validation_share);
    printf("test loss %s accuracy %s, lr %.3g, %s, %s\n", text.test_loss, text.test_share, text.lr, text.seconds, text.speed);
}

/* --- confusion matrix --- */

enum { CLASSES_MAX = 256, LABEL_MAX = 16, MATRIX_COLUMNS = 80, MISTAKES_SHOWN = 10 };

struct matrix {
    const json_t *rows;
    int classes;
    char *labels[CLASSES_MAX]; /* clean class names, "" where there is none */
    int label_width, cell_width;
};

static long long cell(const struct matrix *matrix, int row, int column) {
    return (long long)json_integer_value(json_array_get(json_array_get(matrix->rows, (size_t)row), (size_t)column));
}

static bool well_formed(const json_t *rows) {
    size_t n = json_array_size(rows);
    for (size_t i = 0; i < n; i++)
        if (json_array_size(json_array_get(rows, i)) != n)
            return false;
    return n > 0 && n <= CLASSES_MAX;
}

static void set_labels(struct matrix *matrix, const json_t *names) {
    for (int i = 0; i < matrix->classes; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        matrix->labels[i] = name == NULL ? NULL : text_clean(name, TEXT_LINE);
        int width = matrix->labels[i] == NULL ? 0 : text_width(matrix->labels[i]);
        if (width > matrix->label_width)
            matrix->label_width = width < LABEL_MAX ? width : LABEL_MAX;
    }
}

static void set_cell_width(struct matrix *matrix) {
    char text[FORMAT_MAX];
    int most = snprintf(text, sizeof text, "%d", matrix->classes - 1);
    for (int i = 0; i < matrix->classes; i++)
        for (int j = 0; j < matrix->classes; j++) {
            int n = snprintf(text, sizeof text, "%lld", cell(matrix, i, j));
            most = n > most ? n : most;
        }
    matrix->cell_width = most + 1;
}

static const char *label(const struct matrix *matrix, int i) {
    return matrix->labels[i] == NULL ? "" : matrix->labels[i];
}

static void print_heading(const struct matrix *matrix) {
    printf("%*s", matrix->label_width + 5, "");
    for (int j = 0; j < matrix->classes; j++)
        printf("%*d", matrix->cell_width, j);
    printf("%10s\n", "right");
}

static void print_matrix_row(const struct matrix *matrix, const struct term *term, int row) {
    long long sum = 0;
    char share[FORMAT_MAX];
    text_put_fit(stdout, label(matrix, row), matrix->label_width);
    printf("%4d ", row);
    for (int j = 0; j < matrix->classes; j++) {
        long long count = cell(matrix, row, j);
        enum paint paint = j == row ? PAINT_GOOD : PAINT_DIM;
        bool painted = j == row || count == 0;
        printf("%s%*lld%s", painted ? term_paint(term, paint) : "", matrix->cell_width, count, painted ? term_plain(term) : "");
        sum += count;
    }
    printf("%10s\n", format_share(share, sum > 0 ? (double)cell(matrix, row, row) / (double)sum : NAN));
}

static void print_matrix(const struct matrix *matrix, const struct term *term) {
    puts("Confusion matrix (rows: true class, columns: predicted class)");
    print_heading(matrix);
    for (int i = 0; i < matrix->classes; i++)
        print_matrix_row(matrix, term, i);
}

struct mistake {
    long long count;
    int truth, predicted;
};

/* Keeps the best sorted by count, most frequent first. */
static void consider(struct mistake best[MISTAKES_SHOWN], struct mistake mistake) {
    for (int i = 0; i < MISTAKES_SHOWN; i++)
        if (mistake.count > best[i].count) {
            struct mistake pushed = best[i];
            best[i] = mistake;
            mistake = pushed;
        }
}

static void print_mistakes(const struct matrix *matrix) {
    struct mistake best[MISTAKES_SHOWN] = {0};
    for (int i = 0; i < matrix->classes; i++)
        for (int j = 0; j < matrix->classes; j++)
            if (i != j)
                consider(best, (struct mistake){.count = cell(matrix, i, j), .truth = i, .predicted = j});
    printf("Most frequent mistakes (the matrix of %d classes is too wide to print)\n", matrix->classes);
    for (int i = 0; i < MISTAKES_SHOWN && best[i].count > 0; i++)
        printf("%8lld times %d %s taken for %d %s\n", best[i].count, best[i].truth, label(matrix, best[i].truth),
               best[i].predicted, label(matrix, best[i].predicted));
}

void report_confusion(const struct term *term, const json_t *epoch, const json_t *names) {
    struct matrix matrix = {.rows = field_at(epoch, "test.confusion")};
    if (!well_formed(matrix.rows))
        return;
    matrix.classes = (int)json_array_size(matrix.rows);
    set_labels(&matrix, names);
    set_cell_width(&matrix);
    int columns = term->tty && term->columns > MATRIX_COLUMNS ? term->columns : MATRIX_COLUMNS;
    if (matrix.label_width + 5 + matrix.classes * matrix.cell_width + 10 <= columns)
        print_matrix(&matrix, term);
    else
        print_mistakes(&matrix);
    for (int i = 0; i < matrix.classes; i++)
        free(matrix.labels[i]);
}
