/* Parts of a JSON document by their paths: see pick.h. */
#include "server/api/pick.h"

#include <stdbool.h>
#include <string.h>

static int add_path(struct pick *pick, const char *path, size_t size, struct err *err) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_.";
    if (size == 0 || size >= PICK_PATH_MAX || strspn(path, letters) < size)
        return err_at(err, ERR_FIELD, "?fields", "\"%.*s\" is no field of an epoch; \"train,test.accuracy\" are two",
                      (int)(size < PICK_PATH_MAX ? size : PICK_PATH_MAX), path);
    if (pick->n == PICK_MAX)
        return err_at(err, ERR_FIELD, "?fields", "fields names more than %d fields", (int)PICK_MAX);
    memcpy(pick->paths[pick->n], path, size);
    pick->paths[pick->n++][size] = '\0';
    return 0;
}

int pick_parse(const char *text, struct pick *ret_pick, struct err *err) {
    struct pick pick = {0};
    while (text != NULL) {
        size_t size = strcspn(text, ",");
        if (add_path(&pick, text, size, err) != 0)
            return -1;
        text = text[size] == ',' ? text + size + 1 : NULL;
    }
    *ret_pick = pick;
    return 0;
}

/* The object under a key, made when there is none; NULL when out of memory or when a whole value was picked there. */
static json_t *inner(json_t *object, const char *key) {
    if (json_object_get(object, key) == NULL)
        json_object_set_new(object, key, json_object());
    return json_object_get(object, key);
}

/* Copies one part; what is not there is left out. -1: out of memory. */
static int copy(json_t *to, const json_t *from, const char *path) {
    char key[PICK_PATH_MAX];
    size_t size = strcspn(path, ".");
    memcpy(key, path, size);
    key[size] = '\0';
    json_t *value = json_object_get(from, key);
    if (value == NULL)
        return 0;
    if (path[size] == '\0')
        return json_object_set(to, key, value);
    if (!json_is_object(value) || json_object_get(to, key) == value) /* nothing within, or all of it already */
        return 0;
    json_t *place = inner(to, key);
    return place != NULL ? copy(place, value, path + size + 1) : -1;
}

json_t *pick_from(const struct pick *pick, const json_t *object) {
    json_t *parts = json_object();
    for (int i = 0; i < pick->n && parts != NULL; i++) {
        if (copy(parts, object, pick->paths[i]) != 0) {
            json_decref(parts);
            parts = NULL;
        }
    }
    return parts;
}
