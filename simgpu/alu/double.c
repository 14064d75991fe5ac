/* double.c - f64 arithmetic: one table, read twice (alu/alu.h). PTX ISA, "Floating Point
 * Instructions". Rounding is the host's, to nearest even. rcp.approx clears the lower half of the
 * result's bits, as PTX defines it. */
#include "simgpu/alu/alu.h"

#define SIM_DOUBLES(_1, _2, _3)                                   \
  _2(add_f64, "add.rn?.f64", f64, f64, f64, a + b)                \
  _2(sub_f64, "sub.rn?.f64", f64, f64, f64, a - b)                \
  _2(mul_f64, "mul.rn?.f64", f64, f64, f64, a *b)                 \
  _3(fma_f64, "fma.rn.f64", f64, f64, f64, f64, fma(a, b, c))     \
  _3(mad_f64, "mad.rn.f64", f64, f64, f64, f64, fma(a, b, c))     \
  _2(div_f64, "div.rn.f64", f64, f64, f64, a / b)                 \
  _2(min_f64, "min.f64", f64, f64, f64, sim_min_f64(a, b))        \
  _2(max_f64, "max.f64", f64, f64, f64, sim_max_f64(a, b))        \
  _2(copysign_f64, "copysign.f64", f64, f64, f64, copysign(b, a)) \
  _1(abs_f64, "abs.f64", f64, f64, fabs(a))                       \
  _1(neg_f64, "neg.f64", f64, f64, -a)                            \
  _1(rcp_f64, "rcp.rn.f64", f64, f64, 1 / a)                      \
  _1(sqrt_f64, "sqrt.rn.f64", f64, f64, sqrt(a))                  \
  _1(rcp_approx_f64, "rcp.approx.ftz.f64", f64, f64,              \
     sim_f64_of(sim_f64_bits(1 / a) & ~0xffffffffull))            \
  _1(rsqrt_f64, "rsqrt.approx.ftz?.f64", f64, f64, 1 / sqrt(a))

#define ROW_1(name, pattern, D, A, ...) SIM_DEFINE_1(name, D, A, __VA_ARGS__)
#define ROW_2(name, pattern, D, A, B, ...) SIM_DEFINE_2(name, D, A, B, __VA_ARGS__)
#define ROW_3(name, pattern, D, A, B, C, ...) SIM_DEFINE_3(name, D, A, B, C, __VA_ARGS__)
SIM_DOUBLES(ROW_1, ROW_2, ROW_3)

#define LIST_1(name, pattern, D, A, ...) SIM_FORM_1(name, pattern, D, A, SIM_CLASS_FLOAT)
#define LIST_2(name, pattern, D, A, B, ...) SIM_FORM_2(name, pattern, D, A, B, SIM_CLASS_FLOAT)
#define LIST_3(name, pattern, D, A, B, C, ...) \
  SIM_FORM_3(name, pattern, D, A, B, C, SIM_CLASS_FLOAT)
static const struct sim_form forms[] = {SIM_DOUBLES(LIST_1, LIST_2, LIST_3)};
SIM_LIST(sim_double_forms, forms);
