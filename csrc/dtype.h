/* dtype.h - the element types: names and sizes, in one table. */
#ifndef FOVEA_CSRC_DTYPE_H
#define FOVEA_CSRC_DTYPE_H

#include <stdbool.h>

#include <fovea.h>

/* X(NAME, name, bytes, shift), in the order of fovea_dtype. Memory holds blocks of 2^shift elements
 * in so many bytes; for most types a block is an element. */
#define FV_DTYPE_TABLE(X) \
  X(NONE, none, 0, 0)     \
  X(F32, f32, 4, 0)       \
  X(F16, f16, 2, 0)       \
  X(BF16, bf16, 2, 0)     \
  X(E4M3, e4m3, 1, 0)     \
  X(E5M2, e5m2, 1, 0)     \
  X(I8, i8, 1, 0)         \
  X(U8, u8, 1, 0)         \
  X(Q8_0, q8_0, 34, 5)    \
  X(Q4_0, q4_0, 18, 5)

enum {
#define FV_DTYPE_COUNTED(NAME, name, bytes, shift) +1
  FV_DTYPE_COUNT = 0 FV_DTYPE_TABLE(FV_DTYPE_COUNTED)
#undef FV_DTYPE_COUNTED
};

/* The elements of a block of q8_0 and q4_0. Before them lies their f16 scale. */
enum { FV_BLOCK_LEN = 32, FV_BLOCK_SCALE_BYTES = 2 };

/* The type's name, such as "bf16"; "unknown" if it is no type. */
static inline const char *fv_dtype_name(uint32_t dtype) {
#define FV_DTYPE_NAME(NAME, name, bytes, shift) #name,
  static const char *const names[] = {FV_DTYPE_TABLE(FV_DTYPE_NAME)};
#undef FV_DTYPE_NAME
  return dtype < FV_DTYPE_COUNT ? names[dtype] : "unknown";
}

/* Bytes of a block; 0 if it is no type. */
static inline int64_t fv_dtype_block_bytes(uint32_t dtype) {
#define FV_DTYPE_BYTES(NAME, name, bytes, shift) bytes,
  static const int8_t sizes[] = {FV_DTYPE_TABLE(FV_DTYPE_BYTES)};
#undef FV_DTYPE_BYTES
  return dtype < FV_DTYPE_COUNT ? sizes[dtype] : 0;
}

static inline int fv_dtype_block_shift(uint32_t dtype) {
#define FV_DTYPE_SHIFT(NAME, name, bytes, shift) shift,
  static const int8_t shifts[] = {FV_DTYPE_TABLE(FV_DTYPE_SHIFT)};
#undef FV_DTYPE_SHIFT
  return dtype < FV_DTYPE_COUNT ? shifts[dtype] : 0;
}

/* Elements of a block. */
static inline int64_t fv_dtype_block_len(uint32_t dtype) {
  return INT64_C(1) << fv_dtype_block_shift(dtype);
}

/* Bytes of so many elements, which are whole blocks. */
static inline int64_t fv_dtype_size(uint32_t dtype, int64_t elements) {
  return (elements >> fv_dtype_block_shift(dtype)) * fv_dtype_block_bytes(dtype);
}

/* To how many bytes data must be aligned: blocks are to their scales. */
static inline int64_t fv_dtype_alignment(uint32_t dtype) {
  if (fv_dtype_block_shift(dtype) != 0) return FV_BLOCK_SCALE_BYTES;
  return fv_dtype_block_bytes(dtype);
}

/* Whether it is a type of numbers in 8 bits without a scale of their own: e4m3, e5m2, i8. */
static inline bool fv_dtype_is_8bit(uint32_t dtype) {
  return dtype == FOVEA_E4M3 || dtype == FOVEA_E5M2 || dtype == FOVEA_I8;
}

/* Whether memory holds blocks of elements with a scale: q8_0, q4_0. */
static inline bool fv_dtype_is_blocks(uint32_t dtype) {
  return fv_dtype_block_shift(dtype) != 0;
}

#ifdef __cplusplus
#define FV_DTYPE_ASSERT static_assert
#else
#define FV_DTYPE_ASSERT _Static_assert
#endif
#define FV_DTYPE_PLACE(NAME, name, bytes, shift) FV_DTYPE_PLACE_##NAME,
enum { FV_DTYPE_TABLE(FV_DTYPE_PLACE) };
#undef FV_DTYPE_PLACE
#define FV_DTYPE_IN_ORDER(NAME, name, bytes, shift) \
  FV_DTYPE_ASSERT((int)FV_DTYPE_PLACE_##NAME == (int)FOVEA_##NAME, "the order of fovea_dtype");
FV_DTYPE_TABLE(FV_DTYPE_IN_ORDER)
#undef FV_DTYPE_IN_ORDER
#undef FV_DTYPE_ASSERT

#endif /* FOVEA_CSRC_DTYPE_H */
