// Each pair of accesses that can race, by itself: two warps or two CTAs, and no barrier.
#include <gtest/gtest.h>

#include "tests/simgpu/gpu.h"

using namespace simgpu;

static const char *LOAD = "ld.%s.u32 %v, [%a+128];";
static const char *STORE = "st.%s.u32 [%a+128], %l;";
static const char *ADD = "red.%s.add.u32 [%a+128], %l;";

static std::string in_space(const char *access, const char *space) {
  std::string text = access;
  return text.replace(text.find("%s"), 2, space);
}

// Number 0 makes the first access to words 32 to 63, and number 1 the second. Numbers are those of
// warps in shared memory, and of CTAs in global memory. Shared words are initialised first.
static std::vector<Report> run_pair(const char *first, const char *second, bool is_shared,
                                    bool has_barrier) {
  const char *space = is_shared ? "shared" : "global";
  std::string address = is_shared ? "mov.u32 %a, tile; shl.b32 %o, %l, 2; add.s32 %a, %a, %o;"
                                  : "mul.wide.u32 %w, %l, 4; add.s64 %a, %d, %w;";
  std::string text =
      std::string(
          ".version 9.0\n.target sm_90\n.address_size 64\n"
          ".visible .entry pair(.param .u64 data) {\n.shared .align 16 .b8 tile[256];\n"
          ".reg .b32 %t, %l, %n, %v, %o; .reg .b64 %d, %w; .reg .pred %p;\n") +
      (is_shared ? ".reg .b32 %a;\n" : ".reg .b64 %a;\n") +
      "ld.param.u64 %d, [data]; mov.u32 %t, %tid.x; and.b32 %l, %t, 31;\n" +
      (is_shared ? "shr.u32 %n, %t, 5;\n" : "mov.u32 %n, %ctaid.x;\n") + address + "\n" +
      (is_shared ? "setp.eq.u32 %p, %n, 0; @%p st.shared.u32 [%a+128], %l; bar.sync 0;\n" : "") +
      "setp.eq.u32 %p, %n, 0; @!%p bra other;\n" + in_space(first, space) + "\nother:\n" +
      (has_barrier ? "bar.sync 0;\n" : "") + "@%p bra done;\n" + in_space(second, space) +
      "\ndone: ret;\n}\n";
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUmodule module = gpu.load(text);
  CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 7));
  Gpu::Shape shape;
  shape.grid[0] = is_shared ? 1 : 2, shape.block[0] = is_shared ? 64 : 32;
  gpu.run(gpu.find(module, "pair"), shape, data);
  std::vector<Report> reports = gpu.reports();
  gpu.reset();
  gpu.release(data);
  gpu.unload(module);
  return reports;
}

TEST(SimgpuRace, ReadAfterWrite) {
  for (bool shared : {true, false}) {
    std::vector<Report> reports = run_pair(STORE, LOAD, shared, false);
    ASSERT_EQ(1u, reports.size());
    EXPECT_EQ(shared ? "shared-race" : "global-race", reports[0].kind);
  }
}

TEST(SimgpuRace, WriteAfterRead) {
  for (bool shared : {true, false}) {
    std::vector<Report> reports = run_pair(LOAD, STORE, shared, false);
    ASSERT_EQ(1u, reports.size()) << shared;
    EXPECT_EQ(shared ? "shared-race" : "global-race", reports[0].kind);
  }
}

TEST(SimgpuRace, WriteAfterWrite) {
  for (bool shared : {true, false}) {
    std::vector<Report> reports = run_pair(STORE, STORE, shared, false);
    ASSERT_EQ(1u, reports.size());
    EXPECT_EQ(shared ? "shared-race" : "global-race", reports[0].kind);
    EXPECT_NE(std::string::npos, reports[0].detail.find("write by")) << reports[0].detail;
  }
}

TEST(SimgpuRace, ReadsDoNotRaceAndABarrierMakesOrder) {
  EXPECT_TRUE(run_pair(LOAD, LOAD, true, false).empty());
  EXPECT_TRUE(run_pair(LOAD, LOAD, false, false).empty());
  EXPECT_TRUE(run_pair(STORE, LOAD, true, true).empty());
  EXPECT_TRUE(run_pair(LOAD, STORE, true, true).empty());
  EXPECT_EQ(1u, run_pair(STORE, LOAD, false, true).size()) << "a barrier orders no other CTA";
}

TEST(SimgpuRace, AtomicsRaceWithPlainAccessesOnly) {
  for (bool shared : {true, false}) {
    EXPECT_EQ(0u, run_pair(ADD, ADD, shared, false).size()) << shared;
    for (const char *plain : {LOAD, STORE}) {
      EXPECT_EQ(1u, run_pair(ADD, plain, shared, false).size()) << shared << plain;
      EXPECT_EQ(1u, run_pair(plain, ADD, shared, false).size()) << shared << plain;
      if (!shared) continue;
      EXPECT_EQ(0u, run_pair(plain, ADD, shared, true).size()) << plain;
    }
  }
}

// One warp makes both accesses. In them, %a is the address of the lane's own word of shared memory,
// and %b of its neighbour's.
static std::vector<Report> run_lanes(const char *first, const char *between, const char *second) {
  std::string text =
      std::string(
          ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry lanes() {\n"
          ".shared .align 16 .b8 tile[256];\n.reg .b32 %l, %v, %a, %b;\n"
          "mov.u32 %l, %tid.x; shl.b32 %b, %l, 2; mov.u32 %a, tile; add.s32 %a, %a, %b;\n"
          "add.s32 %b, %l, 1; and.b32 %b, %b, 31; shl.b32 %b, %b, 2; mov.u32 %v, tile;\n"
          "add.s32 %b, %b, %v; st.shared.u32 [%a], %l; bar.warp.sync -1;\n") +
      first + between + second + "ret;\n}\n";
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUmodule module = gpu.load(text);
  gpu.run(gpu.find(module, "lanes"), Gpu::Shape());
  std::vector<Report> reports = gpu.reports();
  gpu.reset();
  gpu.unload(module);
  return reports;
}

TEST(SimgpuRace, LanesWaitForWhatOtherLanesWriteAndRead) {
  const char *load = "ld.shared.u32 %v, [%b];\n", *store = "st.shared.u32 [%a], %l;\n";
  const char *wait = "bar.warp.sync -1;\n";
  const std::vector<Report> read = run_lanes(store, "", load), written = run_lanes(load, "", store);
  ASSERT_EQ(1u, read.size());
  EXPECT_NE(std::string::npos, read[0].detail.find("another lane of the warp wrote this"));
  ASSERT_EQ(1u, written.size());
  EXPECT_NE(std::string::npos, written[0].detail.find("another lane of the warp read this"));
  EXPECT_TRUE(run_lanes(store, wait, load).empty());
  EXPECT_TRUE(run_lanes(load, wait, store).empty());
  EXPECT_TRUE(run_lanes("ld.shared.u32 %v, [%a];\n", "", store).empty()) << "its own word";
}

// A shuffle joins lanes but does not order their memory accesses. A matrix instruction reads other
// lanes' words.
TEST(SimgpuRace, OnlyABarrierOrdersTheLanesOfAWarp) {
  const char *store = "st.shared.u32 [%a], %l;\n", *wait = "bar.warp.sync -1;\n";
  const char *shuffle = "shfl.sync.bfly.b32 %v, %l, 1, 31, -1;\n";
  const char *rows =
      "and.b32 %b, %l, 7; shl.b32 %b, %b, 4; mov.u32 %a, tile; add.s32 %b, %b, %a;\n"
      "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v}, [%b];\n";
  EXPECT_EQ(1u, run_lanes(store, shuffle, "ld.shared.u32 %v, [%b];\n").size());
  EXPECT_EQ(1u, run_lanes(store, "", rows).size());
  EXPECT_EQ(1u, run_lanes(store, shuffle, rows).size());
  EXPECT_TRUE(run_lanes(store, wait, rows).empty());
  EXPECT_TRUE(run_lanes(rows, "", store).empty()) << "all have read before any writes";
}

// ---- Waiting through memory ----

static CUresult run_text(const std::string &body, unsigned ctas, CUdeviceptr data) {
  std::string text =
      ".version 9.0\n.target sm_90\n.address_size 64\n"
      ".visible .entry k(.param .u64 data) {\n"
      ".reg .b32 %c, %n, %i, %v, %w, %x; .reg .b64 %d, %e; .reg .pred %p, %q;\n"
      "ld.param.u64 %d, [data]; mov.u32 %c, %ctaid.x; mov.u32 %n, %nctaid.x;\n" +
      body + "\nret;\n}\n";
  Gpu &gpu = Gpu::instance();
  CUmodule module = gpu.load(text);
  Gpu::Shape shape;
  shape.grid[0] = ctas, shape.block[0] = 1;
  CUresult result = gpu.run(gpu.find(module, "k"), shape, data);
  gpu.unload(module);
  return result;
}

// Two CTAs, on host threads of their own, hand a word to each other 3000 times. Whoever sees the
// other's flag has its clock too, so no race is reported.
TEST(SimgpuWait, APollThatSeesTheValueHasTheClock) {
  const char *stores[] = {"fence.acq_rel.gpu; st.relaxed.gpu.global.u32 [%e], %x;",
                          "st.release.gpu.global.u32 [%e], %x;",
                          "fence.acq_rel.gpu; atom.global.exch.b32 %w, [%e], %x;"};
  for (const char *store : stores) {
    Gpu &gpu = Gpu::instance();
    gpu.reset();
    CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 0));
    std::string body =
        std::string(
            "mov.u32 %i, 0;\n"
            "next: add.u32 %i, %i, 1; shl.b32 %x, %i, 1; setp.eq.u32 %p, %c, 0;\n"
            "add.s64 %e, %d, 128; @%p bra give;\n"
            "take: ld.acquire.gpu.global.u32 %v, [%e]; setp.lt.u32 %q, %v, %x; @%q bra take;\n"
            "ld.global.u32 %w, [%d]; add.u32 %w, %w, 1; st.global.u32 [%d], %w;\n"
            "add.s64 %e, %d, 64;") +
        store +
        "bra last;\n"
        "give: ld.global.u32 %w, [%d]; add.u32 %w, %w, 1; st.global.u32 [%d], %w;\n" +
        store +
        "add.s64 %e, %d, 64;\n"
        "back: ld.acquire.gpu.global.u32 %v, [%e]; setp.lt.u32 %q, %v, %x; @%q bra back;\n"
        "last: setp.lt.u32 %p, %i, 3000; @%p bra next;";
    EXPECT_EQ(CUDA_SUCCESS, run_text(body, 2, data)) << store;
    EXPECT_EQ(6000u, gpu.read<unsigned>(data, 1)[0]);
    gpu.reset();
    gpu.release(data);
  }
}

// Every CTA arrives, and waits until all have, 10 times: so all must be resident.
TEST(SimgpuWait, AGridMayMeetInMemory) {
  for (unsigned ctas : {2u, 132u, 300u}) {
    Gpu &gpu = Gpu::instance();
    gpu.reset(ctas);
    CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 0));
    EXPECT_EQ(CUDA_SUCCESS,
              run_text("mov.u32 %i, 0;\n"
                       "next: add.u32 %i, %i, 1; mul.lo.u32 %x, %i, %n;\n"
                       "fence.acq_rel.gpu; red.relaxed.gpu.global.add.u32 [%d], 1;\n"
                       "wait: ld.acquire.gpu.global.u32 %v, [%d]; setp.lt.u32 %q, %v, %x;\n"
                       "@%q bra wait; setp.lt.u32 %p, %i, 10; @%p bra next;",
                       ctas, data));
    EXPECT_EQ(10 * ctas, gpu.read<unsigned>(data, 1)[0]);
    gpu.release(data);
  }
}

// A loop that asks often, and gives up by itself, is none.
TEST(SimgpuWait, WhatNobodyWritesIsADeadlock) {
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 0));
  const char *loops[] = {
      "wait: ld.acquire.gpu.global.u32 %v, [%d]; setp.eq.u32 %q, %v, 0; @%q bra wait;",
      "wait: atom.global.cas.b32 %v, [%d], 1, 2; setp.eq.u32 %q, %v, 0; @%q bra wait;"};
  for (const char *loop : loops) {
    EXPECT_NE(CUDA_SUCCESS, run_text(loop, 5, data));
    ASSERT_EQ(1u, gpu.reports().size());
    EXPECT_EQ("deadlock", gpu.reports()[0].kind);
    EXPECT_NE(std::string::npos, gpu.reports()[0].detail.find("warp 0 lanes 0x00000001 at "));
    gpu.reset();
  }
  EXPECT_EQ(CUDA_SUCCESS, run_text("mov.u32 %i, 0;\n"
                                   "wait: ld.acquire.gpu.global.u32 %v, [%d]; add.u32 %i, %i, 1;\n"
                                   "setp.lt.u32 %q, %i, 100000; @%q bra wait;",
                                   5, data));
  gpu.release(data);
}

// A CTA waits for the one before it, and learns of all before that: 500 clocks, each 500 times.
TEST(SimgpuWait, AChainOfManyIsOrdered) {
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 0));
  EXPECT_EQ(CUDA_SUCCESS,
            run_text("wait: ld.acquire.gpu.global.u32 %v, [%d]; setp.ne.u32 %q, %v, %c;\n"
                     "@%q bra wait; add.s64 %e, %d, 64; ld.global.u32 %w, [%e];\n"
                     "add.u32 %w, %w, %c; st.global.u32 [%e], %w; add.u32 %x, %c, 1;\n"
                     "st.release.gpu.global.u32 [%d], %x;",
                     500, data));
  EXPECT_EQ(500u * 499 / 2, gpu.read<unsigned>(data, 17)[16]);
  gpu.release(data);
}

// After 65,534 synchronisations of a warp there is no time left to tell accesses apart.
TEST(SimgpuWait, AClockThatIsFullSaysSo) {
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUdeviceptr data = gpu.upload(std::vector<unsigned>(64, 0));
  for (bool is_full : {false, true}) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(CUDA_SUCCESS,
              run_text("mov.u32 %i, 0;\nnext: fence.acq_rel.gpu; add.u32 %i, %i, 1;\n"
                       "setp.lt.u32 %p, %i, " +
                           std::string(is_full ? "65600" : "65500") + "; @%p bra next;",
                       2, data));
    std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(is_full, said.find("warp 0 has synchronised 65534 times") != said.npos) << said;
    EXPECT_EQ(said.find("synchronised"), said.rfind("synchronised")) << "said once";
  }
  gpu.release(data);
}
