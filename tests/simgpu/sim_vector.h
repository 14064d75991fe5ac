// One instruction on many values: PTX written on the spot, run, compared with a definition.
#ifndef FOVEA_TESTS_SIMGPU_SIM_VECTOR_H
#define FOVEA_TESTS_SIMGPU_SIM_VECTOR_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/simgpu/gpu.h"

namespace simgpu {

// letters: "w=ww" as in simgpu/decode/form.h; inputs and outputs travel as 64-bit words.
struct Vector {
  std::string opcode, letters;
  std::function<uint64_t(uint64_t, uint64_t, uint64_t)> define;
  bool is_float = false;  // any NaN equals any other
};

// Runs the instruction on the cross product of interesting values; fails the test on a difference.
void check_vector(const Vector &vector, const std::vector<uint64_t> &values);

// A kernel of one warp: `body` reads %r0 .. (32-bit words of the lane) and leaves words in %o0 ..
std::vector<uint32_t> run_warp_body(const std::string &body, int inputs, int outputs,
                                    const std::vector<uint32_t> &words, CUresult *result = nullptr);

}  // namespace simgpu

#endif  // FOVEA_TESTS_SIMGPU_SIM_VECTOR_H
