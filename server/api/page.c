/* Pages of events, formatted once and shared: when three hundred streams stand at the same place, one of them asks the store. */
#include <stdlib.h>
#include <string.h>

#include "server/api/private.h"

enum { PAGE_ROWS = 500, PAGE_BYTES = 256 * 1024 };

struct page {
    int refs;
    char job[JOB_ID_MAX];
    int64_t after, scanned, events;
    struct text text;
};

void page_release(struct page *page) {
    if (page == NULL || --page->refs > 0)
        return;
    text_done(&page->text);
    free(page);
}

const struct text *page_text(const struct page *page) {
    return &page->text;
}

int64_t page_scanned(const struct page *page) {
    return page->scanned;
}

int64_t page_events(const struct page *page) {
    return page->events;
}

/* Bodies are JSON on one line: they hold no raw line ends. */
static int add_event(void *arg, const struct event *event) {
    struct page *page = arg;
    text_printf(&page->text, "id: %lld\nevent: %s\ndata: ", (long long)event->id, event->type);
    text_puts(&page->text, event->body);
    text_puts(&page->text, "\n\n");
    page->events++;
    return page->text.failed || page->text.size >= PAGE_BYTES;
}

static struct page *read_page(struct api *api, const char *job, int64_t after, struct err *err) {
    struct page *page = calloc(1, sizeof *page);
    if (page == NULL) {
        err_set(err, ERR_MEMORY, "cannot read events: out of memory");
        return NULL;
    }
    page->refs = 1;
    page->after = after;
    strncpy(page->job, job, sizeof page->job - 1);
    int failed = store_event_list(api->options.store, &api->viewer, job[0] != '\0' ? job : NULL, after, PAGE_ROWS, add_event,
                                  page, &page->scanned, err);
    if (failed == 0 && page->text.failed)
        failed = err_set(err, ERR_MEMORY, "cannot read events: out of memory");
    if (failed == 0)
        return page;
    page_release(page);
    return NULL;
}

/* A kept page may end before the newest event: what came later is the next page's. */
struct page *page_get(struct api *api, const char *job, int64_t after, struct err *err) {
    for (size_t i = 0; i < PAGES_N; i++) {
        struct page *page = api->pages[i];
        if (page != NULL && page->after == after && strcmp(page->job, job) == 0 && page->scanned > after) {
            page->refs++;
            return page;
        }
    }
    struct page *page = read_page(api, job, after, err);
    if (page == NULL)
        return NULL;
    page_release(api->pages[api->pages_turn]);
    api->pages[api->pages_turn] = page;
    api->pages_turn = (api->pages_turn + 1) % PAGES_N;
    page->refs++;
    return page;
}

void pages_drop(struct api *api) {
    for (size_t i = 0; i < PAGES_N; i++) {
        page_release(api->pages[i]);
        api->pages[i] = NULL;
    }
}
