/* half.c - f16 and bf16 arithmetic: the table half_rows.def. PTX ISA, "Half Precision Floating
 * Point Instructions".
 *
 * A row becomes a function on f16 and one on bf16, and four forms with handlers: f16, f16x2, bf16,
 * bf16x2. A pair has its first element in the lower half of a register. */
#include "simgpu/alu/alu.h"

/* .relu: negative values and -0 become +0; a NaN stays. */
static inline u16 positive(u16 bits, u16 infinity) {
  return (bits & 0x8000) && (bits & 0x7fff) <= infinity ? 0 : bits;
}

#define LOW(x) (u16)(x)
#define HIGH(x) (u16)((x) >> 16)

#define FOUR_1(name)                                                            \
  SIM_DEFINE_1(name##_f16, u16, u16, name##_f16_value(a))                       \
  SIM_DEFINE_1(name##_bf16, u16, u16, name##_bf16_value(a))                     \
  SIM_DEFINE_1(name##_f16x2, u32, u32,                                          \
               name##_f16_value(LOW(a)) | (u32)name##_f16_value(HIGH(a)) << 16) \
  SIM_DEFINE_1(name##_bf16x2, u32, u32,                                         \
               name##_bf16_value(LOW(a)) | (u32)name##_bf16_value(HIGH(a)) << 16)
#define FOUR_2(name)                                                                             \
  SIM_DEFINE_2(name##_f16, u16, u16, u16, name##_f16_value(a, b))                                \
  SIM_DEFINE_2(name##_bf16, u16, u16, u16, name##_bf16_value(a, b))                              \
  SIM_DEFINE_2(name##_f16x2, u32, u32, u32,                                                      \
               name##_f16_value(LOW(a), LOW(b)) | (u32)name##_f16_value(HIGH(a), HIGH(b)) << 16) \
  SIM_DEFINE_2(name##_bf16x2, u32, u32, u32,                                                     \
               name##_bf16_value(LOW(a), LOW(b)) | (u32)name##_bf16_value(HIGH(a), HIGH(b)) << 16)
#define FOUR_3(name)                                                        \
  SIM_DEFINE_3(name##_f16, u16, u16, u16, u16, name##_f16_value(a, b, c))   \
  SIM_DEFINE_3(name##_bf16, u16, u16, u16, u16, name##_bf16_value(a, b, c)) \
  SIM_DEFINE_3(name##_f16x2, u32, u32, u32, u32,                            \
               name##_f16_value(LOW(a), LOW(b), LOW(c)) |                   \
                   (u32)name##_f16_value(HIGH(a), HIGH(b), HIGH(c)) << 16)  \
  SIM_DEFINE_3(name##_bf16x2, u32, u32, u32, u32,                           \
               name##_bf16_value(LOW(a), LOW(b), LOW(c)) |                  \
                   (u32)name##_bf16_value(HIGH(a), HIGH(b), HIGH(c)) << 16)

#define SIM_H1(name, head, tail, ...)             \
  static inline u16 name##_f16_value(u16 bits) {  \
    f32 a = sim_f16_to_f32(bits);                 \
    return sim_f32_to_f16(__VA_ARGS__);           \
  }                                               \
  static inline u16 name##_bf16_value(u16 bits) { \
    f32 a = sim_bf16_to_f32(bits);                \
    return sim_f32_to_bf16(__VA_ARGS__);          \
  }                                               \
  FOUR_1(name)
#define SIM_H2(name, head, tail, ...)                             \
  static inline u16 name##_f16_value(u16 a_bits, u16 b_bits) {    \
    f32 a = sim_f16_to_f32(a_bits), b = sim_f16_to_f32(b_bits);   \
    return sim_f32_to_f16(__VA_ARGS__);                           \
  }                                                               \
  static inline u16 name##_bf16_value(u16 a_bits, u16 b_bits) {   \
    f32 a = sim_bf16_to_f32(a_bits), b = sim_bf16_to_f32(b_bits); \
    return sim_f32_to_bf16(__VA_ARGS__);                          \
  }                                                               \
  FOUR_2(name)
#define SIM_B1(name, head, tail, f16_value, bf16_value) \
  static inline u16 name##_f16_value(u16 a) {           \
    return (u16)(f16_value);                            \
  }                                                     \
  static inline u16 name##_bf16_value(u16 a) {          \
    return (u16)(bf16_value);                           \
  }                                                     \
  FOUR_1(name)
#define SIM_B3(name, head, tail, f16_value, bf16_value)      \
  static inline u16 name##_f16_value(u16 a, u16 b, u16 c) {  \
    return (u16)(f16_value);                                 \
  }                                                          \
  static inline u16 name##_bf16_value(u16 a, u16 b, u16 c) { \
    return (u16)(bf16_value);                                \
  }                                                          \
  FOUR_3(name)
#include "simgpu/alu/half_rows.def"
#undef SIM_H1
#undef SIM_H2
#undef SIM_B1
#undef SIM_B3

#define ROWS(name, head, tail, wide, narrow)                         \
  {head "f16" tail, NULL, name##_f16, narrow, SIM_CLASS_HALF},       \
      {head "f16x2" tail, NULL, name##_f16x2, wide, SIM_CLASS_HALF}, \
      {head "bf16" tail, NULL, name##_bf16, narrow, SIM_CLASS_HALF}, \
      {head "bf16x2" tail, NULL, name##_bf16x2, wide, SIM_CLASS_HALF},
#define SIM_H1(name, head, tail, ...) ROWS(name, head, tail, "w=w", "h=h")
#define SIM_H2(name, head, tail, ...) ROWS(name, head, tail, "w=ww", "h=hh")
#define SIM_B1(name, head, tail, ...) ROWS(name, head, tail, "w=w", "h=h")
#define SIM_B3(name, head, tail, ...) ROWS(name, head, tail, "w=www", "h=hhh")
static const struct sim_form forms[] = {
#include "simgpu/alu/half_rows.def"
};
SIM_LIST(sim_half_forms, forms);
