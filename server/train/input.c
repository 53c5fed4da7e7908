/* Reads the daemon's line: see input.h. */
#include "server/train/input.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 4096 };

ssize_t input_line(char *line, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(STDIN_FILENO, line + got, size - got);
        if (n < 0)
            return errno == EINTR ? -1 : 0;
        if (n == 0)
            return 0;
        const char *end = memchr(line + got, '\n', (size_t)n);
        if (end != NULL)
            return end - line;
        got += (size_t)n;
    }
    return 0;
}

static const struct dataset_card *given_card(void *arg, const char *name) {
    (void)name;
    return arg;
}

int input_spec(const json_t *document, const struct dataset_card *card, struct spec *ret_spec, struct err *err) {
    struct spec_context context = spec_context_builtin(1, THREADS_MAX);
    if (card != NULL) {
        context.find_dataset = given_card;
        context.arg = (void *)card;
    }
    struct err_list errors = {0};
    if (spec_parse(document, &context, ret_spec, &errors) == 0)
        return 0;
    if (errors.n == 0)
        return err_set(err, ERR_INTERNAL, "the job's spec was refused without a reason");
    return err_at(err, errors.items[0].code, errors.items[0].pointer, "%s", errors.items[0].text);
}
