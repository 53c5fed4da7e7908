/* Whether the numbers of one epoch agree with each other: see consistent.h. */
#include "server/sched/consistent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOP = 5 };

static json_int_t int_of(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

static json_int_t cell(const json_t *rows, size_t row, size_t column) {
    return json_integer_value(json_array_get(json_array_get(rows, row), column));
}

/* --- the test set: everything follows from the confusion matrix --- */

static json_int_t row_sum(const json_t *confusion, size_t row) {
    json_int_t sum = 0;
    for (size_t column = 0; column < json_array_size(confusion); column++)
        sum += cell(confusion, row, column);
    return sum;
}

/* Images of a class taken for others, and others for it. */
static json_int_t mistakes_of(const json_t *confusion, size_t class) {
    json_int_t sum = 0;
    for (size_t other = 0; other < json_array_size(confusion); other++)
        sum += other == class ? 0 : cell(confusion, class, other) + cell(confusion, other, class);
    return sum;
}

static int check_images(const json_t *test, size_t classes, struct err *err) {
    const json_t *softmax = json_object_get(test, "softmax"), *labels = json_object_get(test, "labels");
    size_t i;
    json_t *label;
    if (json_array_size(labels) != json_array_size(softmax) || json_array_size(json_array_get(softmax, 0)) != classes)
        return err_set(err, ERR_PROTOCOL, "\"labels\", \"softmax\" and \"confusion\" of an epoch do not fit together");
    json_array_foreach(labels, i, label) {
        if (json_integer_value(label) >= (json_int_t)classes)
            return err_set(err, ERR_PROTOCOL, "a label of an epoch is no class of its confusion matrix");
    }
    return 0;
}

static int check_report(const json_t *report, const json_t *confusion, struct err *err) {
    static const char *const lists[] = {"precision", "recall", "f1", "support"};
    const json_t *support = json_object_get(report, "support");
    size_t classes = json_array_size(confusion);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (json_array_size(json_object_get(report, lists[i])) != classes)
            return err_set(err, ERR_PROTOCOL, "\"%s\" of an epoch's report has not one value a class", lists[i]);
    }
    for (size_t i = 0; i < classes; i++) {
        if (json_integer_value(json_array_get(support, i)) != row_sum(confusion, i))
            return err_set(err, ERR_PROTOCOL, "\"support\" of an epoch's report is not what its confusion matrix says");
    }
    return 0;
}

/* What a row of "most_confused" should count, or -1 when it names no class. */
typedef json_int_t expected_fn(const json_t *row, const json_t *confusion);

static json_int_t pair_count(const json_t *row, const json_t *confusion) {
    json_int_t truth = int_of(row, "true"), predicted = int_of(row, "predicted"), n = (json_int_t)json_array_size(confusion);
    return truth < n && predicted < n && truth != predicted ? cell(confusion, (size_t)truth, (size_t)predicted) : -1;
}

static json_int_t class_count(const json_t *row, const json_t *confusion) {
    json_int_t class = int_of(row, "class");
    return class < (json_int_t)json_array_size(confusion) ? mistakes_of(confusion, (size_t)class) : -1;
}

static int check_confused(const json_t *rows, const json_t *confusion, expected_fn *expected, struct err *err) {
    size_t i;
    json_t *row;
    json_int_t before = INT64_MAX;
    json_array_foreach(rows, i, row) {
        json_int_t count = int_of(row, "count");
        if (count != expected(row, confusion) || count > before)
            return err_set(err, ERR_PROTOCOL, "\"most_confused\" of an epoch is not what its confusion matrix says, most first");
        before = count;
    }
    return 0;
}

static int check_test(const json_t *test, struct err *err) {
    const json_t *confusion = json_object_get(test, "confusion"), *confused = json_object_get(test, "most_confused");
    size_t classes = json_array_size(confusion);
    if (json_array_size(json_array_get(confusion, 0)) != classes)
        return err_set(err, ERR_PROTOCOL, "\"confusion\" of an epoch is not square");
    if (check_images(test, classes, err) != 0 || check_report(json_object_get(test, "report"), confusion, err) != 0 ||
        check_confused(json_object_get(confused, "pairs"), confusion, pair_count, err) != 0)
        return -1;
    return check_confused(json_object_get(confused, "classes"), confusion, class_count, err);
}

/* --- the rest --- */

static int check_lengths(const json_t *columns, const char *where, struct err *err) {
    size_t rows = json_array_size(json_object_get(columns, "name"));
    const char *name;
    json_t *column;
    json_object_foreach((json_t *)columns, name, column) {
        if (json_array_size(column) != rows)
            return err_set(err, ERR_PROTOCOL, "\"%s\" of %s of an epoch has not one value a layer", name, where);
    }
    return 0;
}

/* Top-5 accuracy says something with more classes than that only. */
static bool top5_fits(const json_t *figures, size_t classes) {
    return json_is_null(json_object_get(figures, "top5")) == (classes <= TOP);
}

int epoch_consistent(const json_t *epoch, struct err *err) {
    const json_t *test = json_object_get(epoch, "test"), *validation = json_object_get(epoch, "validation");
    const json_t *layers = json_object_get(epoch, "layers");
    size_t classes = json_array_size(json_object_get(test, "confusion"));
    if (check_test(test, err) != 0 || check_lengths(json_object_get(layers, "weights"), "\"weights\"", err) != 0 ||
        check_lengths(json_object_get(layers, "activations"), "\"activations\"", err) != 0)
        return -1;
    if (!top5_fits(test, classes) || (json_is_object(validation) && !top5_fits(validation, classes)))
        return err_set(err, ERR_PROTOCOL, "\"top5\" of an epoch must be null with %d classes or fewer, and only then", TOP);
    if (json_is_null(validation) != json_is_null(json_object_get(epoch, "best")))
        return err_set(err, ERR_PROTOCOL, "\"best\" of an epoch must be null without a validation set, and only then");
    return 0;
}
