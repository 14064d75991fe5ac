/* single.c - f32 arithmetic: the table single_rows.def. PTX ISA, "Floating Point Instructions".
 *
 * A row becomes two forms, plain and .ftz, or four with .sat. .ftz flushes inputs and result; .sat
 * comes last. Rounding is the host's, to nearest even; fma has the other three directions too. The
 * .approx functions are the host's libm, whose errors are below those that PTX allows; ex2 is
 * sim_exp2 (alu/float.h). */
#include "simgpu/alu/alu.h"

/* a * b + c, rounded once: down (direction -1), up (1) or towards zero (0). A double holds the
 * product exactly, and the sum such that rounding it once more is right. */
static inline float fma_directed(float a, float b, float c, int direction) {
  double exact = sim_sum_to_odd((double)a * b, c);
  /* IEEE 754: terms that cancel leave -0 when rounding down, else +0. */
  if (exact == 0 && direction < 0) return signbit((double)a * b) || signbit(c) ? -0.0f : 0.0f;
  float near = (float)exact;
  if ((double)near == exact || near != near || isinf(exact)) return near;
  bool down = direction < 0 || (direction == 0 && exact > 0);
  if (down && (double)near > exact) return nextafterf(near, -INFINITY);
  if (!down && (double)near < exact) return nextafterf(near, INFINITY);
  return near;
}

#define SIM_1(name, pattern, D, A, ...) SIM_DEFINE_1(name, D, A, __VA_ARGS__)
#define SIM_2(name, pattern, D, A, B, ...) SIM_DEFINE_2(name, D, A, B, __VA_ARGS__)
#define SIM_3(name, pattern, D, A, B, C, ...) SIM_DEFINE_3(name, D, A, B, C, __VA_ARGS__)
/* The expression of a row as a function, for its two or four handlers. */
#define SIM_VALUE(name, parameters, ...)        \
  static inline float name##_value parameters { \
    return __VA_ARGS__;                         \
  }
#define SIM_F1(name, head, tail, ...)           \
  SIM_VALUE(name, (f32 a), __VA_ARGS__)         \
  SIM_DEFINE_1(name, f32, f32, name##_value(a)) \
  SIM_DEFINE_1(name##_ftz, f32, f32, sim_flush(name##_value(sim_flush(a))))
#define SIM_F2(name, head, tail, ...)                   \
  SIM_VALUE(name, (f32 a, f32 b), __VA_ARGS__)          \
  SIM_DEFINE_2(name, f32, f32, f32, name##_value(a, b)) \
  SIM_DEFINE_2(name##_ftz, f32, f32, f32, sim_flush(name##_value(sim_flush(a), sim_flush(b))))
#define SIM_F3(name, head, tail, ...)                           \
  SIM_VALUE(name, (f32 a, f32 b, f32 c), __VA_ARGS__)           \
  SIM_DEFINE_3(name, f32, f32, f32, f32, name##_value(a, b, c)) \
  SIM_DEFINE_3(name##_ftz, f32, f32, f32, f32,                  \
               sim_flush(name##_value(sim_flush(a), sim_flush(b), sim_flush(c))))
#define SIM_F2S(name, head, tail, ...)                                      \
  SIM_F2(name, head, tail, __VA_ARGS__)                                     \
  SIM_DEFINE_2(name##_sat, f32, f32, f32, sim_saturate(name##_value(a, b))) \
  SIM_DEFINE_2(name##_ftz_sat, f32, f32, f32,                               \
               sim_saturate(sim_flush(name##_value(sim_flush(a), sim_flush(b)))))
#define SIM_F3S(name, head, tail, ...)                                              \
  SIM_F3(name, head, tail, __VA_ARGS__)                                             \
  SIM_DEFINE_3(name##_sat, f32, f32, f32, f32, sim_saturate(name##_value(a, b, c))) \
  SIM_DEFINE_3(name##_ftz_sat, f32, f32, f32, f32,                                  \
               sim_saturate(sim_flush(name##_value(sim_flush(a), sim_flush(b), sim_flush(c)))))
#include "simgpu/alu/single_rows.def"
#undef SIM_1
#undef SIM_2
#undef SIM_3
#undef SIM_F1
#undef SIM_F2
#undef SIM_F3
#undef SIM_F2S
#undef SIM_F3S

#define SIM_1(name, pattern, D, A, ...) SIM_FORM_1(name, pattern, D, A, SIM_CLASS_FLOAT)
#define SIM_2(name, pattern, D, A, B, ...) SIM_FORM_2(name, pattern, D, A, B, SIM_CLASS_FLOAT)
#define SIM_3(name, pattern, D, A, B, C, ...) SIM_FORM_3(name, pattern, D, A, B, C, SIM_CLASS_FLOAT)
#define SIM_F1(name, head, tail, ...)              \
  {head tail, NULL, name, "w=w", SIM_CLASS_FLOAT}, \
      {head ".ftz" tail, NULL, name##_ftz, "w=w", SIM_CLASS_FLOAT},
#define SIM_F2(name, head, tail, ...)               \
  {head tail, NULL, name, "w=ww", SIM_CLASS_FLOAT}, \
      {head ".ftz" tail, NULL, name##_ftz, "w=ww", SIM_CLASS_FLOAT},
#define SIM_F3(name, head, tail, ...)                \
  {head tail, NULL, name, "w=www", SIM_CLASS_FLOAT}, \
      {head ".ftz" tail, NULL, name##_ftz, "w=www", SIM_CLASS_FLOAT},
#define SIM_F2S(name, head, tail, ...)                                                   \
  SIM_F2(name, head, tail){head ".sat" tail, NULL, name##_sat, "w=ww", SIM_CLASS_FLOAT}, \
      {head ".ftz.sat" tail, NULL, name##_ftz_sat, "w=ww", SIM_CLASS_FLOAT},
#define SIM_F3S(name, head, tail, ...)                                                    \
  SIM_F3(name, head, tail){head ".sat" tail, NULL, name##_sat, "w=www", SIM_CLASS_FLOAT}, \
      {head ".ftz.sat" tail, NULL, name##_ftz_sat, "w=www", SIM_CLASS_FLOAT},
static const struct sim_form forms[] = {
#include "simgpu/alu/single_rows.def"
};
SIM_LIST(sim_float_forms, forms);
