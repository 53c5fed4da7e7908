/* Tests of the choice of the best epoch and of early stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/train/select.h"

static struct spec spec_of(enum spec_selection metric, int patience, double min_delta) {
    struct spec spec = {0};
    spec.selection.metric = metric;
    spec.selection.patience = patience;
    spec.selection.min_delta = min_delta;
    return spec;
}

/* Adds epochs 1 to n, whose loss and accuracy are the given numbers, until it stops; returns how many it took. */
static int add_all(struct selection *selection, const struct spec *spec, const double *values, int n) {
    for (int epoch = 1; epoch <= n; epoch++) {
        selection_add(selection, spec, epoch, values[epoch - 1], values[epoch - 1]);
        if (selection_stops(selection, spec))
            return epoch;
    }
    return n;
}

static void the_highest_accuracy_is_best(void **state) {
    (void)state;
    static const double values[] = {0.5, 0.7, 0.6, 0.7, 0.65};
    struct spec spec = spec_of(SELECTION_ACCURACY, 0, 0);
    struct selection selection = {0};
    assert_int_equal(add_all(&selection, &spec, values, 5), 5);
    assert_int_equal(selection.best_epoch, 2); /* the first of equals */
    assert_true(selection.best == 0.7);
}

static void the_lowest_loss_is_best(void **state) {
    (void)state;
    static const double values[] = {0.5, 0.7, 0.3, 0.4};
    struct spec spec = spec_of(SELECTION_LOSS, 0, 0);
    struct selection selection = {0};
    add_all(&selection, &spec, values, 4);
    assert_int_equal(selection.best_epoch, 3);
}

static void an_accuracy_of_zero_is_an_accuracy(void **state) {
    (void)state;
    static const double values[] = {0, 0};
    struct spec spec = spec_of(SELECTION_ACCURACY, 0, 0);
    struct selection selection = {0};
    add_all(&selection, &spec, values, 2);
    assert_int_equal(selection.best_epoch, 1);
}

static void patience_counts_epochs_without_improvement(void **state) {
    (void)state;
    static const double values[] = {0.5, 0.4, 0.6, 0.6, 0.55, 0.9};
    struct spec spec = spec_of(SELECTION_ACCURACY, 2, 0);
    struct selection selection = {0};
    assert_int_equal(add_all(&selection, &spec, values, 6), 5);
    assert_int_equal(selection.best_epoch, 3);
}

/* Small steps are too little for patience each, but still make the best epoch; together they count. */
static void min_delta_is_for_patience_only(void **state) {
    (void)state;
    static const double values[] = {0.50, 0.54, 0.58, 0.62, 0.66, 0.66, 0.66};
    struct spec spec = spec_of(SELECTION_ACCURACY, 3, 0.1);
    struct selection selection = {0};
    assert_int_equal(add_all(&selection, &spec, values, 7), 7); /* 0.62 counts, then three do not */
    assert_int_equal(selection.best_epoch, 5);
    assert_true(selection.reference == 0.62);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_accuracy_is_best),       cmocka_unit_test(the_lowest_loss_is_best),
        cmocka_unit_test(an_accuracy_of_zero_is_an_accuracy), cmocka_unit_test(patience_counts_epochs_without_improvement),
        cmocka_unit_test(min_delta_is_for_patience_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
