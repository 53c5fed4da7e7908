/* Graphs of models as a job's document names them. */
#ifndef TESTS_MODEL_RIG_H
#define TESTS_MODEL_RIG_H

#include "server/graph/graph.h"

/* The spec of a document's text, which must be a right one; spec_done frees. */
struct spec model_rig_spec(const char *text);

/* The graph of the value of "model", of ten classes; a model that cannot be built fails the test. */
struct graph *model_rig_graph(const char *model, struct graph_shape images);

#endif
