/* What a fake library answers is chosen by an environment variable of its own: "init=803 version=12020 devices=2". */
#ifndef GPU_FAKES_SAY_H
#define GPU_FAKES_SAY_H

#include <stdlib.h>
#include <string.h>

/* The number behind KEY= in the variable, or the usual one. */
static inline long say(const char *variable, const char *key, long usual) {
    const char *text = getenv(variable);
    size_t length = strlen(key);
    for (; text != NULL && *text != '\0'; text += strcspn(text, " "), text += *text == ' ')
        if (strncmp(text, key, length) == 0 && text[length] == '=')
            return strtol(text + length + 1, NULL, 10);
    return usual;
}

#endif
