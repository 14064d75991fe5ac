/* alu.h - macros that make a handler and a form (decode/form.h) of each row of a table.
 *
 * A row has the name of its handler, its pattern, the types of its operands and an expression. In
 * it a, b, c and d are the inputs of one lane. A file reads its table twice: SIM_DEFINE_n makes
 * the handler of a row with n inputs, SIM_FORM_n its form. D is the type of the output, A to C are
 * those of the inputs; slot 0 holds the output, the next ones hold the inputs.
 *
 * The rest of alu/ has handlers for what needs more than an expression. All of them read and write
 * the registers of one warp, memory not at all. */
#ifndef FOVEA_SIMGPU_ALU_ALU_H
#define FOVEA_SIMGPU_ALU_ALU_H

#include "simgpu/alu/float.h"
#include "simgpu/decode/form.h"
#include "simgpu/sched/machine.h"

/* Slot i of the instruction: an array of 32 lanes, or the bits of a predicate. */
#define SIM_SLOT(type, i) ((type *)(warp->registers + inst->slot[i]))
#define SIM_PREDICATE(i) (*(u32 *)(warp->registers + inst->slot[i]))

#if defined(__clang__)
#define SIM_INDEPENDENT
#else
#define SIM_INDEPENDENT _Pragma("GCC ivdep")
#endif

/* The common case, all lanes, is a loop that the compiler vectorises. ivdep allows that: two slots
 * are either the same or do not overlap, so no lane depends on an earlier one. */
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

/* The letter of a type in a form's operands. */
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

/* bfi: two values of type T, a position and a length. */
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

#endif /* FOVEA_SIMGPU_ALU_ALU_H */
