/* Elements of tensors that were copied from the device: f32 or bf16. */
#ifndef BACKEND_CUDNN_LAYOUT_H
#define BACKEND_CUDNN_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The upper half of an f32. */
static inline float layout_element(const void *values, size_t at, bool bf16) {
    uint32_t bits;
    if (bf16) {
        uint16_t half;
        memcpy(&half, (const unsigned char *)values + at * sizeof half, sizeof half);
        bits = (uint32_t)half << 16;
    } else {
        memcpy(&bits, (const unsigned char *)values + at * sizeof bits, sizeof bits);
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
