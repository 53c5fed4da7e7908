/* The network's layers as ONNX nodes. */
#ifndef EXPORT_NODES_H
#define EXPORT_NODES_H

#include "server/train/export/build.h"
#include "server/train/export/export.h"

/* What a layer takes at most: nodes and tensors of the ONNX graph, the layer's own parameters among them. Inputs in another form
 * are counted with the layer that they come from. */
enum { NODES_OF_LAYER = 10, TENSORS_OF_LAYER = 10 };

/* Appends all layers behind the value named image, which is what the network takes; the last two values are named "logits" and
 * "softmax". */
void nodes_add(struct build *build, const struct export_model *model, char *image);

/* Appends zeros on each side (pads: ONNX's eight numbers for [N,C,H,W]) and returns the new value's name. */
char *nodes_pad(struct build *build, const char *prefix, char *input, const int64_t pads[8], char *output);

#endif
