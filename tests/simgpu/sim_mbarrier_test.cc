// mbarriers: phases, arrivals, waits, what they order, and every way to misuse them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/simgpu/gpu.h"

using namespace simgpu;

namespace {

// What a kernel left: its result, its reports, and 32 words of each warp in `out`.
struct Outcome {
  CUresult result;
  std::vector<Report> reports;
  std::vector<unsigned> out;
  std::string kinds() const {
    std::string text;
    for (const Report &report : reports) text += (text.empty() ? "" : " ") + report.kind;
    return text;
  }
  std::string details() const {
    std::string text;
    for (const Report &report : reports) text += report.detail + "\n";
    return text;
  }
};

// `body` is run by `warps` warps with an mbarrier `full` and one `empty`, 512 words of shared
// memory from `tile` on, the warp's number %warp, the lane %lane, and %mine, the address of the
// thread's own word of the tile. %o is stored.
const char *START =
    ".version 9.0\n.target sm_90\n.address_size 64\n"
    ".visible .entry k(.param .u64 out, .param .u64 in) {\n"
    ".shared .align 8 .b8 full[8];\n.shared .align 8 .b8 empty[8];\n"
    ".shared .align 16 .b8 tile[2048];\n"
    ".reg .b32 %t, %lane, %warp, %mine, %o, %i, %v, %w; .reg .b64 %d, %s, %e, %g;\n"
    ".reg .pred %p, %q, %first;\n"
    "ld.param.u64 %d, [out]; ld.param.u64 %g, [in]; mov.u32 %t, %tid.x;\n"
    "and.b32 %lane, %t, 31; shr.u32 %warp, %t, 5;\n"
    "mov.u32 %mine, tile; shl.b32 %v, %t, 2; add.u32 %mine, %mine, %v;\n"
    "mul.wide.u32 %e, %t, 4; add.s64 %d, %d, %e; add.s64 %g, %g, %e;\n"
    "setp.eq.u32 %first, %t, 0; mov.u32 %o, 0;\n";

Outcome run(const std::string &body, unsigned warps = 2, unsigned seed = 0) {
  Gpu &gpu = Gpu::instance();
  gpu.reset(seed);
  CUmodule module = gpu.load(START + body + "\nst.global.u32 [%d], %o;\nret;\n}\n");
  std::vector<unsigned> words(512);
  for (unsigned i = 0; i < 512; i++) words[i] = 1000 + i;
  CUdeviceptr out = gpu.upload(std::vector<unsigned>(512, 7)), in = gpu.upload(words);
  Gpu::Shape shape;
  shape.block[0] = 32 * warps;
  Outcome outcome;
  outcome.result = gpu.run(gpu.find(module, "k"), shape, out, in);
  outcome.reports = gpu.reports();
  gpu.reset();
  outcome.out = gpu.read<unsigned>(out, 32 * warps);
  gpu.release(out);
  gpu.release(in);
  gpu.unload(module);
  return outcome;
}

std::string init(const char *count) {
  return std::string("@%first mbarrier.init.shared::cta.b64 [full], ") + count +
         ";\n@%first mbarrier.init.shared.b64 [empty], " + count + ";\nbar.sync 0;\n";
}

// Waits for the parity in `parity`; `label` is the loop's.
std::string wait(const std::string &label, const char *name, const char *parity) {
  return label + ": mbarrier.try_wait.parity.shared::cta.b64 %p, [" + name + "], " + parity +
         ";\n@!%p bra " + label + ";\n";
}

// ---- What is right ----

// Warp 0 gives a word of each lane to warp 1, five times over, through one tile.
TEST(SimgpuMbarrier, OrdersAProducerAndAConsumer) {
  for (unsigned seed = 0; seed < 20; seed++) {
    Outcome outcome = run(
        init("32") +
            "mov.u32 %i, 0; setp.eq.u32 %q, %warp, 0; mov.u32 %mine, tile; shl.b32 %v, %lane, 2;\n"
            "add.u32 %mine, %mine, %v; @!%q bra take;\n" +
            "give: and.b32 %w, %i, 1; xor.b32 %v, %w, 1;\n" + wait("free", "empty", "%v") +
            "mad.lo.u32 %v, %i, 100, %lane; st.shared.u32 [%mine], %v;\n"
            "mbarrier.arrive.shared::cta.b64 _, [full];\n"
            "add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 5; @%p bra give; bra end;\n"
            "take: and.b32 %w, %i, 1;\n" +
            wait("there", "full", "%w") +
            "ld.shared.u32 %v, [%mine]; add.u32 %o, %o, %v;\n"
            "mbarrier.arrive.release.cta.shared::cta.b64 %s, [empty];\n"
            "add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 5; @%p bra take;\nend:",
        2, seed);
    ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
    for (unsigned lane = 0; lane < 32; lane++) EXPECT_EQ(1000 + 5 * lane, outcome.out[32 + lane]);
  }
}

TEST(SimgpuMbarrier, ReturnsAStateThatNamesThePhase) {
  Outcome outcome = run(
      "@%first mbarrier.init.shared.b64 [full], 40; bar.sync 0;\n"
      "setp.ne.u32 %q, %warp, 0; @%q bra end;\n"
      "@%first mbarrier.arrive.noComplete.release.cta.shared.b64 %s, [full], 8; bar.warp.sync -1;\n"
      "mbarrier.arrive.shared.b64 %s, [full]; mbarrier.pending_count.b64 %o, %s;\n"
      "loop: mbarrier.test_wait.shared.b64 %p, [full], %s; @!%p bra loop;\nend:",
      2);
  ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
  std::vector<unsigned> pending(outcome.out.begin(), outcome.out.begin() + 32);
  std::sort(pending.begin(), pending.end());
  for (unsigned i = 0; i < 32; i++) EXPECT_EQ(1 + i, pending[i]);
}

// A warp that leaves is expected no more.
TEST(SimgpuMbarrier, ExpectsFewerAfterADrop) {
  Outcome outcome = run(
      init("64") + "setp.eq.u32 %q, %warp, 1;\n@%q mbarrier.arrive_drop.shared.b64 %s, [full];\n" +
      "@%q bra end;\nmbarrier.arrive.shared.b64 _, [full];\n" + wait("one", "full", "0") +
      "mbarrier.arrive.shared.b64 _, [full];\n" + wait("two", "full", "1") +
      "mov.u32 %o, 5;\nend:");
  ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
  EXPECT_EQ(5u, outcome.out[0]);
}

// The phase also waits for the bytes that are expected.
TEST(SimgpuMbarrier, CountsBytes) {
  Outcome outcome =
      run("@%first mbarrier.init.shared.b64 [full], 1; bar.sync 0;\n"
          "@%first mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [full], 96;\n"
          "bar.sync 0; mbarrier.test_wait.parity.shared.b64 %p, [full], 0; selp.u32 %o, 0, 1, %p;\n"
          "bar.sync 0; setp.eq.u32 %q, %t, 40;\n"
          "@%q mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [full], 64;\n"
          "@%q mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [full], 16;\n"
          "@%q mbarrier.complete_tx.shared::cta.b64 [full], 48;\n" +
          wait("loop", "full", "0") + "add.u32 %o, %o, 1;");
  ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
  for (unsigned word : outcome.out) EXPECT_EQ(2u, word);
}

// Warp 1 reads what warp 0's copies bring, and warp 0 is gone by then.
TEST(SimgpuMbarrier, CompletesWhenCopiesHaveLanded) {
  for (const char *form : {".noinc", ""}) {
    for (unsigned seed = 0; seed < 10; seed++) {
      const bool counts = !*form;
      Outcome outcome = run(
          std::string("@%first mbarrier.init.shared.b64 [full], ") + (counts ? "1" : "32") +
              "; bar.sync 0; setp.eq.u32 %q, %warp, 0; @!%q bra take;\n"
              "cp.async.ca.shared.global [%mine], [%g], 4;\n"
              "cp.async.mbarrier.arrive" +
              form + ".shared::cta.b64 [full];\n" +
              (counts ? "bar.warp.sync -1; @%first mbarrier.arrive.shared.b64 _, [full];\n" : "") +
              "bra end;\ntake:" + wait("loop", "full", "0") +
              "ld.shared.u32 %o, [%mine+-128];\nend:",
          2, seed);
      ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
      for (unsigned lane = 0; lane < 32; lane++) EXPECT_EQ(1000 + lane, outcome.out[32 + lane]);
    }
  }
}

// An arrival for later copies may come first. It brings the earlier ones too, and these are known
// to who waits for their own arrival.
TEST(SimgpuMbarrier, ArrivesForEachStageByItself) {
  for (unsigned seed = 0; seed < 20; seed++) {
    Outcome outcome = run(init("32") +
                              "setp.eq.u32 %q, %warp, 0; @!%q bra take;\n"
                              "cp.async.ca.shared.global [%mine], [%g], 4;\n"
                              "cp.async.mbarrier.arrive.noinc.shared.b64 [full];\n"
                              "cp.async.ca.shared.global [%mine+256], [%g+4], 4;\n"
                              "cp.async.mbarrier.arrive.noinc.shared.b64 [empty]; bra end;\n"
                              "take:" +
                              wait("first", "full", "0") + "ld.shared.u32 %o, [%mine+-128];\n" +
                              wait("second", "empty", "0") +
                              "ld.shared.u32 %v, [%mine+128]; add.u32 %o, %o, %v;\nend:",
                          2, seed);
    ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
    for (unsigned lane = 0; lane < 32; lane++) EXPECT_EQ(2001 + 2 * lane, outcome.out[32 + lane]);
  }
}

// ---- What is wrong ----

struct Misuse {
  const char *name, *body, *kinds, *detail;
};

const Misuse kMisuses[] = {
    {"not_initialised", "mbarrier.arrive.shared.b64 _, [full];", "barrier",
     "mbarrier.init is missing"},
    {"init_not_ordered",
     "@%first mbarrier.init.shared.b64 [full], 64; bar.warp.sync -1; setp.eq.u32 %q, %warp, 0;\n"
     "mov.u32 %i, 0;\n"
     "delay: add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 20000; @%p bra delay;\n"
     "mbarrier.arrive.shared.b64 _, [full];",
     "shared-race", "not ordered with the mbarrier's init"},
    {"twice",
     "@%first mbarrier.init.shared.b64 [full], 64;\n@%first mbarrier.init.shared.b64 [full], 64;",
     "barrier", "mbarrier.inval comes first"},
    {"count_of_0", "@%first mbarrier.init.shared.b64 [full], 0;", "barrier", "1 to 2^20 - 1"},
    {"odd_address", "@%first mbarrier.init.shared.b64 [tile+4], 1;", "misaligned", "multiple of 8"},
    {"outside", "@%first mbarrier.init.shared.b64 [tile+1048576], 1;", "out-of-bounds",
     "shared memory"},
    {"too_many",
     "@%first mbarrier.init.shared.b64 [full], 40; bar.sync 0;\n"
     "mbarrier.arrive.noComplete.shared.b64 %s, [full], 30;",
     "barrier", "30 arrive, but phase 0 expects"},
    {"completes",
     "@%first mbarrier.init.shared.b64 [full], 4; bar.sync 0;\n"
     "@%first mbarrier.arrive.noComplete.shared.b64 %s, [full], 4;",
     "barrier", ".noComplete says no"},
    {"touched", "@%first mbarrier.init.shared.b64 [full], 4; bar.sync 0; ld.shared.u32 %o, [full];",
     "barrier", "only its own instructions may touch it"},
    {"overwritten",
     "@%first mbarrier.init.shared.b64 [full], 4; bar.sync 0; @%first st.shared.u32 [full+4], %t;",
     "barrier", "only its own instructions may touch it"},
    {"parity",
     "@%first mbarrier.init.shared.b64 [full], 4; bar.sync 0;\n"
     "mbarrier.test_wait.parity.shared.b64 %p, [full], 3;",
     "barrier", "a parity must be 0 or 1"},
    {"old_state",
     "@%first mbarrier.init.shared.b64 [full], 1; bar.sync 0; @!%first bra end;\n"
     "mbarrier.arrive.shared.b64 %s, [full]; mbarrier.arrive.shared.b64 _, [full];\n"
     "mbarrier.test_wait.shared.b64 %p, [full], %s;\nend:",
     "barrier", "not of this phase or the last"},
    {"too_many_bytes",
     "@%first mbarrier.init.shared.b64 [full], 1; bar.sync 0;\n"
     "@%first mbarrier.expect_tx.shared.b64 [full], 1048576;",
     "barrier left-behind", "more than 2^20 - 1 bytes"},
    {"bytes_that_do_not_come",
     "@%first mbarrier.init.shared.b64 [full], 1; bar.sync 0;\n"
     "@%first mbarrier.arrive.expect_tx.shared.b64 _, [full], 64;",
     "left-behind", "lacks 64 bytes"},
    {"short_arrival",
     "@%first mbarrier.init.shared.b64 [full], 64; bar.sync 0; setp.eq.u32 %q, %warp, 0;\n"
     "@%q mbarrier.arrive.shared.b64 _, [full];\n"
     "loop: mbarrier.try_wait.parity.shared.b64 %p, [full], 0; @!%p bra loop;",
     "deadlock", "lacks 32 of 64 arrivals and 0 bytes"},
    {"wrong_phase",
     "@%first mbarrier.init.shared.b64 [full], 64; bar.sync 0;\n"
     "mbarrier.arrive.shared.b64 _, [full];\n"
     "loop: mbarrier.try_wait.parity.shared.b64 %p, [full], 1; @!%p bra loop;\n"
     "last: mbarrier.try_wait.parity.shared.b64 %p, [full], 1; @!%p bra last;",
     "deadlock", "waits for parity 1 of the mbarrier at"},
    {"no_wait",
     "@%first mbarrier.init.shared.b64 [full], 32; bar.sync 0; setp.eq.u32 %q, %warp, 0;\n"
     "@%q st.shared.u32 [%mine], %t; @%q mbarrier.arrive.shared.b64 _, [full];\n"
     "mov.u32 %i, 0;\ndelay: add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 20000; @%p bra delay;\n"
     "@!%q ld.shared.u32 %o, [%mine+-128];",
     "shared-race", "write by warp 0"},
    {"relaxed_wait",
     "@%first mbarrier.init.shared.b64 [full], 32; bar.sync 0; setp.eq.u32 %q, %warp, 0;\n"
     "@%q st.shared.u32 [%mine], %t; @%q mbarrier.arrive.shared.b64 _, [full];\n"
     "loop: mbarrier.try_wait.parity.relaxed.cta.shared.b64 %p, [full], 0; @!%p bra loop;\n"
     "@!%q ld.shared.u32 %o, [%mine+-128];",
     "shared-race", "write by warp 0"},
    {"copies_without_arrival",
     "@%first mbarrier.init.shared.b64 [full], 32; bar.sync 0; setp.eq.u32 %q, %warp, 0;\n"
     "@%q cp.async.ca.shared.global [%mine], [%g], 4; @%q mbarrier.arrive.shared.b64 _, [full];\n"
     "loop: mbarrier.try_wait.parity.shared.b64 %p, [full], 0; @!%p bra loop;\n"
     "@!%q ld.shared.u32 %o, [%mine+-128]; bar.sync 0; cp.async.wait_all;",
     "in-flight", "has not landed here"},
};

class SimgpuMbarrierMisuse : public testing::TestWithParam<Misuse> {};

TEST_P(SimgpuMbarrierMisuse, IsNamed) {
  const Misuse &misuse = GetParam();
  Outcome outcome = run(misuse.body);
  EXPECT_NE(CUDA_SUCCESS, outcome.result);
  EXPECT_EQ(misuse.kinds, outcome.kinds()) << outcome.details();
  EXPECT_THAT(outcome.details(), testing::HasSubstr(misuse.detail));
}

INSTANTIATE_TEST_SUITE_P(Table, SimgpuMbarrierMisuse, testing::ValuesIn(kMisuses),
                         [](const auto &info) { return info.param.name; });

// After inval the memory is the program's again.
TEST(SimgpuMbarrier, GivesItsMemoryBack) {
  Outcome outcome =
      run("@%first mbarrier.init.shared.b64 [full], 2; bar.sync 0;\n"
          "@%first mbarrier.inval.shared.b64 [full]; bar.sync 0;\n"
          "@%first st.shared.u32 [full], 9; bar.sync 0; ld.shared.u32 %o, [full];");
  ASSERT_EQ(CUDA_SUCCESS, outcome.result) << outcome.details();
  EXPECT_EQ(9u, outcome.out[33]);
}

}  // namespace
