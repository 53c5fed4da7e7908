/* Checks and keeps names: see names.h. */
#include "server/train/import/names.h"

#include <stdlib.h>
#include <string.h>

#include "server/train/import/import.h"

/* Length of the UTF-8 sequence at text (RFC 3629: shortest form, no surrogates, up to U+10FFFF); 0: none. */
static int sequence(const unsigned char *text) {
    unsigned char c = text[0];
    if (c < 0x80)
        return c != 0;
    int length = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    for (int i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool wrong = (c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) || (c == 0xf0 && text[1] < 0x90) ||
                 (c == 0xf4 && text[1] > 0x8f);
    return length == 0 || wrong ? 0 : length;
}

void name_show(const char *name, char *ret_text, size_t size) {
    size_t used = 0;
    while (*name != '\0') {
        int length = sequence((const unsigned char *)name), taken = length > 0 ? length : 1;
        if (used + (size_t)taken >= size)
            break;
        if (length > 0)
            memcpy(ret_text + used, name, (size_t)length);
        else
            ret_text[used] = '?';
        used += (size_t)taken;
        name += taken;
    }
    ret_text[used] = '\0';
}

static int check_bytes(const char *name, struct err *err) {
    for (const char *at = name; *at != '\0';) {
        int length = sequence((const unsigned char *)at);
        if (length == 0)
            return err_set(err, ERR_DATA, "its name is not UTF-8");
        if (length == 1 && ((unsigned char)*at < 0x20 || *at == 0x7f || *at == '\\'))
            return err_set(err, ERR_DATA, "its name holds a backslash or a control character");
        at += length;
    }
    return 0;
}

static int check_component(const char *component, size_t length, struct err *err) {
    if (length == 0 || length > IMPORT_COMPONENT_MAX)
        return err_set(err, ERR_DATA, "a part of its name has %zu bytes; 1 to %d are possible", length, IMPORT_COMPONENT_MAX);
    if (length == 2 && memcmp(component, "..", 2) == 0)
        return err_set(err, ERR_DATA, "its name climbs out of the archive (\"..\")");
    return 0;
}

int name_check(const char *name, struct err *err) {
    if (name[0] == '/')
        return err_set(err, ERR_DATA, "its name is absolute");
    if (strlen(name) > IMPORT_NAME_MAX)
        return err_set(err, ERR_DATA, "its name has more than %d bytes", IMPORT_NAME_MAX);
    if (check_bytes(name, err) != 0)
        return -1;
    int depth = 0;
    for (const char *at = name;; depth++) {
        size_t length = strcspn(at, "/");
        if (check_component(at, length, err) != 0)
            return -1;
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    if (depth >= IMPORT_DEPTH_MAX)
        return err_set(err, ERR_DATA, "it lies deeper than %d folders", IMPORT_DEPTH_MAX);
    return 0;
}

/* FNV-1a (Fowler, Noll, Vo). Whoever makes names collide makes an import slow until its time is over, nothing worse. */
static size_t hash(const char *name) {
    uint64_t value = 0xcbf29ce484222325U;
    for (; *name != '\0'; name++)
        value = (value ^ (unsigned char)*name) * 0x100000001b3U;
    return (size_t)value;
}

/* Where a name stands in the table, or the free slot for it. */
static size_t find(const struct names *names, const char *name) {
    size_t slot = hash(name) & (names->slots_n - 1);
    while (names->slots[slot] != 0 && strcmp(names->bytes + names->slots[slot] - 1, name) != 0)
        slot = (slot + 1) & (names->slots_n - 1);
    return slot;
}

static int grow_table(struct names *names, struct err *err) {
    struct names larger = *names;
    larger.slots_n = names->slots_n > 0 ? 2 * names->slots_n : 1024;
    larger.slots = calloc(larger.slots_n, sizeof *larger.slots);
    if (larger.slots == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the names of %zu entries", names->n);
    for (size_t i = 0; i < names->slots_n; i++)
        if (names->slots[i] != 0)
            larger.slots[find(&larger, names->bytes + names->slots[i] - 1)] = names->slots[i];
    free(names->slots);
    *names = larger;
    return 0;
}

static int grow_bytes(struct names *names, size_t wanted, struct err *err) {
    size_t room = 2 * names->room > wanted ? 2 * names->room : 2 * wanted;
    char *bytes = realloc(names->bytes, room);
    if (bytes == NULL)
        return err_set(err, ERR_MEMORY, "out of memory for the names of %zu entries", names->n);
    names->bytes = bytes;
    names->room = room;
    return 0;
}

int names_add(struct names *names, const char *name, size_t *ret_at, struct err *err) {
    size_t size = strlen(name) + 1;
    if (names->n >= names->slots_n / 2 && grow_table(names, err) != 0)
        return -1;
    if (names->used + size > names->room && grow_bytes(names, names->used + size, err) != 0)
        return -1;
    size_t slot = find(names, name);
    if (names->slots[slot] != 0)
        return err_set(err, ERR_DATA, "it is there twice");
    memcpy(names->bytes + names->used, name, size);
    names->slots[slot] = names->used + 1;
    *ret_at = names->used;
    names->used += size;
    names->n++;
    return 0;
}

void names_done(struct names *names) {
    free(names->bytes);
    free(names->slots);
    *names = (struct names){0};
}
