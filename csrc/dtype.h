/* dtype.h - the element types: names and sizes, in one table. */
#ifndef FOVEA_CSRC_DTYPE_H
#define FOVEA_CSRC_DTYPE_H

#include <stdbool.h>

#include <fovea.h>

/* X(NAME, name, bytes), in the order of fovea_dtype. */
#define FV_DTYPE_TABLE(X) \
  X(NONE, none, 0)        \
  X(F32, f32, 4)          \
  X(F16, f16, 2)          \
  X(BF16, bf16, 2)        \
  X(E4M3, e4m3, 1)        \
  X(E5M2, e5m2, 1)        \
  X(I8, i8, 1)            \
  X(U8, u8, 1)

enum {
#define FV_DTYPE_COUNTED(NAME, name, bytes) +1
  FV_DTYPE_COUNT = 0 FV_DTYPE_TABLE(FV_DTYPE_COUNTED)
#undef FV_DTYPE_COUNTED
};

/* The type's name, such as "bf16"; "unknown" if it is no type. */
static inline const char *fv_dtype_name(uint32_t dtype) {
#define FV_DTYPE_NAME(NAME, name, bytes) #name,
  static const char *const names[] = {FV_DTYPE_TABLE(FV_DTYPE_NAME)};
#undef FV_DTYPE_NAME
  return dtype < FV_DTYPE_COUNT ? names[dtype] : "unknown";
}

/* Bytes of an element; 0 if it is no type. */
static inline int64_t fv_dtype_bytes(uint32_t dtype) {
#define FV_DTYPE_SIZE(NAME, name, bytes) bytes,
  static const int8_t sizes[] = {FV_DTYPE_TABLE(FV_DTYPE_SIZE)};
#undef FV_DTYPE_SIZE
  return dtype < FV_DTYPE_COUNT ? sizes[dtype] : 0;
}

/* Whether it is a type of numbers in 8 bits: e4m3, e5m2, i8. */
static inline bool fv_dtype_is_8bit(uint32_t dtype) {
  return dtype == FOVEA_E4M3 || dtype == FOVEA_E5M2 || dtype == FOVEA_I8;
}

#ifdef __cplusplus
#define FV_DTYPE_ASSERT static_assert
#else
#define FV_DTYPE_ASSERT _Static_assert
#endif
#define FV_DTYPE_PLACE(NAME, name, bytes) FV_DTYPE_PLACE_##NAME,
enum { FV_DTYPE_TABLE(FV_DTYPE_PLACE) };
#undef FV_DTYPE_PLACE
#define FV_DTYPE_IN_ORDER(NAME, name, bytes) \
  FV_DTYPE_ASSERT((int)FV_DTYPE_PLACE_##NAME == (int)FOVEA_##NAME, "the order of fovea_dtype");
FV_DTYPE_TABLE(FV_DTYPE_IN_ORDER)
#undef FV_DTYPE_IN_ORDER
#undef FV_DTYPE_ASSERT

#endif /* FOVEA_CSRC_DTYPE_H */
