/* Finds NVIDIA's shared libraries at run time: in the folders of RESIDUUM_CUDA_PATH (separated by colons) first, then where the
 * loader looks. Nothing here is linked with one of them. */
#ifndef CUDNN_LIBRARY_H
#define CUDNN_LIBRARY_H

#include <stddef.h>

enum { LIBRARY_REASON_MAX = 240 };

/* Opens a library by its file name ("libcuda.so.1"). A file of that name in a folder of RESIDUUM_CUDA_PATH is the one that is
 * meant: when it cannot be loaded, no other is tried. NULL: ret_reason, if not NULL, says why. */
void *library_open(const char *name, char ret_reason[LIBRARY_REASON_MAX]);

/* Gives a handle back; the library stays mapped, as threads and exit handlers of NVIDIA's may run on. Accepts NULL. */
void library_close(void *library);

/* A row of a table of functions: where the address of the symbol goes, counted from the start of the table's struct. */
struct library_function {
    const char *name;
    size_t at;
};

/* Fills n members of a struct with the addresses of functions; NULL stands for one that the library does not have. Returns the
 * name of the first one that is missing, or NULL. */
const char *library_fill(void *library, const struct library_function *rows, size_t n, void *ret_struct);

#endif
