/* Names of the files that worker and daemon both know: see event.h. */
#include "common/event.h"

#include <stdio.h>
#include <string.h>

void event_weights_name(int epoch, char ret_name[EVENT_WEIGHTS_NAME_MAX]) {
    snprintf(ret_name, EVENT_WEIGHTS_NAME_MAX, "epoch-%d.safetensors", epoch);
}

int event_weights_epoch(const char *name) {
    char same[EVENT_WEIGHTS_NAME_MAX];
    int epoch;
    if (sscanf(name, "epoch-%9d", &epoch) != 1 || epoch < 1)
        return 0;
    event_weights_name(epoch, same);
    return strcmp(name, same) == 0 ? epoch : 0;
}
