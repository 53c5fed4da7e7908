/* Problem documents as text: see problem.h. */
#include "client/problem.h"

#include <stdlib.h>
#include <string.h>

#include "client/field.h"
#include "client/text.h"
#include "common/json.h"

static json_t *parse(const struct http_response *response) {
    if (strcmp(response->type, "application/problem+json") != 0 && strcmp(response->type, "application/json") != 0)
        return NULL;
    json_t *problem = json_parse(response->body == NULL ? "" : response->body, response->size, NULL);
    if (problem != NULL && !json_is_object(problem)) {
        json_decref(problem);
        return NULL;
    }
    return problem;
}

static void print_clean(FILE *file, const char *before, const char *text, const char *after) {
    fputs(before, file);
    text_put(file, text, strlen(text), TEXT_LINE);
    fputs(after, file);
}

/* Fields are listed, but nothing is said twice: the first line may hold the text of the only one, its pointer too. */
static void print_fields(FILE *file, const json_t *problem, const char *detail) {
    const json_t *errors = json_object_get(problem, "errors"), *item;
    size_t i;
    json_array_foreach(errors, i, item) {
        const char *pointer = field_text(item, "pointer"), *text = field_text(item, "detail");
        bool repeats = json_array_size(errors) == 1 && strstr(detail, text) != NULL;
        if (repeats && strstr(detail, pointer) != NULL)
            return;
        print_clean(file, "  ", pointer[0] == '\0' ? "(document)" : pointer, repeats ? "" : ": ");
        print_clean(file, "", repeats ? "" : text, "\n");
    }
}

static void print_document(FILE *file, const json_t *problem, long status) {
    const char *title = field_text(problem, "title"), *detail = field_text(problem, "detail");
    const char *instance = field_text(problem, "instance");
    print_clean(file, "residuum: ", title[0] == '\0' ? "the server refused" : title, "");
    fprintf(file, " (%ld)", status);
    print_clean(file, detail[0] == '\0' ? "" : ": ", detail, "\n");
    print_fields(file, problem, detail);
    if (status >= 500 && instance[0] != '\0')
        print_clean(file, "  request ", instance, " (the server's log has it)\n");
}

void problem_print(FILE *file, const struct http_response *response) {
    json_t *problem = parse(response);
    if (problem != NULL)
        print_document(file, problem, response->status);
    else
        fprintf(file, "residuum: the server answered with status %ld and no explanation (is it a residuum server?)\n",
                response->status);
    if (response->retry_after_s > 0)
        fprintf(file, "  it asks to try again in %lld s\n", (long long)response->retry_after_s);
    json_decref(problem);
}

static int exit_by_status(long status) {
    if (status == 401 || status == 403)
        return err_exit(ERR_FORBIDDEN);
    if (status == 404)
        return err_exit(ERR_NOT_FOUND);
    if (status == 409 || status == 429)
        return err_exit(ERR_CONFLICT);
    return status >= 400 && status < 500 ? err_exit(ERR_REQUEST) : err_exit(ERR_INTERNAL);
}

int problem_exit(const struct http_response *response) {
    static const char prefix[] = "/problems/";
    json_t *problem = parse(response);
    const char *type = field_text(problem, "type");
    int code = exit_by_status(response->status);
    if (strncmp(type, prefix, sizeof prefix - 1) == 0) {
#define BY_NAME(row, name, http, exit_code)                         \
    if (http >= 400 && strcmp(type + sizeof prefix - 1, name) == 0) \
        code = exit_code;
        ERR_CODES(BY_NAME)
#undef BY_NAME
    }
    json_decref(problem);
    return code;
}
