/* Worker protocol, version 3: what daemon and worker say to each other.
 *
 * Daemon -> worker, standard input: one JSON line, then held open. End of file means "the parent is gone or wants you to stop":
 * checkpoint, then exit with WORKER_EXIT_STOPPED.
 *   {"protocol": 3, "job": "job_...", "attempt": 1, "device": "cpu" or "GPU-1fdd...", "dir": "/abs/path/of/the/job",
 *    "epochs_known": 2, "dataset": null or {"dir": "/abs/path/of/an/imported/set"}, "spec": {canonical spec}}
 * "dataset" may be missing; null: the set of the spec is built in. With a "dir" (the "out" of an import) that one is trained on,
 * whatever name the spec gives.
 * "device" is the id, as the probe tells it, of the one that the job was given: it trains there or nowhere. A worker on a GPU
 * finds in its environment CUDA_VISIBLE_DEVICES, which names that GPU alone, CUDA_DEVICE_ORDER, RESIDUUM_PLAN_CACHE (a folder for
 * finished plans), RESIDUUM_SELF_CHECK (the folder of the self-checks' records, server/train/selfcheck.h) and
 * RESIDUUM_GPU_FEATURES: what its record allows, names separated by commas, "" when no record fits driver, backend and worker.
 * "dir" exists and belongs to the job alone; the worker holds an exclusive flock on DIR/lock for its whole life and waits for it
 * at most 30 s, so two attempts of one job never run at once. "epochs_known" is the number of epochs the daemon has stored:
 * the worker sends the missing ones of its checkpoint again before it trains. A spec with "from" finds what it starts from in
 * DIR/initial.safetensors (a weights file, or with "resume" a checkpoint) and, with "resume", DIR/initial-epochs.ndjson and, if
 * the source has a best epoch, that one's weights as DIR/initial-best.safetensors, to be kept as long as no later epoch is
 * better.
 *
 * Worker -> daemon, standard output: one JSON object a line, at most EVENT_LINE_MAX bytes with the newline, UTF-8. Every line has
 * "type" (below) and "seq", 1, 2, 3, ... without a gap.
 * - hello: {"protocol": 3, "program": "0.1.0", "backend": "onednn", "backend_version": "2.6.3", "algorithms": "...",
 *   "device": "...", "device_id": "cpu" or "GPU-1fdd...", "precision": "f32", "threads": 2, "data_sha256": "...",
 *   "train_images": N, "validation_images": N, "test_images": N, "initial": null or {"taken": [names], "fresh": [names]},
 *   "parameters": N, "memory_bytes": N, "resumed": {"epoch": E, "step": S} or null}; the first line, unless an error is.
 *   data_sha256 is of the images and labels of all three sets; memory of the plans that train and that evaluate; "initial" tells
 *   which parameters a spec with "from" takes over, null without one and when the job's own checkpoint is "resumed"
 * - progress: {"epoch": 2, "epochs": 5, "phase": "train" | "validation" | "test", "step": 100, "steps": 469, "loss": 0.31,
 *   "images_per_second": 1800.0, "seconds_left": 92.5, "gpu": null or {"temperature_c": 61, "utilization": 0 to 1,
 *     "power_w": 250.5, "memory_used_bytes": N}};
 *   at most once a second; steps are those of the phase; loss, images_per_second and seconds_left are null until known; "gpu" is
 *   how the device is now, null of a processor, each of its fields null where the driver does not tell
 * - epoch, after the checkpoint that holds the epoch is on disk; may come again after a restart:
 *   {"epoch": 2,
 *    "train": {"loss", "accuracy"},                       as trained: augmented images, smoothed and mixed targets
 *    "validation": {"loss", "accuracy", "top5"} or null,  top5 is null with 5 classes or fewer
 *    "test": {"loss", "accuracy", "top5", "ece",
 *      "confusion": [[...]],                              [true][predicted]
 *      "report": {"precision": [...], "recall": [...], "f1": [...], "support": [...],    per class; scikit-learn's definitions, 0
 *        "macro": {"precision", "recall", "f1"}, "weighted": {"precision", "recall", "f1"}},      where nothing is divided by
 *      "most_confused": {"pairs": [{"true", "predicted", "count"}],      at most 10, most first, only counts above 0
 *        "classes": [{"class", "count"}]},                at most 10; count: images of the class taken for others + others for it
 *      "softmax": [[...]], "labels": [...]},              of the first images; labels are the true classes
 *    "layers": {
 *      "weights": {"name": [...], "gradient_norm": [...], "weight_norm": [...], "update_ratio": [...]},   layers with trainable
 *        parameters; means over the epoch's steps; update_ratio is norm(new - old) / norm(old), null where that is 0
 *      "activations": {"name": [...], "mean": [...], "deviation": [...], "dead": [...]}},    over the first 64 test images,
 *        with the values as trained; dead: share of a ReLU's outputs that are 0 for all of them, null for other layers
 *    "weights_sha256": "...",      of all parameters and running statistics as trained (f32, little-endian), in the graph's
 *      order, and after them, where there is an average, of theirs: one digest over both
 *    "exported_sha256": "...",     of what the epoch's weights file holds: the average or, without one, the same as above
 *    "best": true | false | null,  by the validation set, up to now; null without one
 *    "lr": 0.05,                   of the last step
 *    "seconds": 31.2,              of training, validation and test, over all attempts
 *    "images_per_second": 1920.5,  of training
 *    "gpu": null or {the fields of a progress event's "gpu", at the end of the epoch, "energy_j": 7800.5}}
 *      energy_j: used by the whole device during the epoch, over all attempts, as the driver counts it; where it counts power
 *      only, that is added up about once a second; null where neither is told
 * - checkpoint: {"epoch": 2, "step": 0, "file": "checkpoint.safetensors", "bytes": N}; finished epochs, step within the next
 * - done: {"epochs": 5, "stopped_early": false, "best_epoch": 4 or null}; the last line of success; epochs are those trained, by
 *   the source of "resume" as well
 * - error: {"code": "non-finite-loss", "text": "...", "pointer": ""}; the last line of failure; code is an err_name()
 * Standard error is a log for people. The worker keeps the real standard output privately and points descriptor 1 at it.
 * A wrong version, a gap in seq, an oversize or non-UTF-8 line, an unknown type or a missing field ends the
 * attempt with ERR_PROTOCOL.
 *
 * `residuum-worker --probe` prints one JSON object on standard output and exits with 0:
 *   {"protocol": 3, "complete": true, "devices": [
 *      {"id": "cpu", "name": "AMD EPYC", "threads": 2, "memory_bytes": N, "memory_free_bytes": null, "compute": null,
 *       "driver": null, "profile": null, "note": null,
 *       "backends": [{"name": "onednn", "version": "2.6.3", "precisions": ["f32", "bf16"]}, {"name": "ref", ...}],
 *       "unusable": [{"name": "cudnn", "reason": "..."}]},
 *      {"id": "GPU-1fdd...", "name": "NVIDIA H100 80GB HBM3", "threads": 1, "memory_bytes": N, "memory_free_bytes": N,
 *       "compute": "9.0", "driver": "580.65.06", "profile": {the device's properties, as in server/graph/profiles},
 *       "note": "not yet run on hardware by us", "backends": [...], "unusable": []}, ...],
 *    "datasets": [{"name": "fashion-mnist", "available": true, "reason": null}, ...]}
 *   The processor is always there and comes first. A GPU that cannot be used is listed without backends, with the reason as
 *   "unusable"; what has no device of its own, the processor lists: a backend, or a GPU that does not tell its id. A field that
 *   is null of the processor may be null of a GPU, too. Ids are made of at most 63 of A-Z a-z 0-9 - _ . : and begin with no dot.
 *   At most EVENT_DEVICES_MAX devices. Not "complete": a module crashed or did not tell its devices in time, and asking again may
 *   find more.
 *
 * `residuum-worker --inspect` answers one question about a network, on standard output, and exits with 0. Standard input: one
 * line,
 *   {"protocol": 3, "epoch": 3, "weights": "/abs/path/of/a/weights/file" or null, "dataset": as a job's,
 *    "spec": {canonical spec}, "want": one of
 *     {"maps": {"layers": ["conv1", ...], "channels": "0-15" or null, "image": 17}}     or, instead of "image",
 *       "pixels": [C][H][W] of 0 to 255 as the data set has them, [H][W] where it has one channel
 *     {"filters": {"layer": "conv1" or null: the first convolution, "channels": "0-15" or null}}
 *     {"images": {"first": 0, "n": 25}}                   needs no weights
 *     {"onnx": {"out": "/abs/path/to/write", "normalize": false}}}    the whole network as server/train/export/export.h says;
 *       the answer, {"epoch": 3, "bytes": N}, comes when the file is whole; after a failure a part may be left
 * The answer is one line of at most EVENT_INSPECT_LINE_MAX bytes: what openapi.yaml shows as Maps, Filters and ImageList, or
 *   {"error": {"code": an err_name(), "text": "...", "pointer": "" or a field of "want"}}.
 *
 * `residuum-worker --import` makes a data set of an archive or a directory. Standard input: one line, then held open; end of file
 * means stop and leave nothing.
 *   {"protocol": 3, "source": "/abs/path/of/a/file/or/directory", "out": "/abs/path/of/an/empty/directory", "name": "flowers",
 *    "archive_sha256": 64 digits that the file must have; may be missing,
 *    "options": {"size": null or N or [H, W], "fit": "crop" | "pad" | "stretch", "channels": null | 1 | 3,
 *      "test_fraction": 0.2, "seed": 1, "skip_damaged": false},
 *    "limits": {"bytes": N, "entries": N, "ratio": N, "images": N, "seconds": N}}
 *   What is recognized and what the options mean stands in server/train/import/import.h. "size" null: the images must have one
 *   size; "channels" null: 1 if all are grey, else 3; "test_fraction" counts only where the source has no test part. "bytes"
 *   may be produced by unpacking, and again by the result.
 *
 * On standard output come lines with "type" and "seq" as a job's:
 * - import: {"phase": "reading" | "writing", "entries": N, "images": N, "bytes": N, "total_bytes": N or null}; at most once a
 *   second and once before writing; bytes are those of the source, as far as it is read
 * - imported: {"card": {...}}; the last line of success: the card is on disk
 * - error: {"code", "text", "pointer", "entry"}; the last line of failure; entry: the name that is to blame or "",
 *   with "?" for bytes that are no UTF-8
 *
 * Exit codes are those of a job. Files in "out", all written aside and renamed, the card last:
 * - data.bin: pixels [n,C,H,W] and labels [n] of the training set, then of the test set, as bytes; each part begins at a multiple
 *   of 4096
 * - card.json: {"format": "residuum-dataset-1", "name": "flowers", "shape": [C, H, W], "classes": [names],
 *     "train": {"images": N, "per_class": [...], "pixels_at": N, "labels_at": N}, "test": {the same}, "mean": [...],
 *     "deviation": [...],     of the training pixels as fractions of 255, a channel each
 *     "sha256", "bytes": of data.bin,
 *     "source": {"format": "folders" | "cifar-10" | "cifar-100" | "idx" | "npz", "entries": N, "archive_sha256": or null},
 *     "skipped": [{"entry", "reason"}] (the first 1000), "skipped_total": N}
 * - sheet.png: 25 training images of each class, a row a class
 * Whatever ends the process otherwise, even SIGKILL, leaves no card.json; the daemon removes "out".
 *
 * Files in DIR, besides checkpoint.safetensors and epochs.ndjson, all written aside and renamed:
 *   ("__metadata__" of each .safetensors file has "sha256", the digest of its data section, by which whoever reads it checks it)
 * - weights/epoch-N.safetensors: parameters and running statistics by name (the average where there is one) of the kept epochs,
 *   which are the last, the best and every keep_every-th. "__metadata__" has format, job, epoch,
 *   weights ("values" or "average"), spec, and what normalizes images: mean and deviation, one number a channel
 * - predictions.safetensors of the last epoch, over the whole test set: "softmax" F32 [n,classes], "labels" I32 [n], "predicted"
 *   I32 [n]; before "done"
 *
 * To change the protocol: raise EVENT_PROTOCOL; daemon and worker of one installation always have the same. */
#ifndef COMMON_EVENT_H
#define COMMON_EVENT_H

enum {
    EVENT_PROTOCOL = 3,
    EVENT_LINE_MAX = 1 << 20,
    EVENT_DEVICES_MAX = 64,
    EVENT_CLASSES_SOFTMAX_IMAGES = 25,
    EVENT_CONFUSED_MAX = 10,
    EVENT_ACTIVATION_IMAGES = 64,
    EVENT_INSPECT_LINE_MAX = 2 << 20,
    EVENT_INSPECT_VALUES_MAX = 1 << 16, /* in one answer */
    EVENT_INSPECT_LAYERS_MAX = 16,
    EVENT_INSPECT_IMAGES_MAX = 100
};

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
    WORKER_EXIT_RETRY = 5,   /* an "error" line said why; trying again may help (out of memory, disk full) */
    WORKER_EXIT_DEVICE = 6   /* an "error" line with the code "device-failed" said why: no other job should be given to the
                                device; this one goes on elsewhere, or later, from its checkpoint */
};

enum { EVENT_WEIGHTS_NAME_MAX = 40 };

/* The name of an epoch's file in DIR/weights, "epoch-5.safetensors", and the epoch of such a name, 0 when it is none. */
void event_weights_name(int epoch, char ret_name[EVENT_WEIGHTS_NAME_MAX]);
int event_weights_epoch(const char *name);

#endif
