/* block.h - blocks of 32 elements with a scale, q8_0 and q4_0: single elements out of them, and
 * whole blocks into them. The formats and the quantisers' arithmetic are ggml's; the header states
 * both under fovea_dtype and "Blocks".
 *
 * An element is exact in f32: 11 bits of the scale times 8 of the number. */
#ifndef FOVEA_CSRC_HOST_BLOCK_H
#define FOVEA_CSRC_HOST_BLOCK_H

#include <stdint.h>
#include <string.h>

#include "csrc/dtype.h"
#include "csrc/numeric.h"

/* A block's scale in memory, whatever the type that the block was made as. */
typedef int16_t __attribute__((may_alias)) fv_block_code;

/* The block that holds element `index`, which counts from a block's beginning. */
static inline const uint8_t *fv_block_of(uint32_t dtype, const void *data, int64_t index) {
  return (const uint8_t *)data + (index >> 5) * fv_dtype_block_bytes(dtype);
}

static inline float fv_block_scale(const uint8_t *block) {
  uint16_t code;
  memcpy(&code, block, sizeof code);
  return fv_f16_to_f32(code);
}

static inline float fv_load_q8_0(const void *data, int64_t index) {
  const uint8_t *block = fv_block_of(FOVEA_Q8_0, data, index);
  const int8_t code = ((const int8_t *)block)[FV_BLOCK_SCALE_BYTES + (index & 31)];
  return fv_block_scale(block) * (float)code;
}

/* The low halves of the bytes are the first 16 elements. */
static inline float fv_load_q4_0(const void *data, int64_t index) {
  const uint8_t *block = fv_block_of(FOVEA_Q4_0, data, index);
  const int byte = block[FV_BLOCK_SCALE_BYTES + (index & 15)];
  const int code = index & 16 ? byte >> 4 : byte & 15;
  return fv_block_scale(block) * (float)(code - 8);
}

#endif /* FOVEA_CSRC_HOST_BLOCK_H */
