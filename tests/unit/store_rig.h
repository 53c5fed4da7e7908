/* For the store's tests: a store in a directory of its own, jobs in any state, and short ways to look at it. */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include "server/store/private.h"

struct rig {
    char dir[64];
    struct store *store;
    struct viewer viewer;
};

/* cmocka setup and teardown: state is a struct rig. */
int rig_setup(void **state);
int rig_teardown(void **state);

void rig_reopen(struct rig *rig); /* as after a crash: nothing is committed first */

/* Calls that must succeed. */
void rig_commit(struct rig *rig);
void rig_add(struct rig *rig, int epochs, char ret_id[JOB_ID_MAX]);
struct job rig_get(struct rig *rig, const char *id); /* for job_done */
int rig_move(struct rig *rig, const char *id, enum job_state to, struct err *err);
/* Adds an epoch with test accuracy epoch / 8 and the hash %064d of its number. */
int rig_epoch(struct rig *rig, const char *id, int attempt, int epoch, bool *ret_new, struct err *err);
/* A new job of one epoch, brought to a state by permitted moves. */
void rig_bring(struct rig *rig, enum job_state state, char ret_id[JOB_ID_MAX]);
int64_t rig_number(struct rig *rig, const char *sql);
void rig_sql(struct rig *rig, const char *sql);

#endif
