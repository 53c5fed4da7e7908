/* The state machine of a job: names, and which move is allowed. */
#include <string.h>

#include "server/store/store.h"

static const char *const names[JOB_STATES_N] = {
#define JOB_NAME(name, text) [name] = text,
    JOB_STATES(JOB_NAME)
#undef JOB_NAME
};

/* From row to column; the drawing stands in store.h. */
static const bool moves[JOB_STATES_N][JOB_STATES_N] = {
    [JOB_QUEUED] = {[JOB_STARTING] = true, [JOB_CANCELLED] = true},
    [JOB_STARTING] = {[JOB_RUNNING] = true, [JOB_QUEUED] = true, [JOB_FAILED] = true, [JOB_CANCELLED] = true},
    [JOB_RUNNING] = {[JOB_SUCCEEDED] = true, [JOB_FAILED] = true, [JOB_CANCELLED] = true, [JOB_QUEUED] = true},
    [JOB_FAILED] = {[JOB_QUEUED] = true},
    [JOB_CANCELLED] = {[JOB_QUEUED] = true},
};

const char *job_state_name(enum job_state state) {
    return names[state];
}

bool job_state_parse(const char *name, enum job_state *ret_state) {
    for (int i = 0; i < JOB_STATES_N; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        *ret_state = (enum job_state)i;
        return true;
    }
    return false;
}

bool job_state_ended(enum job_state state) {
    return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED;
}

bool job_state_may(enum job_state from, enum job_state to) {
    return moves[from][to];
}
