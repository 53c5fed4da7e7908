/* The handles that the double gives out, so that each one is known, and missed when it was never destroyed. */
#include <stdint.h>
#include <stdlib.h>

#include "tests/gpu/double/double.h"

static const char *kind_name(enum object_kind kind) {
    switch (kind) {
    case OBJECT_STREAM:
        return "stream";
    case OBJECT_EVENT:
        return "event";
    case OBJECT_MODULE:
        return "module";
    case OBJECT_GRAPH:
        return "graph";
    case OBJECT_EXEC:
        return "executable graph";
    case OBJECT_CUDNN:
        return "cuDNN handle";
    case OBJECT_DESCRIPTOR:
        return "cuDNN descriptor";
    }
    return "object";
}

static struct object **bucket(const void *handle) {
    return &state()->objects[(uintptr_t)handle / sizeof(struct object) % OBJECT_BUCKETS];
}

void *object_new(enum object_kind kind, size_t bytes) {
    struct object *object = must_allocate(bytes);
    *object = (struct object){.kind = kind, .live = true, .next = *bucket(object)};
    *bucket(object) = object;
    return object;
}

/* Nothing is read from a handle before it was found. */
void object_check(const void *handle, enum object_kind kind, const char *function) {
    for (const struct object *object = *bucket(handle); object != NULL; object = object->next)
        if (object == handle) {
            if (object->kind != kind)
                violation("%s takes a %s and was given a %s", function, kind_name(kind), kind_name(object->kind));
            if (!object->live)
                violation("%s uses a %s that was destroyed", function, kind_name(kind));
            return;
        }
    violation("%s was given %p, which is no %s", function, handle, kind_name(kind));
}

void object_destroy(void *handle, enum object_kind kind, const char *function) {
    object_check(handle, kind, function);
    ((struct object *)handle)->live = false;
}

static void free_all(struct object *object) {
    for (struct object *next; object != NULL; object = next) {
        next = object->next;
        if (object->live && state()->fault.sticky == CUDA_SUCCESS)
            violation("a %s was never destroyed", kind_name(object->kind));
        if (object->kind == OBJECT_DESCRIPTOR)
            descriptor_forget(object);
        free(object);
    }
}

void objects_done(void) {
    for (int i = 0; i < OBJECT_BUCKETS; i++)
        free_all(state()->objects[i]);
}
