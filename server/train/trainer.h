/* Trains one job from its data to its last epoch. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "server/train/emit.h"
#include "server/train/job.h"

enum trainer_result { TRAINER_DONE, TRAINER_STOPPED, TRAINER_FAILED };

/* Loads the data, opens a backend, resumes from the checkpoint if there is one, trains and tests every epoch. TRAINER_STOPPED: it
 * was asked to stop, and what was done is in the checkpoint. */
enum trainer_result trainer_run(const struct job *job, struct emit *emit, struct err *err);

#endif
