/* Door of the export: a network and its weights as one ONNX file (onnx.ai; IR version 8, opset 17), which other programs run.
 *
 * Input "image" [N,C,H,W] f32; outputs "logits" and "softmax" [N,classes]. Without normalization in it, the graph takes what the
 * network was trained on: padded images, normalized. With it, the graph takes pixels of 0 to 255 as the data set has them, and
 * pads with 0 and normalizes by itself. Dropout is left out, batch normalization takes the running statistics. */
#ifndef EXPORT_EXPORT_H
#define EXPORT_EXPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "server/graph/graph.h"

enum { EXPORT_NOTES_MAX = 16 };

struct export_note {
    const char *key, *text;
};

struct export_model {
    const struct graph *graph;
    const void *const *values;                  /* of each parameter: f32, little-endian, [count]; need not be aligned */
    struct export_note notes[EXPORT_NOTES_MAX]; /* metadata_props */
    int notes_n;
    bool normalize;
    int pad;                        /* on each side, in what the network takes; the rest counts only with normalize */
    const double *mean, *deviation; /* a channel each, of pixels as fractions of 255 */
};

/* Writes the file; a failure may leave a part of it. ret_bytes: its size, which stays below 2 GiB, the most that protobuf takes.
 */
int export_onnx(const struct export_model *model, const char *path, int64_t *ret_bytes, struct err *err);

#endif
