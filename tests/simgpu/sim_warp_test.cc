// What the lanes of a warp do together: matrices, shuffles, votes. Definitions are by matrix
// elements and by lanes, as the PTX manual draws them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/simgpu/sim_vector.h"

using namespace simgpu;
using u32 = uint32_t;

static u32 bits(float value) {
  u32 word;
  memcpy(&word, &value, 4);
  return word;
}
static float real(u32 word) {
  float value;
  memcpy(&value, &word, 4);
  return value;
}

// Small whole numbers are exact in every format, and so are sums of their products, in any order.
static int element(int i) {
  return (i * 7 + i / 5) % 9 - 4;
}

static u32 encode(int value, const std::string &type) {
  if (type == "bf16") return bits(static_cast<float>(value)) >> 16;
  if (type == "tf32") return bits(static_cast<float>(value));
  if (type == "s8") return static_cast<uint8_t>(value);
  u32 sign = value < 0, magnitude = static_cast<u32>(value < 0 ? -value : value), exponent = 0;
  if (magnitude == 0) return 0;
  while (magnitude >> (exponent + 1)) exponent++;
  u32 fraction = magnitude - (1u << exponent);
  if (type == "f16") return sign << 15 | (exponent + 15) << 10 | fraction << (10 - exponent);
  if (type == "e4m3") return sign << 7 | (exponent + 7) << 3 | fraction << (3 - exponent);
  return sign << 7 | (exponent + 15) << 2 | (fraction << 2 >> exponent);  // e5m2
}

struct Product {
  const char *shape, *type, *accumulator;
  int k, per_register;
};

class SimgpuMma : public testing::TestWithParam<Product> {};

TEST_P(SimgpuMma, IsTheProductOfItsMatrices) {
  const Product &p = GetParam();
  // e5m2 has 2 bits of mantissa: whole numbers up to 4 are exact.
  int a[16][32], b[32][8];
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < p.k; k++) a[i][k] = element(i * 37 + k);
  for (int k = 0; k < p.k; k++)
    for (int j = 0; j < 8; j++) b[k][j] = element(k * 11 + j * 3 + 1);
  int width = 32 / p.per_register, a_registers = 16 * p.k / 32 / p.per_register;
  int b_registers = 8 * p.k / 32 / p.per_register;
  std::vector<u32> words;
  // Row and column of each element as the manual's tables give them, group = lane / 4.
  for (int r = 0; r < a_registers; r++) {
    for (int lane = 0; lane < 32; lane++) {
      u32 word = 0;
      for (int i = 0; i < p.per_register; i++) {
        int row = lane / 4 + (r % 2 ? 8 : 0);
        int column = lane % 4 * p.per_register + i + (r >= 2 ? 4 * p.per_register : 0);
        word |= encode(a[row][column], p.type) << (width * i);
      }
      words.push_back(word);
    }
  }
  for (int r = 0; r < b_registers; r++) {
    for (int lane = 0; lane < 32; lane++) {
      u32 word = 0;
      for (int i = 0; i < p.per_register; i++) {
        int row = lane % 4 * p.per_register + i + r * 4 * p.per_register;
        word |= encode(b[row][lane / 4], p.type) << (width * i);
      }
      words.push_back(word);
    }
  }
  bool is_whole = !strcmp(p.accumulator, "s32");
  for (int r = 0; r < 4; r++)
    for (int lane = 0; lane < 32; lane++) {
      int c = element(r * 32 + lane);
      words.push_back(is_whole ? static_cast<u32>(c) : bits(static_cast<float>(c)));
    }
  int next = 0;
  auto list = [&](int count) {
    std::string text = "{";
    for (int i = 0; i < count; i++) text += (i ? ", %r" : "%r") + std::to_string(next++);
    return text + "}";
  };
  std::string type = p.type, operands = list(a_registers);
  operands += ", " + list(b_registers);
  operands += ", " + list(4);
  std::string body = std::string("mma.sync.aligned.") + p.shape + ".row.col." + p.accumulator +
                     "." + type + "." + type + "." + p.accumulator + " {%o0, %o1, %o2, %o3}, " +
                     operands + ";";
  std::vector<u32> got = run_warp_body(body, next, 4, words);
  for (int r = 0; r < 4; r++) {
    for (int lane = 0; lane < 32; lane++) {
      int row = lane / 4 + (r >= 2 ? 8 : 0), column = lane % 4 * 2 + r % 2,
          wanted = element(r * 32 + lane);
      for (int k = 0; k < p.k; k++) wanted += a[row][k] * b[k][column];
      u32 word = got[r * 32 + lane];
      EXPECT_EQ(wanted, is_whole ? static_cast<int>(word) : real(word)) << row << ", " << column;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SimgpuMma,
    testing::Values(
        Product{"m16n8k16", "bf16", "f32", 16, 2}, Product{"m16n8k16", "f16", "f32", 16, 2},
        Product{"m16n8k8", "bf16", "f32", 8, 2}, Product{"m16n8k8", "f16", "f32", 8, 2},
        Product{"m16n8k8", "tf32", "f32", 8, 1}, Product{"m16n8k4", "tf32", "f32", 4, 1},
        Product{"m16n8k32", "e4m3", "f32", 32, 4}, Product{"m16n8k32", "e5m2", "f32", 32, 4},
        Product{"m16n8k32", "s8", "s32", 32, 4}, Product{"m16n8k16", "s8", "s32", 16, 4}),
    [](const auto &info) { return std::string(info.param.shape) + "_" + info.param.type; });

// Fills the tile with 16-bit numbers that name their matrix, row and column.
static const char *FILL_TILE =
    ".reg .b32 %t<4>; .reg .b16 %s; mov.u32 %t0, tile; mov.u32 %t1, 0;\n"
    "fill: shl.b32 %t2, %t1, 5; add.s32 %t2, %t2, %lane; cvt.u16.u32 %s, %t2;\n"
    "shl.b32 %t3, %t2, 1; add.s32 %t3, %t3, %t0; st.shared.u16 [%t3], %s;\n"
    "add.s32 %t1, %t1, 1; setp.lt.u32 %p0, %t1, 8; @%p0 bra fill; bar.sync 0;\n"
    "shl.b32 %t2, %lane, 4; add.s32 %t2, %t2, %t0;\n";

TEST(SimgpuWarp, LdmatrixGivesEachLaneItsTwoElements) {
  for (bool transposed : {false, true}) {
    std::string body = std::string(FILL_TILE) + "ldmatrix.sync.aligned.m8n8.x4" +
                       (transposed ? ".trans" : "") + ".shared.b16 {%o0, %o1, %o2, %o3}, [%t2];";
    std::vector<u32> got = run_warp_body(body, 0, 4, std::vector<u32>(32));
    for (u32 matrix = 0; matrix < 4; matrix++) {
      for (u32 lane = 0; lane < 32; lane++) {
        for (u32 i = 0; i < 2; i++) {
          u32 row = lane / 4, column = lane % 4 * 2 + i;
          if (transposed) std::swap(row, column);
          EXPECT_EQ(matrix * 64 + row * 8 + column, got[matrix * 32 + lane] >> 16 * i & 0xffff);
        }
      }
    }
  }
}

TEST(SimgpuWarp, StmatrixUndoesLdmatrix) {
  std::string body =
      std::string(FILL_TILE) +
      "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%o0, %o1}, [%t2];\n"
      "add.s32 %t2, %t2, 512; stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%t2], {%o0, %o1};\n"
      "bar.warp.sync -1; shl.b32 %t3, %lane, 2; add.s32 %t3, %t3, %t0; ld.shared.u32 %o0, "
      "[%t3+512];"
      "ld.shared.u32 %o1, [%t3+640];";
  std::vector<u32> got = run_warp_body(body, 0, 2, std::vector<u32>(32));
  for (u32 i = 0; i < 64; i++) EXPECT_EQ((2 * i + 1) << 16 | 2 * i, got[i]) << i;
}

TEST(SimgpuWarp, MovmatrixTransposes) {
  std::vector<u32> words;
  for (u32 i = 0; i < 32; i++)
    words.push_back((2 * i + 1) << 16 | 2 * i);  // element (r, c) is 8 r + c
  std::vector<u32> got =
      run_warp_body("movmatrix.sync.aligned.m8n8.trans.b16 %o0, %r0;", 1, 1, words);
  for (u32 lane = 0; lane < 32; lane++) {
    for (u32 i = 0; i < 2; i++) {
      EXPECT_EQ((lane % 4 * 2 + i) * 8 + lane / 4, got[lane] >> 16 * i & 0xffff);
    }
  }
}

TEST(SimgpuWarp, ShufflesInAllDirectionsAndSegments) {
  std::vector<u32> words;
  for (u32 i = 0; i < 32; i++) words.push_back(100 + i);
  for (u32 width : {32u, 8u}) {
    for (u32 offset : {1u, 3u, 7u}) {
      u32 clamp = (32 - width) << 8, down_clamp = clamp | 31;
      auto run = [&](const char *mode, u32 c) {
        return run_warp_body(std::string("shfl.sync.") + mode + ".b32 %o0|%p1, %r0, " +
                                 std::to_string(offset) + ", " + std::to_string(c) +
                                 ", -1; selp.u32 %o1, 1, 0, %p1;",
                             1, 2, words);
      };
      std::vector<u32> up = run("up", clamp), down = run("down", down_clamp),
                       butterfly = run("bfly", down_clamp), index = run("idx", down_clamp);
      for (u32 lane = 0; lane < 32; lane++) {
        u32 base = lane / width * width, at = lane % width;
        EXPECT_EQ(at >= offset ? 100 + lane - offset : 100 + lane, up[lane]);
        EXPECT_EQ(at >= offset, up[32 + lane]);
        EXPECT_EQ(at + offset < width ? 100 + lane + offset : 100 + lane, down[lane]);
        EXPECT_EQ(100 + (lane ^ offset), butterfly[lane]);
        EXPECT_EQ(100 + base + offset % width, index[lane]);
      }
    }
  }
}

TEST(SimgpuWarp, VotesMatchesAndReductions) {
  std::vector<u32> words;
  for (u32 i = 0; i < 32; i++) words.push_back(i * i % 5);
  std::vector<u32> got = run_warp_body(
      "setp.eq.u32 %p0, %r0, 4; vote.sync.ballot.b32 %o0, %p0, -1; match.any.sync.b32 %o1, %r0, "
      "-1;\n"
      "redux.sync.add.u32 %o2, %r0, -1; redux.sync.max.u32 %o3, %r0, -1;\n"
      "vote.sync.any.pred %p1, %p0, -1; vote.sync.all.pred %p2, %p0, -1;\n"
      "selp.u32 %o4, 1, 0, %p1; selp.u32 %o5, 1, 0, %p2;",
      1, 6, words);
  u32 ballot = 0, sum = 0;
  for (u32 i = 0; i < 32; i++) ballot |= (words[i] == 4) << i, sum += words[i];
  for (u32 lane = 0; lane < 32; lane++) {
    u32 same = 0;
    for (u32 i = 0; i < 32; i++) same |= (words[i] == words[lane]) << i;
    EXPECT_EQ(ballot, got[lane]);
    EXPECT_EQ(same, got[32 + lane]);
    EXPECT_EQ(sum, got[64 + lane]);
    EXPECT_EQ(4u, got[96 + lane]);
    EXPECT_EQ(1u, got[128 + lane]);
    EXPECT_EQ(0u, got[160 + lane]);
  }
}

TEST(SimgpuWarp, ProductsWithCarry) {
  std::vector<u32> words;
  for (u32 i = 0; i < 96; i++) words.push_back(i * 0x9e3779b9u ^ i << 29);
  std::vector<u32> got = run_warp_body(
      "mad.lo.cc.u32 %o0, %r0, %r1, %r2; madc.hi.cc.u32 %o1, %r0, %r1, %r1; addc.u32 %o2, 0, 0;\n"
      "add.cc.u32 %o4, -1, 1; madc.lo.s32 %o3, %r0, %r1, %r2;\n"
      "mad.hi.cc.s32 %o4, %r0, %r1, %r2; addc.u32 %o5, 0, 0;",
      3, 6, words);
  for (u32 lane = 0; lane < 32; lane++) {
    uint64_t a = words[lane], b = words[32 + lane], c = words[64 + lane];
    unsigned __int128 sum = static_cast<unsigned __int128>(a * b) + c + (b << 32);
    EXPECT_EQ(static_cast<u32>(sum), got[lane]);
    EXPECT_EQ(static_cast<u32>(sum >> 32), got[32 + lane]);
    EXPECT_EQ(static_cast<u32>(sum >> 64), got[64 + lane]);
    EXPECT_EQ(static_cast<u32>(a * b + c + 1), got[96 + lane]);
    int64_t product = static_cast<int64_t>(static_cast<int32_t>(a)) * static_cast<int32_t>(b);
    uint64_t high = (static_cast<uint64_t>(product) >> 32) + c;
    EXPECT_EQ(static_cast<u32>(high), got[128 + lane]);
    EXPECT_EQ(static_cast<u32>(high >> 32), got[160 + lane]);
  }
}

// nvcc writes the space before the scope, and cooperative groups the operation before both.
TEST(SimgpuWarp, AtomicsInEverySpelling) {
  std::vector<u32> words;
  for (u32 i = 0; i < 32; i++) words.push_back(3 * i);
  std::vector<u32> got = run_warp_body(
      "atom.global.cta.add.u32 %o0, [%d1], 1; atom.add.release.gpu.u32 %o1, [%d1], 2;\n"
      "red.global.sys.max.s32 [%d1], 50; ld.global.u32 %o2, [%d1];",
      0, 3, words);
  for (u32 lane = 0; lane < 32; lane++) {
    EXPECT_EQ(3 * lane, got[lane]);
    EXPECT_EQ(3 * lane + 1, got[32 + lane]);
    EXPECT_EQ(std::max(50u, 3 * lane + 3), got[64 + lane]);
  }
}

TEST(SimgpuWarp, ComparesBothHalvesOfAPair) {
  std::vector<u32> words = {0x3c004000, 0x40003c00, 0x7e003c00, 0x3c007e00};
  words.resize(32);
  std::vector<u32> got = run_warp_body(
      "setp.gt.f16x2 %p0|%p1, %r0, 0x3e003e00; selp.u32 %o0, 1, 0, %p0; selp.u32 %o1, 1, 0, %p1;",
      1, 2, words);
  for (u32 lane = 0; lane < 4; lane++) {
    EXPECT_EQ(lane == 0, got[lane] != 0) << lane;
    EXPECT_EQ(lane == 1, got[32 + lane] != 0) << lane;
  }
}

// Each half names itself, as the tiles of cooperative groups do.
static const char *HALVES =
    ".reg .b32 %m, %u; .reg .pred %h; setp.lt.u32 %h, %lane, 16;\n"
    "selp.b32 %m, 0xffff, 0xffff0000, %h;\n";

TEST(SimgpuWarp, GroupsThatNameDifferentMembersAreApart) {
  std::vector<u32> words;
  for (u32 i = 0; i < 32; i++) words.push_back(i * i % 5);
  std::vector<u32> got = run_warp_body(
      std::string(HALVES) +
          "setp.eq.u32 %p0, %r0, 4; vote.sync.ballot.b32 %o0, %p0, %m;\n"
          "match.any.sync.b32 %o1, %r0, %m; redux.sync.add.u32 %o2, %r0, %m;\n"
          "elect.sync %o3|%p1, %m; shfl.sync.bfly.b32 %o4, %r0, 3, 31, %m;\n"
          "setp.lt.u32 %p0, %lane, 20; vote.sync.all.pred %p1, %p0, %m; selp.u32 %o5, 1, 0, %p1;",
      1, 6, words);
  for (u32 lane = 0; lane < 32; lane++) {
    u32 first = lane / 16 * 16, ballot = 0, same = 0, sum = 0;
    for (u32 i = first; i < first + 16; i++) {
      ballot |= (words[i] == 4) << i, same |= (words[i] == words[lane]) << i, sum += words[i];
    }
    EXPECT_EQ(ballot, got[lane]);
    EXPECT_EQ(same, got[32 + lane]);
    EXPECT_EQ(sum, got[64 + lane]);
    EXPECT_EQ(first, got[96 + lane]);
    EXPECT_EQ(words[lane ^ 3], got[128 + lane]);
    EXPECT_EQ(lane < 16, got[160 + lane] != 0);
  }
}

// Lanes 24 to 31 come only when the lower half has gone on.
TEST(SimgpuWarp, AGroupDoesNotWaitForAnother) {
  std::vector<u32> got = run_warp_body(
      std::string(HALVES) +
          "mov.u32 %u, tile; st.volatile.shared.u32 [%u], 0; bar.warp.sync -1;\n"
          "setp.lt.u32 %p0, %lane, 24; @%p0 bra meet;\n"
          "spin: ld.volatile.shared.u32 %o1, [%u]; setp.eq.u32 %p1, %o1, 0; @%p1 bra spin;\n"
          "meet: redux.sync.add.u32 %o0, %lane, %m;\n"
          "setp.eq.u32 %p1, %lane, 3; @%p1 st.volatile.shared.u32 [%u], 1;",
      0, 1, std::vector<u32>(32));
  for (u32 lane = 0; lane < 32; lane++) EXPECT_EQ(lane < 16 ? 120u : 376u, got[lane]) << lane;
}

TEST(SimgpuWarp, MembersMustNameThemselvesAndAgree) {
  for (const char *mask :
       {"selp.b32 %m, 0xffff, 0xffff00ff, %h;", "selp.b32 %m, -1, 0xffff, %h;"}) {
    CUresult result;
    Gpu::instance().reset();
    run_warp_body(std::string(HALVES) + mask + "redux.sync.add.u32 %o0, %lane, %m;", 0, 1,
                  std::vector<u32>(32), &result);
    EXPECT_NE(CUDA_SUCCESS, result) << mask;
  }
}

TEST(SimgpuWarp, LanesMeetAgainAfterABranch) {
  std::vector<u32> words(32);
  std::vector<u32> got = run_warp_body(
      "mov.u32 %o0, 0; loop: setp.ge.u32 %p0, %o0, %lane; @%p0 bra done; add.s32 %o0, %o0, 1; bra "
      "loop;\n"
      "done: redux.sync.add.u32 %o1, %o0, -1;",
      0, 2, words);
  for (u32 lane = 0; lane < 32; lane++) {
    EXPECT_EQ(lane, got[lane]);
    EXPECT_EQ(496u, got[32 + lane]);
  }
}

TEST(SimgpuWarp, EveryLaneMayTakeABranchOfItsOwn) {
  std::string list = "list: .branchtargets ", code;
  for (int lane = 0; lane < 32; lane++) {
    std::string label = "t" + std::to_string(lane);
    list += label + (lane < 31 ? ", " : ";\n");
    code += label + ": mov.u32 %o0, " + std::to_string(100 + lane) + "; bra done;\n";
  }
  std::vector<u32> words(32, 0x80000000);
  std::vector<u32> got =
      run_warp_body(list + "add.cc.u32 %o2, %r0, %r0; brx.idx %lane, list;\n" + code +
                        "done: redux.sync.add.u32 %o1, %o0, -1; addc.u32 %o2, 0, 0;",
                    1, 3, words);
  for (u32 lane = 0; lane < 32; lane++) {
    EXPECT_EQ(100 + lane, got[lane]);
    EXPECT_EQ(3696u, got[32 + lane]);
    EXPECT_EQ(1u, got[64 + lane]) << "the carry of lane " << lane;
  }
}

// A module of the kernels k0, k1, ... with these bodies.
static CUmodule load_bodies(const std::vector<std::string> &bodies, std::string *said) {
  std::string text = ".version 9.0\n.target sm_90\n.address_size 64\n";
  for (size_t i = 0; i < bodies.size(); i++) {
    text += ".visible .entry k" + std::to_string(i) + "() {\n.reg .b32 %r<4>;\n" + bodies[i] +
            "\nret;\n}\n";
  }
  CUmodule module = nullptr;
  testing::internal::CaptureStderr();
  EXPECT_EQ(CUDA_SUCCESS, Gpu::instance().try_load(text, &module));
  *said = testing::internal::GetCapturedStderr();
  return module;
}

static CUresult look_up(CUmodule module, const char *name) {
  using Look = CUresult (*)(CUfunction *, CUmodule, const char *);
  CUfunction function = nullptr;
  testing::internal::CaptureStderr();
  CUresult result = Gpu::instance().function<Look>("cuModuleGetFunction")(&function, module, name);
  testing::internal::GetCapturedStderr();
  return result;
}

TEST(SimgpuLoad, NamesWhatItDoesNotKnowWithOpcodeAndLine) {
  for (const char *opcode : {"add.ru.f32", "add.s32.x", "frobnicate.u32", "mul.lo.ftz.s32"}) {
    std::string said;
    CUmodule module = load_bodies({std::string(opcode) + " %r0, %r1, %r2;"}, &said);
    EXPECT_EQ(CUDA_ERROR_INVALID_PTX, look_up(module, "k0"));
    EXPECT_NE(std::string::npos, said.find(opcode)) << said;
    EXPECT_NE(std::string::npos, said.find("PTX line 6")) << said;
    Gpu::instance().unload(module);
  }
}

TEST(SimgpuLoad, NamesEachOnceAndRefusesOnlyTheKernelsThatHaveThem) {
  std::string said, twice = "frobnicate.u32 %r0, %r1;\n";
  CUmodule module =
      load_bodies({"add.s32 %r0, %r1, %r2;",
                   twice + "add.u32 %r0, %r1;\nbra gone;\n" + twice + "nonsense.f32 %r0;",
                   "add.s32 %r0, %r1, 1;"},
                  &said);
  EXPECT_EQ(CUDA_SUCCESS, look_up(module, "k0"));
  EXPECT_EQ(CUDA_ERROR_INVALID_PTX, look_up(module, "k1"));
  EXPECT_EQ(CUDA_SUCCESS, look_up(module, "k2"));
  EXPECT_EQ(CUDA_ERROR_NOT_FOUND, look_up(module, "k3"));
  EXPECT_EQ(3, std::count(said.begin(), said.end(), '\n')) << said;
  for (const char *part : {"PTX line 11, 2 times: unsupported instruction: frobnicate.u32",
                           "PTX line 12: add.u32 has too few operands",
                           "PTX line 15: unsupported instruction: nonsense.f32"}) {
    EXPECT_NE(std::string::npos, said.find(part)) << said;
  }
  Gpu::instance().unload(module);
}
