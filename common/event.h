/* Worker protocol, version 1: what daemon and worker say to each other.
 *
 * Daemon -> worker, standard input: one JSON line, then held open. End of file means "the parent is gone or wants you to stop":
 * checkpoint, then exit with WORKER_EXIT_STOPPED.
 *   {"protocol": 1, "job": "job_...", "attempt": 1, "dir": "/abs/path/of/the/job", "epochs_known": 2, "spec": {canonical spec}}
 * "dir" exists and belongs to the job alone; the worker holds an exclusive flock on DIR/lock for its whole life and waits for it
 * at most 30 s, so two attempts of one job never run at once. "epochs_known" is the number of epochs the daemon has stored:
 * the worker sends the missing ones of its checkpoint again before it trains.
 *
 * Worker -> daemon, standard output: one JSON object a line, at most EVENT_LINE_MAX bytes with the newline, UTF-8. Every line has
 * "type" (below) and "seq", 1, 2, 3, ... without a gap.
 * - hello: {"protocol": 1, "backend": "onednn", "backend_version": "2.6.3", "device": "...", "precision": "f32", "threads": 2,
 *   "parameters": N, "memory_bytes": N, "resumed": {"epoch": E, "step": S} or null}; the first line, unless an error is
 * - progress: {"epoch": 2, "epochs": 5, "phase": "train" | "test", "step": 100, "steps": 469, "loss": 0.31, "images_per_second":
 *   1800.0, "seconds_left": 92.5}; at most once a second; steps are those of the phase; the last three are null until known
 * - epoch: {"epoch": 2, "train": {"loss", "accuracy"}, "test": {"loss", "accuracy", "confusion": [[...]], "softmax": [[...]],
 *   "labels": [...]}, "lr": 0.05, "seconds": 31.2, "images_per_second": 1920.5}; after the checkpoint that holds the epoch is on
 *   disk; labels are the true classes of the softmax rows, lr is the last step's, seconds are those of training and test over all
 *   attempts, images per second those of training; an epoch may come again after a restart
 * - checkpoint: {"epoch": 2, "step": 0, "file": "checkpoint.safetensors", "bytes": N}; finished epochs, step within the next
 * - done: {"epochs": 5}; the last line of success
 * - error: {"code": "non-finite-loss", "text": "...", "pointer": ""}; the last line of failure; code is an err_name()
 * Standard error is a log for people. The worker keeps the real standard output privately and points descriptor 1 at it.
 * A wrong version, a gap in seq, an oversize or non-UTF-8 line, an unknown type or a missing field ends the
 * attempt with ERR_PROTOCOL.
 *
 * `residuum-worker --probe` prints one JSON object on standard output and exits with 0:
 *   {"protocol": 1, "devices": [{"id": "cpu", "name": "AMD EPYC", "threads": 2, "memory_bytes": N,
 *      "backends": [{"name": "onednn", "version": "2.6.3", "precisions": ["f32", "bf16"]}, {"name": "ref", ...}],
 *      "unusable": [{"name": "cudnn", "reason": "..."}]}],
 *    "datasets": [{"name": "fashion-mnist", "available": true, "reason": null}, ...]}
 *
 * To change the protocol: raise EVENT_PROTOCOL; daemon and worker of one installation always have the same. */
#ifndef COMMON_EVENT_H
#define COMMON_EVENT_H

enum { EVENT_PROTOCOL = 1, EVENT_LINE_MAX = 1 << 20, EVENT_CLASSES_SOFTMAX_IMAGES = 25 };

#define EVENT_TYPES(X)                \
    X(EVENT_HELLO, "hello")           \
    X(EVENT_PROGRESS, "progress")     \
    X(EVENT_EPOCH, "epoch")           \
    X(EVENT_CHECKPOINT, "checkpoint") \
    X(EVENT_DONE, "done")             \
    X(EVENT_ERROR, "error")

enum event_type {
#define EVENT_ENUM(name, text) name,
    EVENT_TYPES(EVENT_ENUM)
#undef EVENT_ENUM
};

/* Exit codes of residuum-worker. */
enum worker_exit {
    WORKER_EXIT_DONE = 0,
    WORKER_EXIT_FAILED =
        1, /* an "error" line said why; trying again would not help (bad data, non-finite loss, no such backend) */
    WORKER_EXIT_USAGE = 2,
    WORKER_EXIT_STOPPED = 3, /* end of file on standard input or SIGTERM: checkpointed, can go on later */
    WORKER_EXIT_BUSY = 4,    /* DIR/lock was still held by an older attempt after 30 s */
    WORKER_EXIT_RETRY = 5    /* an "error" line said why; trying again may help (out of memory, disk full, device lost) */
};

#endif
