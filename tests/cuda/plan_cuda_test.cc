// plan_cuda_test.cc - plans for CUDA devices, held to a committed list. No driver takes part.
//
// After an intended change: FOVEA_UPDATE_GOLDEN=1 build/tests/cuda/cuda_test, then read the diff of
// tests/golden/plans_cuda.txt.
#include "plan_cuda.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "check.h"
#include "schedule_cuda.h"
#include "support/memory.h"

namespace {

using fovea_test::Choices;

const fv_cuda_facts kSmall = {86, 84, 101376, 102400}, kLarge = {90, 132, 232448, 233472};

fovea_attention_args Request(fovea_dtype dtype, int64_t batch, int64_t len_q, int64_t len_kv,
                             int64_t heads_q, int64_t heads_kv, int64_t dim) {
  static char somewhere[16];
  fovea_attention_args a = {};
  a.struct_size = sizeof a;
  a.q = fovea_contiguous(somewhere, dtype, batch, len_q, heads_q, dim);
  a.k = a.v = fovea_contiguous(somewhere, dtype, batch, len_kv, heads_kv, dim);
  a.out = a.q;
  return a;
}

std::string PlanText(const fv_cuda_facts &facts, const fovea_attention_args &args) {
  fv_problem problem;
  fv_plan plan;
  if (fv_check_attention_shape(&args, &problem) != FOVEA_OK) return fovea_error_detail();
  if (fv_plan_cuda(&facts, &problem, &plan) != FOVEA_OK) return fovea_error_detail();
  char text[4096];
  fv_plan_print(&plan, &problem, text, sizeof text);
  return text;
}

TEST(CudaPlan, EqualsTheCommittedPlans) {
  std::ostringstream text;
  fovea_attention_args causal = Request(FOVEA_BF16, 2, 1000, 1000, 32, 8, 128);
  causal.causal = 1;
  fovea_attention_args few = causal;
  few.sm_count = 16;
  fovea_attention_args wide_keys = Request(FOVEA_F16, 1, 65, 65, 4, 4, 192);
  wide_keys.v = wide_keys.out = Request(FOVEA_F16, 1, 65, 65, 4, 4, 128).v;
  static int32_t ints[9];
  fovea_attention_args decode_batch = Request(FOVEA_F16, 8, 1, 5000, 32, 8, 128);
  decode_batch.reproducible = FOVEA_REPRODUCIBLE_BATCH;
  fovea_attention_args decode_phase = decode_batch;
  decode_phase.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  fovea_attention_args packed = Request(FOVEA_BF16, 1, 700, 16, 32, 8, 128);
  packed.k.shape[0] = packed.v.shape[0] = 1000;
  packed.q_offsets = packed.kv_lengths = ints;
  packed.sequences = 8;
  packed.pages = {ints, nullptr, nullptr, 64, 64};
  packed.causal = 1;
  const struct {
    const char *name;
    fovea_attention_args args;
  } requests[] = {{"encoder", Request(FOVEA_F16, 4, 128, 128, 12, 12, 32)},
                  {"prefill, causal", causal},
                  {"the same on 16 multiprocessors", few},
                  {"decode", Request(FOVEA_F16, 8, 1, 5000, 32, 8, 128)},
                  {"decode, reproducible in any batch", decode_batch},
                  {"decode, reproducible in any phase", decode_phase},
                  {"packed and paged", packed},
                  {"a dim between two rows", Request(FOVEA_BF16, 1, 65, 65, 1, 1, 72)},
                  {"a dim past all rows", Request(FOVEA_BF16, 1, 65, 65, 1, 1, 512)},
                  {"keys wider than values", wide_keys},
                  {"single precision", Request(FOVEA_F32, 1, 65, 65, 1, 1, 64)}};
  for (const auto &request : requests) {
    for (const fv_cuda_facts &facts : {kSmall, kLarge}) {
      text << "== " << request.name << ", sm_" << facts.sm << "\n"
           << PlanText(facts, request.args) << "\n";
    }
  }
  const std::string path = FOVEA_SOURCE_DIR "/tests/golden/plans_cuda.txt";
  if (getenv("FOVEA_UPDATE_GOLDEN")) std::ofstream(path) << text.str();
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  EXPECT_EQ(text.str(), golden.str());
}

// A random call of any layout, and limits that hold it: exactly, or with room.
fovea_attention_args SomeRequest(Choices *draw, fovea_limits *limits) {
  static int32_t ints[1];
  const auto up_to = [&](int64_t n) { return 1 + draw->below(n); };
  const int64_t heads_kv = up_to(8), heads_q = heads_kv * up_to(12);
  const int64_t sequences = up_to(draw->below(2) ? 4 : 300);
  const int64_t rows = up_to(draw->below(2) ? 4 : 3000), keys = up_to(1 << draw->below(17));
  const auto dtype = draw->below(2) ? FOVEA_F16 : FOVEA_BF16;
  fovea_attention_args a = Request(dtype, sequences, rows, keys, heads_q, heads_kv, 8 * up_to(32));
  const fovea_attention_args values =
      Request(dtype, sequences, rows, keys, heads_q, heads_kv, 8 * up_to(32));
  a.v = values.v;
  a.out = values.q;
  a.sequences = sequences;
  limits->len_kv = keys;
  if (draw->below(2)) {
    a.q_offsets = ints;
    a.q.shape[0] = a.out.shape[0] = 1;
  }
  const int64_t layout = draw->below(4);
  if (layout == 1) {
    a.kv_offsets = ints;
    a.k.shape[0] = a.v.shape[0] = 1;
    limits->len_kv = up_to(keys);
  } else if (layout >= 2) {
    const int64_t columns = up_to(40);
    a.pages = {ints, nullptr, layout == 3 ? ints : nullptr, columns, columns};
    a.k.shape[0] = a.v.shape[0] = 50;
    a.k.shape[1] = a.v.shape[1] = up_to(200);
    a.kv_lengths = ints;
    limits->len_kv = columns * a.k.shape[1];
  }
  a.reproducible = static_cast<uint32_t>(draw->below(3));
  a.sm_count = limits->sm_count = static_cast<int32_t>(draw->below(3) ? 0 : up_to(132));
  limits->struct_size = sizeof *limits;
  limits->dim = static_cast<int32_t>(a.q.shape[3]);
  limits->dim_v = static_cast<int32_t>(a.v.shape[3]);
  limits->heads_q = static_cast<int32_t>(heads_q);
  limits->heads_kv = static_cast<int32_t>(heads_kv);
  limits->sequences = sequences;
  limits->total_q = a.q.shape[0] * a.q.shape[1];
  if (draw->below(2)) limits->total_q += draw->below(1000);
  if (draw->below(2)) limits->len_kv += draw->below(1000);
  if (draw->below(2)) limits->sequences += draw->below(100);
  if (draw->below(2)) limits->heads_q *= 2;
  if (draw->below(4) == 0) limits->dim = limits->dim_v = 0;
  return a;
}

TEST(CudaPlan, NoCallWithinLimitsNeedsMoreThanTheirWorkspace) {
  Choices draw(11);
  int supported = 0, scheduled = 0;
  for (int n = 0; n < 100000; ++n) {
    fovea_limits given = {}, limits;
    const fovea_attention_args args = SomeRequest(&draw, &given);
    fv_problem problem;
    fv_plan plan;
    ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK) << fovea_error_detail();
    ASSERT_EQ(fv_check_limits(&given, &limits), FOVEA_OK) << fovea_error_detail();
    const fv_cuda_facts &facts = n % 2 ? kSmall : kLarge;
    if (fv_plan_cuda(&facts, &problem, &plan) != FOVEA_OK) continue;
    supported += 1;
    scheduled += plan.schedule.on;
    ASSERT_LE(plan.workspace_bytes, fv_cuda_workspace(&facts, &limits)) << "case " << n << "\n"
                                                                        << PlanText(facts, args);
  }
  EXPECT_GT(supported, 90000);
  EXPECT_GT(scheduled, 50000);
}

// By Little's law a multiprocessor of an H100 (3.35 TB/s over 132, 600 to 800 ns) or an A100 (2 TB/s over
// 108) wants some 15 to 23 KB on their way; whoever decodes has that many from every row of the table.
TEST(CudaPlan, DecodingKeepsEnoughBytesOnTheirWay) {
  const fv_cuda_facts devices[] = {{80, 108, 166912, 167936}, kLarge};
  for (const fv_cuda_facts &facts : devices) {
    for (int32_t row = 0; fv_cuda_row_at(row); ++row) {
      EXPECT_GE(fv_cuda_bytes_in_flight(&facts, fv_cuda_row_at(row)), 23000)
          << fv_cuda_row_at(row)->kernel.name << " on sm_" << facts.sm;
    }
  }
}

// What prepare loads is what some call within the limits plans: found by planning all of them.
TEST(CudaPlan, CanChooseExactlyTheRowsThatSomeCallWithinTheLimitsPlans) {
  for (uint32_t dtype : {FOVEA_F16, FOVEA_BF16}) {
    for (int32_t limit = 8; limit <= 288; limit += 8) {
      fovea_limits limits = {};
      limits.q_dtype = dtype;
      limits.dim = limits.dim_v = limit;
      for (int32_t row = 0; fv_cuda_row_at(row); ++row) {
        bool planned = false;
        for (int32_t dim = 8; dim <= limit; dim += 8) {
          for (int32_t dim_v = 8; dim_v <= limit; dim_v += 8) {
            fv_problem problem;
            fv_plan plan;
            const auto type = static_cast<fovea_dtype>(dtype);
            fovea_attention_args args = Request(type, 1, 5, 5, 1, 1, dim);
            args.v = args.out = Request(type, 1, 5, 5, 1, 1, dim_v).v;
            ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
            planned |= fv_plan_cuda(&kLarge, &problem, &plan) == FOVEA_OK &&
                       fv_cuda_row_index(plan.kernel) == row;
          }
        }
        EXPECT_EQ(fv_plan_cuda_can_choose(&kLarge, &limits, row), planned)
            << fv_cuda_row_at(row)->kernel.name << ", limit " << limit;
      }
    }
  }
}

}  // namespace
