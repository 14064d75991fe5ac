// plan_cuda_test.cc - plans for CUDA devices, held to a committed list. No driver takes part.
//
// After an intended change: FOVEA_UPDATE_GOLDEN=1 build/tests/cuda/cuda_test, then read the diff of
// tests/golden/plans_cuda.txt. FOVEA_RANDOM_PROBLEMS=1000000 holds a million random calls to the
// workspace bound (default: 100000).
#include "csrc/cuda/plan.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "csrc/check/check.h"
#include "csrc/cuda/schedule.h"
#include "tests/support/memory.h"

namespace {

using fovea_test::Choices;

// The GPUs that the software GPU can simulate (docs/simgpu.md), with its facts about them.
const fv_cuda_facts kProfiles[] = {{80, 108, 166912, 167936},
                                   {86, 84, 101376, 102400},
                                   {90, 132, 232448, 233472},
                                   {120, 170, 101376, 102400}};
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
  causal.visibility.causal = 1;
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
  packed.sequences.q_offsets = packed.sequences.kv_lengths = ints;
  packed.sequences.count = 8;
  packed.sequences.pages = {ints, nullptr, nullptr, 64, 64, 0, nullptr, {}};
  packed.visibility.causal = 1;
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

// A random call of any layout, and limits that hold it exactly or with room to spare.
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
  a.sequences.count = sequences;
  limits->len_kv = keys;
  if (draw->below(2)) {
    a.sequences.q_offsets = ints;
    a.q.shape[0] = a.out.shape[0] = 1;
  }
  const int64_t layout = draw->below(4);
  if (layout == 1) {
    a.sequences.kv_offsets = ints;
    a.k.shape[0] = a.v.shape[0] = 1;
    limits->len_kv = up_to(keys);
  } else if (layout >= 2) {
    const int64_t columns = up_to(40);
    a.sequences.pages = {ints,    nullptr, layout == 3 ? ints : nullptr, columns, columns, 0,
                         nullptr, {}};
    a.k.shape[0] = a.v.shape[0] = 50;
    a.k.shape[1] = a.v.shape[1] = up_to(200);
    a.sequences.kv_lengths = ints;
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

int64_t random_problems() {
  const char *wanted = getenv("FOVEA_RANDOM_PROBLEMS");
  return wanted ? atoll(wanted) : 100000;
}

TEST(CudaPlan, NoCallWithinLimitsNeedsMoreThanTheirWorkspace) {
  Choices draw(11);
  const int64_t count = random_problems();
  int64_t supported = 0, scheduled = 0;
  for (int64_t n = 0; n < count; ++n) {
    fovea_limits given = {}, limits;
    const fovea_attention_args args = SomeRequest(&draw, &given);
    fv_problem problem;
    fv_plan plan;
    ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK) << fovea_error_detail();
    ASSERT_EQ(fv_check_limits(&given, &limits), FOVEA_OK) << fovea_error_detail();
    const fv_cuda_facts &facts = n % 2 ? kSmall : kLarge;
    if (fv_plan_cuda(&facts, &problem, &plan) != FOVEA_OK) continue;
    supported += 1;
    scheduled += plan.cuda.scheduled;
    ASSERT_LE(plan.workspace_bytes, fv_cuda_workspace(&facts, &limits)) << "case " << n << "\n"
                                                                        << PlanText(facts, args);
  }
  EXPECT_GT(supported, count / 10 * 9);
  EXPECT_GT(scheduled, count / 2);
}

// By Little's law, with up to 800 ns from a load to its data, a multiprocessor of an A100 (2 TB/s
// over 108) needs 14.8 KB in flight, and one of an H100 (3.35 TB/s over 132) 20.3 KB. Every kernel
// row gives decoding that many, except the general class of small 8-bit heads on the latter: rules
// take longer than so few bytes.
TEST(CudaPlan, DecodingKeepsEnoughBytesOnTheirWay) {
  const fv_cuda_facts a100 = {80, 108, 166912, 167936};
  for (int32_t number = 0; fv_cuda_row_at(number); ++number) {
    const fv_cuda_row *row = fv_cuda_row_at(number);
    const bool small = row->general && row->kv_bytes == 1 && row->dim == 64;
    EXPECT_GE(fv_cuda_bytes_in_flight(&a100, row), 15000) << row->kernel.name;
    EXPECT_GE(fv_cuda_bytes_in_flight(&kLarge, row), small ? 16000 : 21000) << row->kernel.name;
  }
}

// A caller of small heads pays for no part of a large one.
TEST(CudaPlan, BoundsTheWorkspaceByTheRowsThatTheLimitsAllow) {
  fovea_limits limits = {};
  limits.struct_size = sizeof limits;
  limits.heads_q = limits.heads_kv = limits.sequences = 8;
  limits.total_q = limits.len_kv = 1000;
  limits.dim = limits.dim_v = 64;
  const size_t small = fv_cuda_workspace(&kLarge, &limits);
  limits.dim = limits.dim_v = 256;
  EXPECT_LT(small, fv_cuda_workspace(&kLarge, &limits));
}

// The hardware keeps 1 KB of shared memory for itself per CTA (CUDA programming guide, 8.0 and
// later).
TEST(CudaPlan, CountsACtaWhereItsMemoryFitsExactly) {
  const fv_cuda_row *row = fv_cuda_row_at(0);
  fv_cuda_facts facts = kLarge;
  facts.shared_bytes_sm = 2 * (row->shared_bytes + 1024);
  const int64_t two = fv_cuda_bytes_in_flight(&facts, row);
  facts.shared_bytes_sm -= 1;
  EXPECT_EQ(two, 2 * fv_cuda_bytes_in_flight(&facts, row));
}

// Calls of few and of many rows, with keys and values of `cache`, of both classes: whether one
// takes the row.
bool some_call_takes(uint32_t dtype, uint32_t cache, int32_t dim, int32_t dim_v, int64_t most_rows,
                     int32_t row) {
  static const float slopes[1] = {1};
  const auto type = static_cast<fovea_dtype>(dtype);
  fv_problem problem;
  fv_plan plan;
  for (int64_t rows : {INT64_C(5), most_rows}) {
    fovea_attention_args args = Request(type, 1, rows, 5, 1, 1, dim);
    args.v = Request(type, 1, 5, 5, 1, 1, dim_v).v;
    args.out = Request(type, 1, rows, 5, 1, 1, dim_v).q;
    args.k.dtype = args.v.dtype = cache;
    for (const float *given : {static_cast<const float *>(nullptr), slopes}) {
      args.logits.alibi_slopes = given;  // of the general class
      EXPECT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK);
      if (fv_plan_cuda(&kLarge, &problem, &plan) == FOVEA_OK &&
          fv_cuda_row_index(plan.kernel) == row) {
        return true;
      }
    }
  }
  return false;
}

// Prepare loads exactly the rows that some call within the limits plans. The test plans all calls.
void expect_choices(uint32_t dtype, uint32_t cache, int32_t limit) {
  fovea_limits limits = {};
  limits.q_dtype = dtype;
  limits.k_dtype = limits.v_dtype = cache;
  limits.dim = limits.dim_v = limit;
  limits.total_q = limit % 16 ? 5 : 40000;
  limits.heads_q = 1;
  const int32_t step = limit > 70 || cache != dtype ? 8 : 1;
  const int32_t first = limit % step ? limit % step : step;
  for (int32_t row = 0; fv_cuda_row_at(row); ++row) {
    bool planned = false;
    for (int32_t dim = first; dim <= limit && !planned; dim += step) {
      for (int32_t dim_v = first; dim_v <= limit && !planned; dim_v += step) {
        planned = some_call_takes(dtype, cache, dim, dim_v, limits.total_q, row);
      }
    }
    EXPECT_EQ(fv_plan_cuda_can_choose(&kLarge, &limits, row), planned)
        << fv_cuda_row_at(row)->kernel.name << ", limit " << limit;
  }
}

TEST(CudaPlan, CanChooseExactlyTheRowsThatSomeCallWithinTheLimitsPlans) {
  for (uint32_t dtype : {FOVEA_F16, FOVEA_BF16}) {
    for (int32_t limit : {1,   7,   8,   16,  31,  32,  33,  63,  64,  65,  96, 97,
                          120, 128, 129, 160, 192, 193, 200, 249, 256, 257, 288}) {
      expect_choices(dtype, dtype, limit);
      expect_choices(dtype, FOVEA_E5M2, limit);
    }
  }
}

// ---- What has a kernel -----------------------------------------------------------------------

void add_all(fovea_attention_args *a);

// The features that the kernels have: each by itself, and all that can be combined.
struct CallFeature {
  const char *name;
  void (*add)(fovea_attention_args *a);
};

int32_t any_ints[8];
float any_floats[64];
char any_bytes[64];

const CallFeature kCallFeatures[] = {
    {"nothing", [](fovea_attention_args *) {}},
    {"causal", [](fovea_attention_args *a) { a->visibility.causal = 1; }},
    {"top left",
     [](fovea_attention_args *a) {
       a->visibility.causal = 1;
       a->positions.alignment = FOVEA_ALIGN_TOP_LEFT;
     }},
    {"windows",
     [](fovea_attention_args *a) {
       a->visibility.window_left = {FOVEA_WINDOW_LIMITED, 9};
       a->visibility.window_right = {FOVEA_WINDOW_LIMITED, 3};
     }},
    {"q_position", [](fovea_attention_args *a) { a->positions.q = any_ints; }},
    {"kv_first", [](fovea_attention_args *a) { a->sequences.kv_first = any_ints; }},
    {"kv_position",
     [](fovea_attention_args *a) {
       a->positions.kv = any_ints;
       a->positions.kv_stride = 3;
     }},
    {"lengths", [](fovea_attention_args *a) { a->sequences.kv_lengths = any_ints; }},
    {"softcap", [](fovea_attention_args *a) { a->logits.softcap = 30; }},
    {"scale", [](fovea_attention_args *a) { a->logits.scale = 0.3f; }},
    {"sinks", [](fovea_attention_args *a) { a->logits.sinks = any_floats; }},
    {"padding mask",
     [](fovea_attention_args *a) {
       a->visibility.mask = fovea_contiguous(any_bytes, FOVEA_U8, 2, 1, 1, a->k.shape[1]);
     }},
    {"lse",
     [](fovea_attention_args *a) { a->lse = fovea_contiguous(any_floats, FOVEA_F32, 2, 5, 4, 1); }},
    {"packed q",
     [](fovea_attention_args *a) {
       a->q.shape[0] = a->out.shape[0] = 1;
       a->sequences.q_offsets = any_ints;
       a->sequences.count = 2;
     }},
    {"packed k",
     [](fovea_attention_args *a) {
       a->k.shape[0] = a->v.shape[0] = 1;
       a->sequences.kv_offsets = any_ints;
     }},
    {"pages",
     [](fovea_attention_args *a) {
       a->sequences.pages = {any_ints, nullptr, nullptr, 3, 3, 0, nullptr, {}};
       a->sequences.kv_lengths = any_ints;
     }},
    {"pages by offsets, v with its own",
     [](fovea_attention_args *a) {
       a->sequences.pages = {any_ints, any_ints, any_ints, 0, 7, 0, nullptr, {}};
       a->sequences.kv_lengths = any_ints;
     }},
    {"8-bit caches",
     [](fovea_attention_args *a) {
       a->k.dtype = FOVEA_E4M3;
       a->v.dtype = FOVEA_I8;
       a->k_scale = fovea_contiguous(any_floats, FOVEA_F32, 1, 1, 2, 1);
     }},
    {"few multiprocessors", [](fovea_attention_args *a) { a->sm_count = 3; }},
    {"dependent launch", [](fovea_attention_args *a) { a->flags = FOVEA_ALLOW_DEPENDENT_LAUNCH; }},
    {"batch", [](fovea_attention_args *a) { a->reproducible = FOVEA_REPRODUCIBLE_BATCH; }},
    {"phase", [](fovea_attention_args *a) { a->reproducible = FOVEA_REPRODUCIBLE_PHASE; }},
    {"all that meet", add_all},
};

void add_all(fovea_attention_args *a) {
  for (const CallFeature &feature : kCallFeatures) {
    const std::string name = feature.name;
    const bool is_apart =
        name == "packed k" || name == "lse" || name == "8-bit caches" || feature.add == add_all;
    if (!is_apart) feature.add(a);
  }
}

// Every GPU that these kernels run on has 99 KB of shared memory.
TEST(CudaPlan, HasARowForEveryTypeDimAndFeatureOnEveryDevice) {
  for (const fv_cuda_facts &facts : kProfiles) {
    for (auto dtype : {FOVEA_F16, FOVEA_BF16}) {
      for (int32_t dim = 8; dim <= 256; dim += 8) {
        for (int32_t dim_v = 8; dim_v <= 256; dim_v += 8) {
          for (const CallFeature &feature : kCallFeatures) {
            fovea_attention_args args = Request(dtype, 2, 5, 70, 4, 2, dim);
            args.v = Request(dtype, 2, 5, 70, 4, 2, dim_v).v;
            args.out = Request(dtype, 2, 5, 70, 4, 2, dim_v).out;
            feature.add(&args);
            fv_problem problem;
            fv_plan plan;
            ASSERT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK)
                << feature.name << ": " << fovea_error_detail();
            ASSERT_EQ(fv_plan_cuda(&facts, &problem, &plan), FOVEA_OK)
                << feature.name << ": " << fovea_error_detail();
            const fv_cuda_row *row = fv_cuda_row_at(fv_cuda_row_index(plan.kernel));
            ASSERT_TRUE(row->dtype == dtype && row->dim >= dim && row->dim_v >= dim_v);
            ASSERT_LE(row->shared_bytes, facts.shared_bytes) << row->kernel.name;
            ASSERT_TRUE(facts.sm != 86 || row->shared_bytes <= 101376) << row->kernel.name;
          }
        }
      }
    }
  }
}

// ---- Large numbers ---------------------------------------------------------------------------

fv_plan PlanOf(const fovea_attention_args &args) {
  fv_problem problem;
  fv_plan plan = {};
  EXPECT_EQ(fv_check_attention_shape(&args, &problem), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(fv_plan_cuda(&kLarge, &problem, &plan), FOVEA_OK) << fovea_error_detail();
  return plan;
}

size_t BoundOf(const fovea_attention_args &a, int64_t sequences, int64_t len_kv) {
  fovea_limits given = {}, limits;
  given.struct_size = sizeof given;
  given.heads_q = static_cast<int32_t>(a.q.shape[2]);
  given.heads_kv = static_cast<int32_t>(a.k.shape[2]);
  given.sequences = sequences;
  given.total_q = a.q.shape[0] * a.q.shape[1];
  given.len_kv = len_kv;
  EXPECT_EQ(fv_check_limits(&given, &limits), FOVEA_OK) << fovea_error_detail();
  return fv_cuda_workspace(&kLarge, &limits);
}

int64_t Rounded(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// One kind of work tile in the workspace: the tiles, and the places for their partials.
struct LineOf {
  int64_t tiles, partials, partial_floats;
};

// The contents of the workspace by docs/decisions/0014; each array takes multiples of 256 bytes.
int64_t WorkspaceOf(int64_t sequences, const LineOf &wide, const LineOf &narrow) {
  int64_t bytes = Rounded(2 * 24) + Rounded(sequences * 56);
  bytes += Rounded((wide.partials + narrow.partials) * 4);
  for (const LineOf &line : {wide, narrow}) {
    bytes += Rounded(line.tiles * 40) + Rounded(line.partials * line.partial_floats * 4);
  }
  return bytes;
}

TEST(CudaPlan, CountsTilesPastTwoToThe32) {
  // 2^24 sequences of 4096 rows, groups of 8 heads: 256 tiles for each of 16 kv heads.
  fovea_attention_args a = Request(FOVEA_F16, 1 << 24, 4096, 4096, 128, 16, 128);
  a.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  const fv_plan plan = PlanOf(a);
  EXPECT_EQ(plan.tiles_bound, INT64_C(1) << 36);
  EXPECT_EQ(plan.workers, INT32_MAX);  // the limit of the grid's first dimension
  EXPECT_EQ(plan.workspace_bytes, 0u);
}

TEST(CudaPlan, CountsTheWorkspaceOfManyPackedRows) {
  const int64_t rows = INT32_MAX, sequences = 1 << 20;
  fovea_attention_args a = Request(FOVEA_F16, 1, rows, 4096, 128, 16, 128);
  a.k.shape[0] = a.v.shape[0] = sequences;
  a.sequences.q_offsets = any_ints;
  a.sequences.count = sequences;
  const fv_plan plan = PlanOf(a);
  const int64_t tiles = (rows * 8 + 127) / 128 + sequences, workers = kLarge.sm_count * 2;
  EXPECT_EQ(plan.tiles_bound, tiles * 16);
  EXPECT_EQ(plan.workers, workers);
  const int64_t expected = WorkspaceOf(sequences, {tiles, 2 * workers, 256 * (128 / 2 + 8)},
                                       {sequences, 2 * workers, 32 * (128 / 2 + 8)});
  EXPECT_EQ(static_cast<int64_t>(plan.workspace_bytes), expected);
  EXPECT_GE(BoundOf(a, sequences, 4096), plan.workspace_bytes);
}

// Under PHASE a row has the bits of prefill, so few rows take wide tiles, too.
TEST(CudaPlan, ListsWideTilesAloneForPhase) {
  fovea_attention_args a = Request(FOVEA_F16, 1, 3000, 4096, 128, 16, 128);
  a.k.shape[0] = a.v.shape[0] = 100;
  a.sequences.q_offsets = any_ints;
  a.sequences.count = 100;
  a.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  const fv_plan plan = PlanOf(a);
  EXPECT_EQ(plan.cuda.lines[FV_WIDE].tiles, (3000 * 8 + 127) / 128 + 100);
  EXPECT_EQ(plan.cuda.lines[FV_NARROW].tiles, 0);
}

// Tiles of 128 rows serve calls of so many rows that they fill the device and themselves.
TEST(CudaPlan, TakesWideTilesWhereThereAreRowsForThem) {
  const auto kernel_of = [](int64_t batch, int64_t len_q, int64_t heads, int64_t dim) {
    return std::string(
        PlanOf(Request(FOVEA_BF16, batch, len_q, 600, heads, heads, dim)).kernel->name);
  };
  const std::string prefix = "fovea_attention_fwd_sm80_bf16_";
  // 132 multiprocessors hold two CTAs each: 264 tiles of 128 rows.
  EXPECT_EQ(kernel_of(1, 264 * 128, 1, 128), prefix + "d128");
  EXPECT_EQ(kernel_of(1, 264 * 128 - 1, 1, 128), prefix + "d128_q64");
  EXPECT_EQ(kernel_of(8, 512, 16, 64), prefix + "d64");
  EXPECT_EQ(kernel_of(8, 512, 16, 256), prefix + "d256");
  EXPECT_EQ(kernel_of(1, 132 * 128, 1, 256), prefix + "d256");
  EXPECT_EQ(kernel_of(1, 132 * 128 - 1, 1, 256), prefix + "d256_q64");
  // A sequence of 64 rows would leave half of each tile empty.
  EXPECT_EQ(kernel_of(64, 65, 64, 128), prefix + "d128");
  EXPECT_EQ(kernel_of(64, 64, 64, 128), prefix + "d128_q64");
  EXPECT_EQ(kernel_of(8, 512, 16, 96), prefix + "d96");
  fovea_attention_args packed = Request(FOVEA_BF16, 1, 6500, 600, 64, 64, 128);
  packed.k.shape[0] = packed.v.shape[0] = packed.sequences.count = 100;
  packed.sequences.q_offsets = any_ints;
  EXPECT_EQ(PlanOf(packed).kernel->name, prefix + "d128");
  packed.q.shape[1] = packed.out.shape[1] = 6499;  // 64.99 rows on average
  EXPECT_EQ(PlanOf(packed).kernel->name, prefix + "d128_q64");
}

// A limit that the device does not reach limits nothing, and asks for no more workspace.
TEST(CudaPlan, UsesAllMultiprocessorsWhereMoreAreAllowed) {
  fovea_attention_args a = Request(FOVEA_BF16, 8, 1, 5000, 32, 8, 128);
  const fv_plan all = PlanOf(a);
  for (int32_t count : {kLarge.sm_count, kLarge.sm_count + 1, INT32_MAX}) {
    a.sm_count = count;
    EXPECT_EQ(PlanOf(a).workers, all.workers) << count;
    EXPECT_EQ(PlanOf(a).workspace_bytes, all.workspace_bytes) << count;
  }
  a.sm_count = kLarge.sm_count - 1;
  EXPECT_EQ(PlanOf(a).workers, a.sm_count);
}

TEST(CudaPlan, CountsThePlacesOfManyChunks) {
  const int64_t sequences = 1 << 24;
  fovea_attention_args a = Request(FOVEA_BF16, sequences, 1, 100000, 256, 256, 64);
  a.reproducible = FOVEA_REPRODUCIBLE_BATCH;
  const fv_plan plan = PlanOf(a);
  const int64_t partials = sequences * 256 * 8, partial_floats = 32 * (64 / 2 + 8);
  EXPECT_EQ(plan.cuda.lines[FV_NARROW].partials, partials);
  EXPECT_EQ(static_cast<int64_t>(plan.workspace_bytes),
            WorkspaceOf(sequences, {0, 0, 0}, {sequences, partials, partial_floats}) +
                Rounded(plan.workers * 4 * partial_floats * 4));
  EXPECT_GE(BoundOf(a, sequences, 100000), plan.workspace_bytes);
}

// Where even 64 bits are too few, the bound is INT64_MAX or more.
TEST(CudaPlan, SaysTheMostWhereNumbersHaveNoRoom) {
  fovea_limits given = {}, limits;
  given.struct_size = sizeof given;
  given.heads_q = given.heads_kv = INT32_MAX;
  given.sequences = given.total_q = given.len_kv = INT32_MAX;
  ASSERT_EQ(fv_check_limits(&given, &limits), FOVEA_OK) << fovea_error_detail();
  EXPECT_GE(fv_cuda_workspace(&kLarge, &limits), static_cast<size_t>(INT64_MAX));
}

}  // namespace
