// The plan is a pure function. It must match a committed list of plans and keep its promises.
//
// After an intended change run FOVEA_UPDATE_GOLDEN=1 build/tests/plan_test, then read the diff of
// tests/golden/plans.txt.
#include "csrc/cpu/plan.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "csrc/check/check.h"
#include "csrc/cpu/tile_kernels.h"
#include "csrc/cpu/tile_scratch.h"
#include "csrc/host/processor.h"
#include "csrc/reference/reference.h"

namespace {

// A request that the check accepts; pointers stand for memory that planning does not touch.
struct Request {
  const char *name;
  fovea_attention_args args;
};

void *Somewhere(uintptr_t place) {
  return reinterpret_cast<void *>(place << 40);
}

fovea_attention_args Base(fovea_dtype dtype, int64_t batch, int64_t len_q, int64_t len_kv,
                          int64_t heads_q, int64_t heads_kv, int64_t dim, int64_t dim_v) {
  fovea_attention_args a = {};
  a.struct_size = sizeof a;
  a.q = fovea_contiguous(Somewhere(1), dtype, batch, len_q, heads_q, dim);
  a.k = fovea_contiguous(Somewhere(2), dtype, batch, len_kv, heads_kv, dim);
  a.v = fovea_contiguous(Somewhere(3), dtype, batch, len_kv, heads_kv, dim_v);
  a.out = fovea_contiguous(Somewhere(4), dtype, batch, len_q, heads_q, dim_v);
  a.lse = fovea_contiguous(Somewhere(5), FOVEA_F32, batch, len_q, heads_q, 1);
  return a;
}

template <class T>
const T *Array(uintptr_t place) {
  return static_cast<const T *>(Somewhere(place));
}

std::vector<Request> Requests() {
  std::vector<Request> list;
  list.push_back({"encoder", Base(FOVEA_F32, 4, 128, 128, 12, 12, 32, 32)});
  list.push_back({"one row", Base(FOVEA_BF16, 1, 1, 1, 1, 1, 64, 64)});
  list.push_back({"nothing", Base(FOVEA_F16, 0, 16, 16, 8, 8, 64, 64)});
  fovea_attention_args causal = Base(FOVEA_BF16, 2, 1000, 1000, 32, 8, 128, 128);
  causal.visibility.causal = 1;
  causal.visibility.window_left = {FOVEA_WINDOW_LIMITED, 256};
  causal.logits.softcap = 30;
  list.push_back({"causal window softcap", causal});
  fovea_attention_args decode = Base(FOVEA_F16, 8, 1, 16, 32, 8, 128, 128);
  decode.k.shape[0] = decode.v.shape[0] = 4096;
  decode.sequences.kv_lengths = Array<int32_t>(6);
  decode.sequences.pages = {Array<int32_t>(7), nullptr, nullptr, 64, 64, 0, nullptr, {}};
  list.push_back({"paged decode", decode});
  fovea_attention_args packed = Base(FOVEA_BF16, 1, 3000, 5000, 16, 2, 80, 80);
  packed.sequences.count = 7;
  packed.sequences.q_offsets = Array<int32_t>(8);
  packed.sequences.kv_offsets = Array<int32_t>(9);
  packed.positions.alignment = FOVEA_ALIGN_TOP_LEFT;
  packed.visibility.causal = 1;
  list.push_back({"packed", packed});
  fovea_attention_args mla = Base(FOVEA_BF16, 4, 1, 2048, 128, 1, 576, 512);
  mla.v.data = mla.k.data;
  list.push_back({"latent attention", mla});
  fovea_attention_args all = Base(FOVEA_F32, 2, 64, 64, 8, 8, 64, 64);
  all.visibility.prefix_lengths = all.sequences.kv_first = all.positions.kv = all.positions.q =
      Array<int32_t>(10);
  all.visibility.mask = fovea_contiguous(Somewhere(11), FOVEA_U8, 2, 1, 1, 64);
  all.logits.bias = fovea_contiguous(Somewhere(12), FOVEA_F32, 1, 64, 8, 64);
  all.visibility.tree = {Array<uint32_t>(13), 128, nullptr, nullptr, {}};
  all.logits.alibi_slopes = all.logits.sinks = Array<float>(14);
  all.logits.scale = 0.25f;
  list.push_back({"every mask", all});
  fovea_attention_args phase = Base(FOVEA_BF16, 1, 1, 4096, 32, 8, 128, 128);
  phase.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  list.push_back({"decode as in prefill", phase});
  return list;
}

// The plan on a CPU, or on the reference with two threads if there are no facts.
std::string PlanText(const std::optional<fv_cpu_facts> &facts, const fovea_attention_args &args) {
  fv_problem problem;
  fv_plan plan;
  if (fv_check_attention_shape(&args, &problem) != FOVEA_OK) return fovea_error_detail();
  facts ? fv_plan_cpu(&*facts, &problem, &plan) : fv_plan_reference(2, &problem, &plan);
  char text[4096];
  fv_plan_print(&plan, &problem, text, sizeof text);
  return text;
}

std::string AllPlans() {
  const std::optional<fv_cpu_facts> devices[] = {fv_cpu_facts{FV_ISA_AVX2, 4},
                                                 fv_cpu_facts{FV_ISA_PORTABLE, 1}, std::nullopt};
  std::ostringstream text;
  for (const Request &request : Requests()) {
    for (const std::optional<fv_cpu_facts> &facts : devices) {
      text << "== " << request.name << "\n" << PlanText(facts, request.args) << "\n";
    }
  }
  return text.str();
}

TEST(Plan, EqualsTheCommittedPlans) {
  const std::string path = FOVEA_SOURCE_DIR "/tests/golden/plans.txt";
  const std::string plans = AllPlans();
  if (getenv("FOVEA_UPDATE_GOLDEN")) std::ofstream(path) << plans;
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(plans, golden.str());
}

TEST(Plan, ChoosesTheBestKernelThatTheProcessorCanRun) {
  fovea_attention_args args = Base(FOVEA_F32, 1, 8, 8, 1, 1, 8, 8);
  const std::string best = PlanText(fv_cpu_facts{FV_ISA_AVX512, 1}, args);
  EXPECT_NE(best.find("fovea_attention_cpu_avx512"), std::string::npos);
  EXPECT_NE(best.find("instruction set avx512"), std::string::npos);
  EXPECT_NE(PlanText(fv_cpu_facts{FV_ISA_AVX2, 1}, args).find("fovea_attention_cpu_avx2"),
            std::string::npos);
  EXPECT_NE(PlanText(fv_cpu_facts{FV_ISA_PORTABLE, 1}, args).find("cpu_portable"),
            std::string::npos);
}

TEST(Plan, StreamsGroupsOfAsManyHeadsAsAStreamHasRows) {
  for (int64_t heads = FV_STREAM_ROWS; heads <= FV_STREAM_ROWS + 1; ++heads) {
    const std::string text =
        PlanText(fv_cpu_facts{FV_ISA_AVX2, 4}, Base(FOVEA_F32, 1, 1, 4096, heads, 1, 64, 64));
    EXPECT_EQ(text.find("\nstreams ") != std::string::npos, heads == FV_STREAM_ROWS) << text;
  }
}

TEST(Plan, NamesBothSidesOfAWindow) {
  fovea_attention_args args = Base(FOVEA_F32, 1, 8, 8, 1, 1, 8, 8);
  args.visibility.window_left = {FOVEA_WINDOW_LIMITED, 5};
  args.visibility.window_right = {FOVEA_WINDOW_LIMITED, 0};
  EXPECT_NE(PlanText(fv_cpu_facts{FV_ISA_AVX2, 1}, args).find(" window-left=5 window-right=0"),
            std::string::npos);
}

// An instruction set needs all its features. If one is missing, the one before it is taken.
TEST(Processor, GetsTheBestInstructionSetOfItsFeatures) {
  const uint32_t avx2 = FV_FEATURE_AVX2 | FV_FEATURE_FMA | FV_FEATURE_F16C;
  const uint32_t avx512 =
      FV_FEATURE_AVX512F | FV_FEATURE_AVX512BW | FV_FEATURE_AVX512DQ | FV_FEATURE_AVX512VL;
  for (uint32_t features = 0; features <= (avx2 | avx512); ++features) {
    fv_isa expected = FV_ISA_PORTABLE;
    if ((~features & avx2) == 0) expected = FV_ISA_AVX2;
    if ((~features & (avx2 | avx512)) == 0) expected = FV_ISA_AVX512;
    EXPECT_EQ(fv_best_isa(features), expected) << features;
  }
}

TEST(Processor, ListsItsFeaturesWithinTheRoomThereIs) {
  char text[16];
  fv_describe_features(0, text, sizeof text);
  EXPECT_STREQ(text, "");
  fv_describe_features(FV_FEATURE_FMA | FV_FEATURE_AVX512VL, text, sizeof text);
  EXPECT_STREQ(text, "fma avx512vl");
  fv_describe_features(~0u, text, sizeof text);
  EXPECT_STREQ(text, "avx2 fma f16c a");
}

TEST(Plan, CutsTextAtTheCapacityAndSaysHowLongItWouldBe) {
  fovea_attention_args args = Base(FOVEA_F32, 1, 8, 8, 1, 1, 8, 8);
  fv_cpu_facts facts = {FV_ISA_PORTABLE, 1};
  fv_problem problem;
  fv_plan plan;
  ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
  fv_plan_cpu(&facts, &problem, &plan);
  char whole[4096];
  const int length = fv_plan_print(&plan, &problem, whole, sizeof whole);
  EXPECT_EQ(length, (int)strlen(whole));
  for (size_t capacity : {0, 1, 2, 40, length, length + 1}) {
    std::vector<char> text(capacity + 8, '#');
    EXPECT_EQ(fv_plan_print(&plan, &problem, text.data(), capacity), length);
    size_t kept = capacity == 0 ? 0 : std::min<size_t>(capacity - 1, length);
    EXPECT_EQ(std::string(text.data(), kept), std::string(whole, kept));
    EXPECT_EQ(text[kept], capacity ? '\0' : '#');
    EXPECT_EQ(text[capacity], '#') << "wrote past " << capacity;
  }
}

// The needs of a worker are computed a second time. Each array is a whole number of cache lines, so
// that no two arrays share one. A panel has at most 12 rows or 32 columns, and the last panel of
// rows spills a vector.
TEST(Plan, ScratchHoldsEveryArrayOfAWorkerWithoutOverlap) {
  for (int32_t dim = 8; dim <= 576; dim += 8) {
    for (int32_t dim_v = 8; dim_v <= 512; dim_v += 24) {
      const int32_t tile_kv = std::max(dim, dim_v) <= 64    ? 512
                              : std::max(dim, dim_v) <= 256 ? 256
                                                            : 128;
      EXPECT_EQ(fv_class_tile(fv_dim_class(dim, dim_v)), tile_kv) << dim << " " << dim_v;
      for (int32_t tile_q : {12, 48, 576}) {
        const size_t rows = std::max(tile_q, 48);  // of a tile, or of streams in a work tile
        fv_tile_layout l = fv_tile_layout_for(tile_q, tile_kv, dim, dim_v);
        size_t columns = (size_t)(dim_v + 31) / 32 * 32;
        EXPECT_GE(l.k - l.q, rows * dim);
        EXPECT_GE(l.v - l.k, (size_t)dim * tile_kv);
        EXPECT_GE(l.scores - l.v, tile_kv * columns);
        EXPECT_GE(l.out - l.scores, 12u * (512 + 16));
        EXPECT_GE(l.stream - l.out, rows * columns);
        EXPECT_GE(l.rows - l.stream, 48 * columns);
        EXPECT_GE(l.masks - l.rows, 32u * std::max<size_t>(dim, columns));
        EXPECT_GE((l.floats - l.masks) * sizeof(float), rows * sizeof(fv_row_mask));
        for (size_t begin : {l.q, l.k, l.v, l.scores, l.out, l.stream, l.rows, l.masks, l.floats}) {
          EXPECT_EQ(begin % 16, 0u) << dim << " " << dim_v;
        }
      }
    }
  }
}

TEST(Plan, CpuKernelsShareTheTilesThatTheInnerLoopsAreWrittenFor) {
  for (int32_t i = 0; fv_cpu_row_at(i); ++i) {
    EXPECT_EQ(fv_cpu_row_at(i)->kernel.tile_kv, FV_TILE_KV_MAX);
    EXPECT_EQ(fv_cpu_row_at(i)->kernel.tile_q, 576);
  }
  EXPECT_EQ(fv_cpu_row_at(-1), nullptr);
  EXPECT_EQ(fv_cpu_row_at(1000), nullptr);
}

// Tiles get smaller if there are few work tiles per thread. They are whole panels of 12 rows.
TEST(Plan, TilesAreAsLargeAsLeavesEveryThreadSomePieces) {
  const auto tile_q = [](int32_t threads, int64_t batch, int64_t len_q, int64_t heads) {
    fovea_attention_args args = Base(FOVEA_F32, batch, len_q, 64, heads, heads, 64, 64);
    fv_cpu_facts facts = {FV_ISA_AVX2, threads};
    fv_problem problem;
    fv_plan plan;
    EXPECT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
    fv_plan_cpu(&facts, &problem, &plan);
    return plan.tile_q;
  };
  EXPECT_EQ(tile_q(1, 1, 576, 1), 576);
  EXPECT_EQ(tile_q(1, 1, 577, 1), 576);
  EXPECT_EQ(tile_q(1, 1, 1, 1), 12);
  EXPECT_EQ(tile_q(1, 1, 13, 1), 24);
  EXPECT_EQ(tile_q(2, 1, 576, 8), 576);    // 8 tiles of 576
  EXPECT_EQ(tile_q(2, 1, 576, 7), 288);    // 14 of 288
  EXPECT_EQ(tile_q(2, 1, 576, 3), 192);    // 9 of 192
  EXPECT_EQ(tile_q(2, 1, 576, 2), 96);     // 12 of 96
  EXPECT_EQ(tile_q(2, 1, 288, 2), 48);     // 12 of 48
  EXPECT_EQ(tile_q(64, 1, 288, 2), 48);    // no smaller ones
  EXPECT_EQ(tile_q(64, 64, 128, 8), 132);  // a whole head
}

// Streams are split if there are several threads and fewer than 4 streams for each.
TEST(Plan, MakesRoomForTheChunksOfFewStreamsAlone) {
  const auto split = [](int32_t threads, int64_t batch, int64_t len_q, int64_t group,
                        uint32_t reproducible) {
    fovea_attention_args args = Base(FOVEA_F32, batch, len_q, 64, 2 * group, 2, 64, 64);
    args.reproducible = reproducible;
    fv_cpu_facts facts = {FV_ISA_AVX2, threads};
    fv_problem problem;
    fv_plan plan;
    EXPECT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
    fv_plan_cpu(&facts, &problem, &plan);
    return plan.cpu.max_split_streams;
  };
  EXPECT_EQ(split(2, 1, 1, 1, FOVEA_REPRODUCIBLE_RUN), 2);
  EXPECT_EQ(split(2, 3, 1, 4, FOVEA_REPRODUCIBLE_BATCH), 6);
  EXPECT_EQ(split(2, 4, 1, 4, FOVEA_REPRODUCIBLE_RUN), 7);
  EXPECT_EQ(split(1, 1, 1, 1, FOVEA_REPRODUCIBLE_RUN), 0);
  EXPECT_EQ(split(2, 1, 1, 1, FOVEA_REPRODUCIBLE_PHASE), 0);
  EXPECT_EQ(split(2, 1, 12, 1, FOVEA_REPRODUCIBLE_RUN), 2);
  EXPECT_EQ(split(2, 1, 13, 1, FOVEA_REPRODUCIBLE_RUN), 0);
  EXPECT_EQ(split(2, 1, 3, 4, FOVEA_REPRODUCIBLE_RUN), 2);
  EXPECT_EQ(split(2, 1, 4, 4, FOVEA_REPRODUCIBLE_RUN), 0);
}

// A call, packed or not, with the tightest limits that it fits.
struct Bounded {
  fovea_attention_args args;
  fovea_limits limits = {};
  fv_cpu_facts facts = {FV_ISA_AVX2, 1};

  explicit Bounded(std::mt19937 *random) {
    const auto up_to = [&](int64_t most) { return (int64_t)(1 + (*random)() % most); };
    const auto skewed = [&](int64_t most) { return up_to(up_to(most)); };
    const int64_t dim = 8 * up_to(72), dim_v = 8 * up_to(64), heads_kv = skewed(40),
                  group = skewed(40), batch = skewed(300), rows = skewed(2000);
    const bool packed = (*random)() % 2;
    args = Base(FOVEA_F32, packed ? 1 : batch, rows, 99, heads_kv * group, heads_kv, dim, dim_v);
    args.k.shape[0] = args.v.shape[0] = batch;
    if (packed) args.sequences.q_offsets = Array<int32_t>(6), args.sequences.count = batch;
    args.reproducible = (uint32_t)((*random)() % 3);
    facts.threads = (int32_t)skewed((*random)() % 2 ? 4096 : 16);
    limits.sequences = batch;
    limits.total_q = args.q.shape[0] * rows;
    limits.heads_q = (int32_t)(heads_kv * group), limits.heads_kv = (int32_t)heads_kv;
    limits.len_kv = 99;
    limits.dim = (int32_t)dim, limits.dim_v = (int32_t)dim_v;
  }
};

TEST(Plan, WorkspaceOfACallOfAnyFormIsWithinTheBoundOfTightLimits) {
  std::mt19937 random(5);
  for (int i = 0; i < 100000; ++i) {
    Bounded call(&random);
    fv_problem problem;
    fv_plan plan;
    ASSERT_EQ(fv_check_attention_shape(&call.args, &problem), FOVEA_OK) << fovea_error_detail();
    fv_plan_cpu(&call.facts, &problem, &plan);
    const size_t bound = fv_cpu_workspace(&call.facts, &call.limits);
    ASSERT_LE(plan.workspace_bytes, bound) << "call " << i;
    ASSERT_GE(plan.workers, 1);
    // A single larger limit, or one more thread, never lowers the bound.
    fovea_limits raised[7];
    for (fovea_limits &limits : raised) limits = call.limits;
    raised[0].sequences += random() % 50, raised[1].total_q += random() % 500;
    raised[2].heads_q += random() % 50, raised[3].heads_kv += random() % 50;
    raised[4].len_kv += random() % 500;
    raised[5].dim = 576, raised[6].dim_v = 512;
    for (int n = 0; n < 7; ++n) {
      ASSERT_GE(fv_cpu_workspace(&call.facts, &raised[n]), bound) << "call " << i << " limit " << n;
    }
    call.facts.threads += 1;
    ASSERT_GE(fv_cpu_workspace(&call.facts, &call.limits), bound) << "call " << i;
  }
}

// A call with one row keeps only as many threads busy as its keys have chunks.
TEST(Plan, WorkspaceIsBoundedByTheWorkNotByTheThreads) {
  fovea_limits limits = {};
  limits.sequences = limits.total_q = limits.heads_q = limits.heads_kv = 1;
  limits.len_kv = 1 << 20;
  limits.dim = 576, limits.dim_v = 512;
  const fv_cpu_facts facts = {FV_ISA_AVX2, 256};
  EXPECT_LT(fv_cpu_workspace(&facts, &limits), size_t{32} << 20);
  const fv_cpu_facts all = {FV_ISA_AVX2, 4096};
  EXPECT_EQ(fv_cpu_workspace(&all, &limits), fv_cpu_workspace(&facts, &limits));

  const auto workers = [&](const fovea_attention_args &args) {
    fv_problem problem;
    fv_plan plan;
    EXPECT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
    fv_plan_cpu(&facts, &problem, &plan);
    return plan.workers;
  };
  fovea_attention_args row = Base(FOVEA_F32, 1, 1, 4096, 1, 1, 64, 64);
  EXPECT_EQ(workers(row), 16);
  row.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  EXPECT_EQ(workers(row), 1);
  EXPECT_EQ(workers(Base(FOVEA_F32, 3, 100, 64, 2, 2, 64, 64)), 3 * 3 * 2);  // tiles of 48
  EXPECT_EQ(workers(Base(FOVEA_F32, 4, 1, 4096, 32, 8, 64, 64)), 256);
  // A packed row belongs to one sequence, so at most 2 of the 1000 sequences have rows.
  fovea_attention_args packed = Base(FOVEA_F32, 1, 2, 64, 1, 1, 64, 64);
  packed.k.shape[0] = packed.v.shape[0] = packed.sequences.count = 1000;
  packed.sequences.q_offsets = Array<int32_t>(6);
  EXPECT_EQ(workers(packed), 2 * 16);
}

TEST(Plan, WorkspaceOfACallIsWithinTheBoundOfAnyLimitsThatHoldIt) {
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    int64_t dim = 8 * (1 + random() % 72), dim_v = 8 * (1 + random() % 64);
    fovea_attention_args args =
        Base(FOVEA_F32, 1 + random() % 4, 1 + random() % 99, 1 + random() % 99, 4, 2, dim, dim_v);
    fv_cpu_facts facts = {FV_ISA_AVX2, (int32_t)(1 + random() % 64)};
    fv_problem problem;
    fv_plan plan;
    ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
    fv_plan_cpu(&facts, &problem, &plan);
    fovea_limits limits = {};
    limits.sequences = problem.sequences + random() % 2;
    limits.heads_q = 4 + random() % 2, limits.heads_kv = 2 + random() % 2;
    limits.total_q = problem.sequences * problem.rows;
    limits.len_kv = 99;
    limits.dim = random() % 4 ? (int32_t)(dim + random() % 3) : 576;
    limits.dim_v = random() % 4 ? (int32_t)(dim_v + random() % 3) : 512;
    EXPECT_LE(plan.workspace_bytes, fv_cpu_workspace(&facts, &limits));
    EXPECT_LE(plan.workers, facts.threads);
    EXPECT_EQ(plan.workspace_bytes, plan.cpu.scratch_bytes * (size_t)plan.workers +
                                        plan.cpu.max_split_streams * 16 * plan.cpu.partial_bytes);
  }
}

TEST(Plan, NeverCountsFewerTilesThanPackedSequencesCanHave) {
  std::mt19937 random(11);
  for (int i = 0; i < 2000; ++i) {
    const int64_t sequences = 1 + random() % 9, group = 1 + random() % 8,
                  heads_kv = 1 + random() % 3;
    int64_t total = 0, tiles = 0;
    std::vector<int64_t> lengths;
    for (int64_t s = 0; s < sequences; ++s) {
      lengths.push_back(random() % 120);
      total += lengths.back();
    }
    fovea_attention_args args = Base(FOVEA_F32, 1, total, 64, heads_kv * group, heads_kv, 8, 8);
    args.k = fovea_contiguous(Somewhere(2), FOVEA_F32, sequences, 64, heads_kv, 8);
    args.v = fovea_contiguous(Somewhere(3), FOVEA_F32, sequences, 64, heads_kv, 8);
    args.sequences.count = sequences;
    args.sequences.q_offsets = Array<int32_t>(6);
    fv_problem problem;
    fv_plan plan;
    fv_cpu_facts facts = {FV_ISA_PORTABLE, 2};
    ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK) << fovea_error_detail();
    fv_plan_cpu(&facts, &problem, &plan);
    for (int64_t rows : lengths) {
      tiles += (rows * group + plan.tile_q - 1) / plan.tile_q * heads_kv;
    }
    EXPECT_GE(plan.tiles_bound, tiles);
    EXPECT_LE(plan.tiles_bound, tiles + (sequences + 1) * heads_kv);
  }
}

}  // namespace
