/* alu.h - how a row of an instruction table becomes a handler and a form.
 *
 * The tables (sim_*.def) are read twice: once with SIM_DEFINE_HANDLERS to write one function per
 * row, once to list the forms. A row names its function, its pattern, the types of its operands,
 * and the expression; a, b, c, d are the inputs' values of one lane. */
#ifndef SIM_ALU_H
#define SIM_ALU_H

#include "simgpu/alu/float.h"
#include "simgpu/decode/form.h"
#include "simgpu/sched/machine.h"

#define SIM_SLOT(type, i) ((type *)(warp->registers + inst->slot[i]))
#define SIM_PREDICATE(i) (*(u32 *)(warp->registers + inst->slot[i]))

#if defined(__clang__)
#define SIM_INDEPENDENT
#else
#define SIM_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* The loop over all 32 lanes is what the vectoriser sees; registers are the same or do not overlap.
 */
#define SIM_FOR_LANES(...)                                \
  if (mask == UINT32_MAX) {                               \
    SIM_INDEPENDENT for (u32 l = 0; l < SIM_LANES; l++) { \
      __VA_ARGS__                                         \
    }                                                     \
  } else {                                                \
    SIM_EACH_LANE(l, mask) {                              \
      __VA_ARGS__                                         \
    }                                                     \
  }

#define SIM_LETTER_u16 "h"
#define SIM_LETTER_s16 "h"
#define SIM_LETTER_u32 "w"
#define SIM_LETTER_s32 "w"
#define SIM_LETTER_f32 "w"
#define SIM_LETTER_u64 "d"
#define SIM_LETTER_s64 "d"
#define SIM_LETTER_f64 "d"
#define SIM_LETTER(type) SIM_LETTER_##type

#define SIM_HANDLER(name) \
  SIM_CLONES static void name(struct sim_warp *warp, const struct sim_inst *inst, u32 mask)

#define SIM_DEFINE_1(name, D, A, ...)                        \
  SIM_HANDLER(name) {                                        \
    D *out = SIM_SLOT(D, 0);                                 \
    const A *in_a = SIM_SLOT(A, 1);                          \
    SIM_FOR_LANES(A a = in_a[l]; out[l] = (D)(__VA_ARGS__);) \
  }

#define SIM_DEFINE_2(name, D, A, B, ...)                                    \
  SIM_HANDLER(name) {                                                       \
    D *out = SIM_SLOT(D, 0);                                                \
    const A *in_a = SIM_SLOT(A, 1);                                         \
    const B *in_b = SIM_SLOT(B, 2);                                         \
    SIM_FOR_LANES(A a = in_a[l]; B b = in_b[l]; out[l] = (D)(__VA_ARGS__);) \
  }

#define SIM_DEFINE_3(name, D, A, B, C, ...)                                                \
  SIM_HANDLER(name) {                                                                      \
    D *out = SIM_SLOT(D, 0);                                                               \
    const A *in_a = SIM_SLOT(A, 1);                                                        \
    const B *in_b = SIM_SLOT(B, 2);                                                        \
    const C *in_c = SIM_SLOT(C, 3);                                                        \
    SIM_FOR_LANES(A a = in_a[l]; B b = in_b[l]; C c = in_c[l]; out[l] = (D)(__VA_ARGS__);) \
  }

#define SIM_DEFINE_4(name, T, ...)                                                \
  SIM_HANDLER(name) {                                                             \
    T *out = SIM_SLOT(T, 0);                                                      \
    const T *in_a = SIM_SLOT(T, 1);                                               \
    const T *in_b = SIM_SLOT(T, 2);                                               \
    const u32 *in_c = SIM_SLOT(u32, 3);                                           \
    const u32 *in_d = SIM_SLOT(u32, 4);                                           \
    SIM_FOR_LANES(T a = in_a[l]; T b = in_b[l]; u32 c = in_c[l]; u32 d = in_d[l]; \
                  out[l] = (T)(__VA_ARGS__);)                                     \
  }

#define SIM_FORM_1(name, pattern, D, A, class) \
  {pattern, NULL, name, SIM_LETTER(D) "=" SIM_LETTER(A), class},
#define SIM_FORM_2(name, pattern, D, A, B, class) \
  {pattern, NULL, name, SIM_LETTER(D) "=" SIM_LETTER(A) SIM_LETTER(B), class},
#define SIM_FORM_3(name, pattern, D, A, B, C, class) \
  {pattern, NULL, name, SIM_LETTER(D) "=" SIM_LETTER(A) SIM_LETTER(B) SIM_LETTER(C), class},
#define SIM_FORM_4(name, pattern, T, class) \
  {pattern, NULL, name, SIM_LETTER(T) "=" SIM_LETTER(T) SIM_LETTER(T) "ww", class},

#define SIM_LIST(list, table) \
  const struct sim_form_list list = {table, sizeof table / sizeof *table}

#endif
