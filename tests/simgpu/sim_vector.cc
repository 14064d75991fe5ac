#include "tests/simgpu/sim_vector.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace simgpu {

static const char *HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n";

// The last member of each family is the result.
static std::string write_kernel(const Vector &vector) {
  std::string inputs = vector.letters.substr(2);
  std::string text = std::string(HEADER) +
                     ".visible .entry vector(.param .u64 out, .param .u64 in) {\n"
                     ".reg .b16 %h<5>; .reg .b32 %w<9>; .reg .b64 %d<9>; .reg .pred %p<5>;\n"
                     "ld.param.u64 %d5, [out]; ld.param.u64 %d6, [in];\n"
                     "mov.u32 %w5, %ctaid.x; mov.u32 %w6, %ntid.x; mov.u32 %w7, %tid.x;\n"
                     "mad.lo.s32 %w8, %w5, %w6, %w7;\n"
                     "mul.wide.u32 %d7, %w8, 24; add.s64 %d6, %d6, %d7;\n"
                     "mul.wide.u32 %d7, %w8, 8; add.s64 %d5, %d5, %d7;\n";
  std::string operands = std::string("%") + vector.letters[0] + "3";
  for (size_t i = 0; i < inputs.size(); i++) {
    std::string number = std::to_string(i), name = std::string("%") + inputs[i] + number;
    text += "ld.global.u64 %d4, [%d6+" + std::to_string(8 * i) + "];\n";
    if (inputs[i] == 'p') {
      text += "setp.ne.u64 " + name + ", %d4, 0;\n";
    } else if (inputs[i] == 'd') {
      text += "mov.b64 " + name + ", %d4;\n";
    } else {
      text +=
          std::string("cvt.") + (inputs[i] == 'h' ? "u16" : "u32") + ".u64 " + name + ", %d4;\n";
    }
    operands += ", " + name;
  }
  text += vector.opcode + " " + operands + ";\n";
  char out = vector.letters[0];
  if (out == 'p') text += "selp.b64 %d8, 1, 0, %p3;\n";
  if (out == 'h') text += "cvt.u64.u16 %d8, %h3;\n";
  if (out == 'w') text += "cvt.u64.u32 %d8, %w3;\n";
  if (out == 'd') text += "mov.b64 %d8, %d3;\n";
  return text + "st.global.u64 [%d5], %d8;\nret;\n}\n";
}

static bool is_nan(uint64_t bits, char letter) {
  if (letter == 'w') return (bits & 0x7fffffff) > 0x7f800000;
  if (letter == 'd') return (bits & INT64_MAX) > 0x7ff0000000000000u;
  return false;
}

static uint64_t cut(uint64_t bits, char letter) {
  return letter == 'h' ? bits & 0xffff : letter == 'w' ? bits & UINT32_MAX : bits;
}

void check_vector(const Vector &vector, const std::vector<uint64_t> &values) {
  size_t inputs = vector.letters.size() - 2;
  std::vector<uint64_t> words;
  for (uint64_t a : values) {
    for (uint64_t b : values) {
      uint64_t c = values[(words.size() / 3 * 7 + 3) % values.size()];
      words.insert(words.end(), {a, b, c});
      if (inputs == 1) break;
    }
  }
  while (words.size() % 96) words.push_back(0);
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  size_t count = words.size() / 3;
  CUmodule module = gpu.load(write_kernel(vector));
  ASSERT_NE(nullptr, module) << vector.opcode;
  CUdeviceptr in = gpu.upload(words), out = gpu.allocate(count * 8);
  Gpu::Shape shape;
  shape.grid[0] = static_cast<unsigned>(count / 32);
  ASSERT_EQ(CUDA_SUCCESS, gpu.run(gpu.find(module, "vector"), shape, out, in));
  std::vector<uint64_t> got = gpu.read<uint64_t>(out, count);
  for (size_t i = 0; i < count; i++) {
    uint64_t in_cut[3];
    for (size_t k = 0; k < 3; k++) {
      in_cut[k] = cut(words[3 * i + k], k < inputs ? vector.letters[2 + k] : 'd');
    }
    uint64_t wanted = cut(vector.define(in_cut[0], in_cut[1], in_cut[2]), vector.letters[0]);
    if (vector.is_float && is_nan(wanted, vector.letters[0]) && is_nan(got[i], vector.letters[0])) {
      continue;
    }
    ASSERT_EQ(wanted, got[i]) << vector.opcode << std::hex << " of 0x" << in_cut[0] << ", 0x"
                              << in_cut[1] << ", 0x" << in_cut[2];
  }
  gpu.release(in);
  gpu.release(out);
  gpu.unload(module);
}

std::vector<uint32_t> run_warp_body(const std::string &body, int inputs, int outputs,
                                    const std::vector<uint32_t> &words, CUresult *result) {
  std::string text =
      std::string(HEADER) +
      ".visible .entry body(.param .u64 out, .param .u64 in) {\n"
      ".reg .b32 %r<33>; .reg .b32 %o<9>; .reg .b32 %lane; .reg .b64 %d<4>; .reg .pred %p<4>;\n"
      ".shared .align 128 .b8 tile[4096];\n"
      "ld.param.u64 %d0, [out]; ld.param.u64 %d1, [in]; mov.u32 %lane, %tid.x;\n"
      "mul.wide.u32 %d2, %lane, 4; add.s64 %d0, %d0, %d2; add.s64 %d1, %d1, %d2;\n";
  for (int i = 0; i < inputs; i++) {
    text += "ld.global.u32 %r" + std::to_string(i) + ", [%d1+" + std::to_string(128 * i) + "];\n";
  }
  text += body + "\n";
  for (int i = 0; i < outputs; i++) {
    text += "st.global.u32 [%d0+" + std::to_string(128 * i) + "], %o" + std::to_string(i) + ";\n";
  }
  text += "ret;\n}\n";
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUmodule module = gpu.load(text);
  if (!module) return std::vector<uint32_t>(32 * outputs);
  CUdeviceptr in = gpu.upload(words), out = gpu.allocate(128 * outputs);
  CUresult ran = gpu.run(gpu.find(module, "body"), Gpu::Shape(), out, in);
  if (result) {
    *result = ran;
    gpu.reset();
  } else {
    EXPECT_EQ(CUDA_SUCCESS, ran);
  }
  std::vector<uint32_t> got = gpu.read<uint32_t>(out, 32 * outputs);
  gpu.release(in);
  gpu.release(out);
  gpu.unload(module);
  return got;
}

}  // namespace simgpu
