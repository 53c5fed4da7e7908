/* The card of the data set that a spec names: a built-in one, or an imported one of the viewer's. */
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "server/api/private.h"
#include "server/api/submit.h"

static int read_card(struct card_search *search, const struct dataset *dataset) {
    if (dataset->state != DATASET_READY)
        return err_at(&search->why, ERR_FIELD, "/dataset", "data set \"%s\" cannot be used: it is %s", dataset->name,
                      dataset_state_name(dataset->state));
    json_t *card = json_parse(dataset->card, strlen(dataset->card), &search->why);
    int failed = card == NULL ? -1 : dataset_card_read(card, &search->import, &search->why);
    json_decref(card);
    if (failed == 0)
        memcpy(search->found, dataset->id, sizeof search->found);
    return failed;
}

static const struct dataset_card *find(void *arg, const char *name) {
    struct card_search *search = arg;
    struct store *store = search->api->options.store;
    const char *id = search->job_dataset;
    const struct viewer everything = {.sees_all = true}; /* who sees a job sees what it is trained on */
    const struct dataset_card *builtin = id == NULL || id[0] == '\0' ? dataset_find(name) : NULL;
    struct dataset dataset = {0};
    struct err none = {0};
    if (builtin != NULL || search->import != NULL)
        return builtin != NULL ? builtin : &search->import->card;
    int failed = id == NULL ? store_dataset_named(store, &search->api->viewer, name, &dataset, &none)
                            : store_dataset_get(store, &everything, id, &dataset, &none);
    if (failed == 0)
        failed = read_card(search, &dataset);
    dataset_done(&dataset);
    return failed == 0 ? &search->import->card : NULL;
}

struct spec_context card_context(struct card_search *search, int threads_default, int threads_max) {
    struct spec_context context = spec_context_builtin(threads_default, threads_max);
    context.find_dataset = find;
    context.arg = search;
    return context;
}

void card_explain(const struct card_search *search, struct err_list *errors) {
    for (size_t i = 0; i < errors->n && search->why.code != ERR_NONE; i++) {
        if (strcmp(errors->items[i].pointer, "/dataset") == 0)
            snprintf(errors->items[i].text, sizeof errors->items[i].text, "%s", search->why.text);
    }
}

void card_search_done(struct card_search *search) {
    dataset_import_free(search->import);
    search->import = NULL;
}
