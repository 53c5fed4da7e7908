/* The self-check of a device (`residuum-worker --self-check`): the module checks itself, then trains small networks beside the
 * backend ref. What it found is told to a person and kept in a file, which the daemon reads. */
#ifndef TRAIN_SELFCHECK_H
#define TRAIN_SELFCHECK_H

/* Exit codes, besides WORKER_EXIT_DONE: all passed, and WORKER_EXIT_USAGE. */
enum selfcheck_exit {
    SELFCHECK_FAILED = 1,   /* an item failed, or the file could not be written */
    SELFCHECK_NO_DEVICE = 3 /* nothing was checked: there is no such device, or it cannot be used */
};

extern const char selfcheck_usage[];

/* arguments: behind "--self-check", ended by NULL. The report for a person goes to fd. Returns the exit code.
 *
 * The file, RESIDUUM_SELF_CHECK/ID.json or self-check-ID.json in the working directory unless it is named, is one object:
 *   {"device_id": "GPU-1fdd...", "device": "NVIDIA H100 80GB HBM3", "driver": "580.65.06", "cudnn": "9.19.0", "worker": "0.1.0",
 *    "at": "2026-11-24T08:00:00.000000Z", "brief": false, "passed": true, "features": ["fused-norm", "captured-steps"],
 *    "profile": {the device's properties, as in server/graph/profiles},
 *    "items": [{"item": "...", "passed": true, "skipped": false, "measured": 0.1, "limit": 1, "text": "..."}, ...]}
 * driver and cudnn are as the probe tells them; of another backend, "cudnn" is its version. A feature may be
 * used when all items that are about it have passed: "fused-norm" is batch norm by cuDNN, "captured-steps" steps as graphs. A
 * device does without those that have failed, and passes all the same. */
int selfcheck_run(int fd, const char *const *arguments);

#endif
