/* What must stay the same when one job goes on from another: see spec.h. */
#include "common/spec.h"

static const struct {
    const char *section, *key, *pointer;
} fixed[] = {{NULL, "dataset", "/dataset"},
             {NULL, "pad", "/pad"},
             {NULL, "model", "/model"},
             {NULL, "seed", "/seed"},
             {NULL, "batch_size", "/batch_size"},
             {"optimizer", "kind", "/optimizer/kind"},
             {NULL, "average_decay", "/average_decay"},
             {NULL, "validation_fraction", "/validation_fraction"},
             {NULL, "train_limit", "/train_limit"},
             {NULL, "test_limit", "/test_limit"}};

static const json_t *field(const json_t *spec, const char *section, const char *key) {
    return json_object_get(section != NULL ? json_object_get(spec, section) : spec, key);
}

int spec_check_resume(const json_t *was, const json_t *is, const char *job, struct err *err) {
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (json_equal(field(was, fixed[i].section, fixed[i].key), field(is, fixed[i].section, fixed[i].key)) != 1)
            return err_at(err, ERR_FIELD, fixed[i].pointer,
                          "is not what job %s had; with \"resume\" it is one training and cannot change", job);
    return 0;
}
