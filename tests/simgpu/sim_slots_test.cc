// Registers that share a place in the register file. Random programs with branches and loops, whose
// lanes diverge, are compared with an interpreter that runs one lane after the other. Other cases
// have a register that must keep its place though nothing outside its part of the program names it.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/simgpu/sim_vector.h"

using namespace simgpu;
using u32 = uint32_t;

enum { GLOBALS = 5, TEMPORARIES = 8, REGIONS = 5, STATEMENTS = 14, ROUNDS = 3 };

namespace {

struct Statement {
  enum Kind { ADD, XOR, MULTIPLY, MOVE, BRANCH } kind;
  int target, a, b;  // registers; of a branch: the label
  int guard;         // the statement runs where bit 4 of this register is 1; -1: everywhere
};

// Registers are numbered: first the GLOBALS that all regions share, then each region's TEMPORARIES.
// Global 0 counts the rounds. Temporary 0 of the first region is written only in the first round.
struct Program {
  std::vector<Statement> regions[REGIONS];
};

class Draw {
 public:
  explicit Draw(u32 seed) : random_(seed) {}
  int below(int count) { return static_cast<int>(random_() % static_cast<u32>(count)); }

 private:
  std::mt19937 random_;
};

// Temporaries are read only in their region, after it has written them.
std::vector<Statement> draw_region(Draw *draw, int region) {
  std::vector<Statement> statements;
  std::vector<int> readable;
  const int first = GLOBALS + region * TEMPORARIES;
  for (int i = 0; i < GLOBALS; ++i) readable.push_back(i);
  if (region == 0) readable.push_back(first);
  auto any = [&] { return readable[static_cast<size_t>(draw->below((int)readable.size()))]; };
  for (int i = 0; i < STATEMENTS; ++i) {
    const auto kind = static_cast<Statement::Kind>(draw->below(4));
    const bool is_global = draw->below(4) == 0;
    const int target =
        is_global ? 1 + draw->below(GLOBALS - 1) : first + 1 + draw->below(TEMPORARIES - 1);
    const bool is_known = std::find(readable.begin(), readable.end(), target) != readable.end();
    const int guard = is_known && draw->below(4) == 0 ? any() : -1;
    statements.push_back({kind, target, any(), any(), guard});
    if (!is_known) readable.push_back(target);
  }
  if (region + 1 < REGIONS && draw->below(2)) {
    const int label = region + 1 + draw->below(REGIONS - region - 1);
    statements.push_back({Statement::BRANCH, label, 0, 0, any()});
  }
  return statements;
}

std::string name(int reg) {
  return reg < GLOBALS ? "%g" + std::to_string(reg) : "%t" + std::to_string(reg - GLOBALS);
}

std::string text_of(const Statement &s, int *predicates) {
  static const char *const opcodes[] = {"add.u32", "xor.b32", "mul.lo.u32", "mov.u32"};
  std::string text;
  if (s.guard >= 0) {
    const std::string predicate = "%q" + std::to_string((*predicates)++);
    text = "and.b32 %bit, " + name(s.guard) + ", 16; setp.ne.u32 " + predicate + ", %bit, 0; @" +
           predicate + " ";
  }
  if (s.kind == Statement::BRANCH) return text + "bra L" + std::to_string(s.target) + ";\n";
  text += std::string(opcodes[s.kind]) + " " + name(s.target) + ", " + name(s.a);
  return text + (s.kind == Statement::MOVE ? "" : ", " + name(s.b)) + ";\n";
}

std::string text_of(const Program &program) {
  int predicates = 0;
  std::string body, first = name(GLOBALS);
  for (int i = 1; i < GLOBALS; ++i) {
    body += "mad.lo.u32 " + name(i) + ", %lane, " + std::to_string(7919 * i) + ", 12345;\n";
  }
  body += "mov.u32 %g0, 0;\n";
  for (int region = 0; region < REGIONS; ++region) {
    body += "L" + std::to_string(region) + ":\n";
    if (region == 0) body += "setp.eq.u32 %first, %g0, 0; @%first mov.u32 " + first + ", %g1;\n";
    for (const Statement &s : program.regions[region]) body += text_of(s, &predicates);
  }
  body += "add.u32 %g0, %g0, 1; setp.lt.u32 %again, %g0, " + std::to_string(ROUNDS) +
          "; @%again bra L0;\n";
  for (int i = 1; i < GLOBALS; ++i)
    body += "mov.u32 %o" + std::to_string(i - 1) + ", " + name(i) + ";\n";
  return ".reg .b32 %g<" + std::to_string(GLOBALS) + ">; .reg .b32 %t<" +
         std::to_string(REGIONS * TEMPORARIES) + ">; .reg .b32 %bit; .reg .pred %first, %again; " +
         ".reg .pred %q<" + std::to_string(predicates + 1) + ">;\n" + body;
}

// The interpreter: one lane, one statement after the other, every register in a place of its own.
std::vector<u32> results_of(const Program &program, u32 lane) {
  std::vector<u32> r(GLOBALS + REGIONS * TEMPORARIES);
  for (u32 i = 1; i < GLOBALS; ++i) r[i] = lane * 7919 * i + 12345;
  for (u32 round = 0; round < ROUNDS; ++round) {
    r[0] = round;
    if (round == 0) r[GLOBALS] = r[1];
    for (int region = 0, next; region < REGIONS; region = next) {
      next = region + 1;
      for (const Statement &s : program.regions[region]) {
        if (s.guard >= 0 && !(r[static_cast<size_t>(s.guard)] & 16)) continue;
        if (s.kind == Statement::BRANCH) {
          next = s.target;
          break;
        }
        const u32 a = r[static_cast<size_t>(s.a)], b = r[static_cast<size_t>(s.b)];
        r[static_cast<size_t>(s.target)] = s.kind == Statement::ADD        ? a + b
                                           : s.kind == Statement::XOR      ? (a ^ b)
                                           : s.kind == Statement::MULTIPLY ? a * b
                                                                           : a;
      }
    }
  }
  return std::vector<u32>(r.begin() + 1, r.begin() + GLOBALS);
}

TEST(SimgpuSlots, RandomProgramsComputeWhatTheyComputeWithARegisterEach) {
  for (u32 seed = 0; seed < 200 && !testing::Test::HasFailure(); ++seed) {
    Draw draw(seed);
    Program program;
    for (int i = 0; i < REGIONS; ++i) program.regions[i] = draw_region(&draw, i);
    const std::string text = text_of(program);
    const std::vector<u32> got = run_warp_body(text, 0, GLOBALS - 1, std::vector<u32>(32));
    for (u32 lane = 0; lane < 32; ++lane) {
      const std::vector<u32> expected = results_of(program, lane);
      for (u32 i = 0; i < GLOBALS - 1; ++i) {
        ASSERT_EQ(expected[i], got[32 * i + lane]) << seed << " " << lane << "\n" << text;
      }
    }
  }
}

// Between the two labels, %x is written once in three rounds; %y and %z are written after its last
// use.
u32 sum_over_rounds(const std::string &first_mention) {
  const std::vector<u32> got = run_warp_body(
      ".reg .b32 %n, %x, %y, %z; .reg .pred %first, %later, %again;\n"
      "mov.u32 %n, 0; mov.u32 %o0, 0;\n"
      "again: setp.eq.u32 %first, %n, 0; setp.ne.u32 %later, %n, 0;\n" +
          first_mention +
          "add.u32 %y, %n, 100; add.u32 %z, %y, 1000; add.u32 %y, %z, 0;\n"
          "add.u32 %n, %n, 1; setp.lt.u32 %again, %n, 3; @%again bra again;",
      0, 1, std::vector<u32>(32));
  return got[5];
}

TEST(SimgpuSlots, ARegisterFirstWrittenUnderAGuardKeepsItsPlace) {
  EXPECT_EQ(sum_over_rounds("@%first mov.u32 %x, 7; add.u32 %o0, %o0, %x;\n"), 21u);
}

TEST(SimgpuSlots, ARegisterFirstReadKeepsItsPlace) {
  EXPECT_EQ(sum_over_rounds("@%later add.u32 %o0, %o0, %x; add.u32 %x, %n, 7;\n"), 15u);
}

TEST(SimgpuSlots, ARegisterThatItsFirstStatementReadsKeepsItsPlace) {
  EXPECT_EQ(sum_over_rounds("selp.u32 %x, 7, %x, %first; add.u32 %o0, %o0, %x;\n"), 21u);
}

// %x is read in rounds that skip its definition, after %y and %z have been written again.
TEST(SimgpuSlots, ARegisterOfTwoPartsKeepsItsPlace) {
  const std::vector<u32> got = run_warp_body(
      ".reg .b32 %n, %x, %y, %z; .reg .pred %later, %again;\n"
      "mov.u32 %n, 0; mov.u32 %o0, 0;\n"
      "again: add.u32 %y, %n, 100; add.u32 %z, %y, 1000; add.u32 %n, %z, -1100;\n"
      "setp.ne.u32 %later, %n, 0; @%later bra skip;\n"
      "define: mov.u32 %x, 7;\n"
      "skip: add.u32 %o0, %o0, %x;\n"
      "add.u32 %n, %n, 1; setp.lt.u32 %again, %n, 3; @%again bra again;",
      0, 1, std::vector<u32>(32));
  EXPECT_EQ(got[5], 21u);
}

// The address is 0, which lies outside shared memory, and not %y, which lies inside.
TEST(SimgpuSlots, AnAddressThatNothingHasWrittenIsZero) {
  CUresult result = CUDA_SUCCESS;
  testing::internal::CaptureStderr();
  run_warp_body(
      ".reg .b32 %x, %y; mad.lo.u32 %y, %lane, 4, 2048; mov.u32 %o0, %y; st.shared.u32 [%x], %o0;",
      0, 1, std::vector<u32>(32), &result);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("out-of-bounds"), std::string::npos);
  EXPECT_NE(result, CUDA_SUCCESS);
}

// A lane reads another lane's source after the first lanes have written their targets.
TEST(SimgpuSlots, NoTargetLiesWhereASourceOfItsStatementDoes) {
  const std::vector<u32> got = run_warp_body(
      ".reg .b32 %x, %y; add.u32 %x, %lane, 100; shfl.sync.bfly.b32 %y, %x, 1, 31, -1;\n"
      "mov.u32 %o0, %y;",
      0, 1, std::vector<u32>(32));
  for (u32 lane = 0; lane < 32; ++lane) EXPECT_EQ((lane ^ 1) + 100, got[lane]);
}

}  // namespace
