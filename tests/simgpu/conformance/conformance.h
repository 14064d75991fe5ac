// The conformance set: small kernels, each of one form of an instruction. Their outputs are
// recorded on one driver (a GPU's, once there is one) and compared with another's (the software
// GPU's).
//
// A row of the tables (*.def) has the PTX and, independently of any driver, a definition of what it
// computes. A kernel has CONFORM_CTAS CTAs of one warp. Lane l of CTA c reads inputs[c][i][l] and
// writes outputs[c][o][l].
#ifndef FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_H
#define FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/simgpu/conformance/conformance_number.h"

enum { CONFORM_CTAS = 8, CONFORM_LANES = 32, CONFORM_INPUTS_MAX = 10, CONFORM_OUTPUTS_MAX = 4 };

// What a kernel reads. UNIT and WHOLE are operands of products: numbers in [-1, 1], or small whole
// numbers, whose sums are exact in any order. The accumulators after them are f32, s32 or f16.
enum conform_source {
  FROM_WORDS,     // any 32 bits, one in four of them special
  FROM_FLOATS,    // f32, one in four special
  FROM_FINITE,    // f32 of ordinary size
  FROM_TINY,      // f32, subnormals and the smallest normals
  FROM_POWERS,    // f32 in [-130, 130]
  FROM_POSITIVE,  // f32 > 0 of any normal size
  FROM_NEAR_ONE,  // f32 in [0.5, 2]
  FROM_ANGLES,    // f32 in [-2 pi, 2 pi]
  FROM_HALVES,    // pairs of f16
  FROM_BRAINS,    // pairs of bf16
  FROM_UNIT,      // + enum number
  FROM_WHOLE = FROM_UNIT + NUMBER_COUNT,
};

// How two outputs are compared: as numbers of a type. They may differ by at most `ulp` units in the
// last place of the larger one plus `absolute`. Any NaN equals any other. NUMBER_S32 compares bits.
struct conform_judge {
  enum number type;
  double ulp, absolute;
};

typedef void (*conform_definition)(const uint32_t (*in)[CONFORM_LANES],
                                   uint32_t (*out)[CONFORM_LANES], uint32_t cta);

struct conform_row {
  const char *name;
  int sm;  // 80: runs everywhere; 90: Hopper and later, some rows from sm_89
  int inputs, outputs;
  int source;
  struct conform_judge judge;
  const char *text;  // PTX: %i0.. to %o0..; conformance_text.c declares what else may be used
  conform_definition define;
};

extern const struct conform_row conform_rows[];
extern const size_t conform_row_count;

// The inputs of one CTA of a row: always the same.
void conform_fill(const struct conform_row *row, int cta, uint32_t (*in)[CONFORM_LANES]);
bool conform_agrees(const struct conform_judge *judge, uint32_t a, uint32_t b);

#endif  // FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_H
