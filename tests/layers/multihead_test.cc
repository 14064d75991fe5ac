// multihead_test.cc - the multi-head layer against double precision, and what it must equal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/layers/multihead_case.h"

namespace fovea_test {
namespace {

TEST(Multihead, IsWhatTheHeaderSaysOfEveryKindOfSource) {
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    MultiheadCase layer(seed);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ":" << layer.words());
    layer.expect_right();
    if (testing::Test::HasFailure()) return;
  }
}

// ---- What a layer must equal ----

// A layer of plain self-attention, f32, of contiguous tensors.
struct Plain {
  int64_t batch, len, width = 24, heads = 3, dim = 8;
  Tokens x, out;
  Projection q, k, v, o;
  fovea_source source = {};

  Plain(int64_t batch_, int64_t len_) : batch(batch_), len(len_) {
    x = Tokens(FOVEA_F32, {batch, len, 1, width});
    out = Tokens(FOVEA_F32, {batch, len, 1, width});
    x.fill_random(1);
    uint64_t seed = 2;
    for (Projection *one : {&q, &k, &v, &o}) {
      one->weight = Tokens(FOVEA_F32, {1, width, 1, width});
      one->weight.fill_random(seed++, 0.3);
      one->bias = Tokens(FOVEA_F32, {1, 1, 1, width});
      one->bias.fill_random(seed++);
    }
    source.x_k = x.view();
    source.k_proj = k.view();
    source.v_proj = v.view();
  }

  fovea_multihead_args args() const {
    fovea_multihead_args args = {};
    args.struct_size = sizeof args;
    args.heads_q = args.heads_kv = static_cast<int32_t>(heads);
    args.dim = args.dim_v = static_cast<int32_t>(dim);
    args.source_count = 1;
    args.sources = &source;
    args.x = x.view();
    args.q_proj = q.view();
    args.out_proj = o.view();
    args.out = out.view();
    return args;
  }
};

fovea_status call(fovea_multihead_args args) {
  size_t bytes = 0;
  const fovea_status status = fovea_multihead_workspace(shared_cpu(), &args, &bytes);
  if (status != FOVEA_OK) return status;
  Workspace workspace(bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  const fovea_status ran = fovea_multihead(shared_cpu(), &args, nullptr);
  EXPECT_TRUE(workspace.intact());
  return ran;
}

fovea_status call(fovea_memory_args args) {
  size_t bytes = 0;
  const fovea_status status = fovea_memory_workspace(shared_cpu(), &args, &bytes);
  if (status != FOVEA_OK) return status;
  Workspace workspace(bytes);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  const fovea_status ran = fovea_memory(shared_cpu(), &args, nullptr);
  EXPECT_TRUE(workspace.intact());
  return ran;
}

void expect_near(const Tokens &a, const Tokens &b, double most) {
  for (int64_t token = 0; token < a.tokens(); ++token) {
    for (int64_t i = 0; i < a.width(); ++i) {
      ASSERT_NEAR(a.of_token(token, i), b.of_token(token, i), most) << token << ", " << i;
    }
  }
}

fovea_memory_args memory_of(const Plain &plain, const Tokens &k, const Tokens &v) {
  fovea_memory_args args = {};
  args.struct_size = sizeof args;
  args.heads_kv = static_cast<int32_t>(plain.heads);
  args.dim = args.dim_v = static_cast<int32_t>(plain.dim);
  args.x_k = plain.x.view();
  args.k_proj = plain.k.view();
  args.v_proj = plain.v.view();
  args.k = k.view();
  args.v = v.view();
  return args;
}

TEST(Multihead, OfAMemoryProjectedOnceEqualsThatOfItsTokensBitByBit) {
  Plain plain(2, 5);
  ASSERT_EQ(call(plain.args()), FOVEA_OK) << fovea_layers_error_detail();
  Tokens k(FOVEA_F32, {2, 5, 3, 8}), v(FOVEA_F32, {2, 5, 3, 8}), out(FOVEA_F32, {2, 5, 1, 24});
  ASSERT_EQ(call(memory_of(plain, k, v)), FOVEA_OK) << fovea_layers_error_detail();
  ASSERT_EQ(k.wrong() + v.wrong(), "");
  fovea_source memory = {};
  memory.k = k.view();
  memory.v = v.view();
  fovea_multihead_args args = plain.args();
  args.sources = &memory;
  args.out = out.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(out, plain.out, 0);
}

// Sums over other numbers of rows may come in another order: 24 terms of each projection and 5 keys
// of values below 10.
constexpr double kOtherOrder = 1e-4;

TEST(Multihead, StepsOfOneTokenIntoACacheEqualOneCausalCall) {
  constexpr int64_t kLen = 7;
  Plain plain(2, kLen);
  std::vector<float> cos, sin;
  for (int64_t i = 0; i < kLen * 4; ++i) {
    cos.push_back(std::cos(static_cast<float>(i)));
    sin.push_back(std::sin(static_cast<float>(i)));
  }
  fovea_multihead_args whole = plain.args();
  whole.rope.cos = cos.data(), whole.rope.sin = sin.data();
  whole.rope.rows = kLen, whole.rope.stride = 4, whole.rope.rotary_dim = 8;
  plain.source.visibility.causal = 1;
  plain.source.rope = 1;
  ASSERT_EQ(call(whole), FOVEA_OK) << fovea_layers_error_detail();
  Tokens k(FOVEA_F32, {2, kLen, 3, 8}), v(FOVEA_F32, {2, kLen, 3, 8});
  Tokens out(FOVEA_F32, {2, kLen, 1, 24});
  fovea_source cache = plain.source;
  cache.k = k.view();
  cache.v = v.view();
  for (int32_t step = 0; step < kLen; ++step) {
    const int32_t lengths[2] = {step, step};
    fovea_multihead_args args = whole;
    args.sources = &cache;
    cache.sequences.kv_lengths = lengths;
    args.x.shape[1] = args.out.shape[1] = 1;
    args.x.data = static_cast<float *>(plain.x.view().data) + step * 24;
    cache.x_k = args.x;
    args.out = out.view();
    args.out.shape[1] = 1;
    args.out.data = static_cast<float *>(out.view().data) + step * 24;
    ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  }
  ASSERT_EQ(k.wrong() + v.wrong() + out.wrong(), "");
  expect_near(out, plain.out, kOtherOrder);
}

TEST(Multihead, MayWriteOverItsTokensAndAddThem) {
  Plain plain(2, 5), in_place(2, 5);
  Tokens residual(FOVEA_F32, {2, 5, 1, 24});
  residual.fill_random(1);
  fovea_multihead_args apart = plain.args(), same = in_place.args();
  apart.residual = residual.view();
  same.out = same.residual = same.x;
  ASSERT_EQ(call(apart), FOVEA_OK) << fovea_layers_error_detail();
  ASSERT_EQ(call(same), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(in_place.x, plain.out, 0);
}

TEST(Multihead, PoolsByQueriesThatEveryBatchRowRepeats) {
  Plain plain(3, 6);
  Tokens queries(FOVEA_F32, {1, 2, 3, 8}), repeated(FOVEA_F32, {3, 2, 3, 8});
  Tokens out(FOVEA_F32, {3, 2, 1, 24}), expected(FOVEA_F32, {3, 2, 1, 24});
  queries.fill_random(20);
  repeated.fill([&](int64_t n) { return queries.of_token(n / 24 % 2, n % 24); });
  fovea_multihead_args args = plain.args();
  args.q_proj = fovea_linear();
  args.x = repeated.view();
  args.out = expected.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  args.x = queries.view();
  args.x.shape[0] = 3;
  args.x.stride[0] = 0;
  args.out = out.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(out, expected, 0);
}

TEST(Multihead, ReadsAMemoryInPagesAndReportsAPageThatIsNone) {
  Plain plain(2, 6);
  Tokens k(FOVEA_F32, {2, 6, 3, 8}), v(FOVEA_F32, {2, 6, 3, 8}), out(FOVEA_F32, {2, 6, 1, 24});
  ASSERT_EQ(call(memory_of(plain, k, v)), FOVEA_OK);
  fovea_source memory = {};
  memory.k = k.view(), memory.v = v.view();
  fovea_multihead_args args = plain.args();
  args.sources = &memory;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  // The same memory as 4 pages of 3 keys.
  int32_t ids[4] = {0, 1, 2, 3};
  const int32_t lengths[2] = {6, 6};
  uint32_t errors[2] = {0, 0};
  for (fovea_tensor *paged : {&memory.k, &memory.v}) {
    paged->shape[0] = 4, paged->shape[1] = 3;
    paged->stride[0] = 3 * 24;
  }
  memory.sequences.kv_lengths = lengths;
  memory.sequences.pages.ids = ids;
  memory.sequences.pages.row_stride = memory.sequences.pages.count = 2;
  args.out = out.view();
  args.errors = errors;
  Tokens weights(FOVEA_F32, {2, 6, 1, 6});
  args.weights = weights.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(out, plain.out, 0);
  EXPECT_EQ(weights.wrong(), "");
  EXPECT_EQ(errors[0] | errors[1], 0u);
  ids[3] = 4;
  ASSERT_EQ(call(args), FOVEA_OK);
  EXPECT_EQ(errors[0], 0u);
  EXPECT_EQ(errors[1], FOVEA_BAD_PAGE);
}

TEST(Memory, NormsItsKeysAndMayLeaveOutItsValues) {
  Plain plain(2, 5);
  std::vector<float> gain(8, 2.0f);
  Tokens k(FOVEA_BF16, {2, 5, 3, 8}, kHeadsFirst), absent;
  fovea_memory_args args = memory_of(plain, k, absent);
  args.v_proj = fovea_linear();
  args.k_norm.gain = gain.data();
  args.k_norm.eps = 1e-3f;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  ASSERT_EQ(k.wrong(), "");
  for (int64_t token = 0; token < 10; ++token) {
    Values expected = project(token_of(plain.x, token), plain.k.weight, plain.k.bias, 0);
    rms_norm(args.k_norm, 8, &expected);
    for (int64_t i = 0; i < 24; ++i) {
      ASSERT_NEAR(k.of_token(token, i), expected[static_cast<size_t>(i)].x,
                  allowed(expected[static_cast<size_t>(i)], FOVEA_BF16));
    }
  }
}

// A projection's sums must not depend on how many other rows there are.
TEST(Multihead, GivesARowTheSameBitsInEveryBatchIfAsked) {
  constexpr int64_t kWidth = 512, kLen = 4;
  Tokens x(FOVEA_F32, {8, kLen, 1, kWidth}), weight(FOVEA_F32, {1, kWidth, 1, kWidth}, kDimFirst);
  Tokens out(FOVEA_F32, {8, kLen, 1, kWidth}), alone(FOVEA_F32, {1, kLen, 1, kWidth});
  x.fill_random(1);
  weight.fill_random(2, 0.05);
  fovea_source self = {};
  self.x_k = x.view();
  self.k_proj.weight = self.v_proj.weight = weight.view();
  fovea_multihead_args args = {};
  args.struct_size = sizeof args;
  args.reproducible = FOVEA_REPRODUCIBLE_BATCH;
  args.heads_q = args.heads_kv = 8, args.dim = args.dim_v = 64;
  args.sources = &self, args.source_count = 1;
  args.x = x.view(), args.out = out.view();
  args.q_proj.weight = args.out_proj.weight = weight.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  args.x.shape[0] = self.x_k.shape[0] = 1;
  args.out = alone.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(alone, out, 0);
}

// In phase a row has the same bits alone as among others of its sequence.
TEST(Multihead, GivesARowTheSameBitsAloneIfAsked) {
  Plain plain(1, 70);
  Tokens k(FOVEA_F32, {1, 300, 3, 8}), v(FOVEA_F32, {1, 300, 3, 8}),
      alone(FOVEA_F32, {1, 1, 1, 24});
  k.fill_random(30), v.fill_random(31);
  fovea_source memory = {};
  memory.k = k.view(), memory.v = v.view();
  fovea_multihead_args args = plain.args();
  args.sources = &memory;
  args.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  args.x.shape[1] = 1;
  args.out = alone.view();
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  expect_near(alone, plain.out, 0);
}

// ---- Caches of blocks ----

// Keys and values of 2 sequences in one buffer, the values right behind the keys' last block. 3 and
// 0 tokens are in it, and 2 more come.
struct BlockCache {
  static constexpr int64_t kLen = 8, kHeads = 2, kDim = 64;
  uint32_t dtype;
  std::vector<uint8_t> bytes;
  std::vector<int32_t> lengths = {3, 0};

  explicit BlockCache(uint32_t type) : dtype(type), bytes(2 * part(), 0) {
    Tokens k(FOVEA_F32, {2, 3, kHeads, kDim}), v(FOVEA_F32, {2, 3, kHeads, kDim});
    k.fill_random(1), v.fill_random(2);
    const std::vector<int32_t> none = {0, 0};
    append(k, v, none.data());
  }
  size_t part() const {
    return static_cast<size_t>(2 * kLen * kHeads * kDim / 32 * (dtype == FOVEA_Q8_0 ? 34 : 18));
  }
  fovea_tensor keys() { return view(0); }
  fovea_tensor values() { return view(part()); }
  fovea_tensor view(size_t at) {
    return fovea_contiguous(bytes.data() + at, static_cast<fovea_dtype>(dtype), 2, kLen, kHeads,
                            kDim);
  }
  void append(const Tokens &k, const Tokens &v, const int32_t *before) {
    fovea_kv_append_args args = {};
    args.struct_size = sizeof args;
    args.k_new = k.view(), args.v_new = v.view();
    args.k_cache = keys(), args.v_cache = values();
    args.sequences.kv_lengths = before;
    ASSERT_EQ(fovea_kv_append(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  }
};

Tokens attended(const Tokens &q, BlockCache *cache, const std::vector<int32_t> &lengths) {
  Tokens out(FOVEA_F32, {2, 2, BlockCache::kHeads, BlockCache::kDim});
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = q.view(), args.k = cache->keys(), args.v = cache->values(), args.out = out.view();
  args.sequences.kv_lengths = lengths.data();
  args.visibility.causal = 1;
  EXPECT_EQ(fovea_attention_workspace_for(shared_cpu(), &args, &args.workspace_bytes), FOVEA_OK);
  Workspace workspace(args.workspace_bytes);
  args.workspace = workspace.data();
  EXPECT_EQ(fovea_attention(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  return out;
}

// A layer's cache gets the bytes of fovea_kv_append, and its heads are those of fovea_attention.
TEST(Multihead, OfACacheOfBlocksIsTheEnginesBitByBit) {
  for (const uint32_t dtype : {FOVEA_Q8_0, FOVEA_Q4_0}) {
    BlockCache layers(dtype), engines(dtype);
    Tokens x(FOVEA_F32, {2, 2, 2, 64}), values(FOVEA_F32, {2, 2, 2, 64}),
        out(FOVEA_F32, {2, 2, 2, 64});
    x.fill_random(3), values.fill_random(4);
    fovea_source cache = {};
    cache.x_k = x.view(), cache.x_v = values.view();
    cache.k = layers.keys(), cache.v = layers.values();
    cache.sequences.kv_lengths = layers.lengths.data();
    cache.visibility.causal = 1;
    fovea_multihead_args args = {};
    args.struct_size = sizeof args;
    args.heads_q = args.heads_kv = 2, args.dim = args.dim_v = 64;
    args.sources = &cache, args.source_count = 1;
    args.x = x.view(), args.out = out.view();
    ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
    engines.append(x, values, engines.lengths.data());
    EXPECT_EQ(layers.bytes, engines.bytes);
    expect_near(out, attended(x, &engines, {5, 2}), 0);
    cache.v.data = layers.bytes.data() + layers.part() - 2;
    EXPECT_EQ(call(args), FOVEA_BAD_ARGUMENT);
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr("overlaps"));
  }
}

TEST(Multihead, TakesSlopesOfEachSequence) {
  Plain both(2, 6), second(2, 6);
  const std::vector<float> slopes = {0.1f, 0.2f, 0.3f, 9, 9, 1, 2, 3};
  both.source.alibi_slopes = slopes.data();
  both.source.alibi_stride = 5;
  second.source.alibi_slopes = slopes.data() + 5;
  ASSERT_EQ(call(both.args()), FOVEA_OK) << fovea_layers_error_detail();
  ASSERT_EQ(call(second.args()), FOVEA_OK) << fovea_layers_error_detail();
  for (int64_t token = 6; token < 12; ++token) {
    for (int64_t i = 0; i < 24; ++i) {
      ASSERT_EQ(both.out.of_token(token, i), second.out.of_token(token, i));
    }
  }
  EXPECT_NE(both.out.of_token(1, 0), second.out.of_token(1, 0));
}

// Tokens that no sequence owns have keys of zeros, not of what lay in the workspace.
TEST(Multihead, OfTokensWithoutAPositionIsFinite) {
  Plain plain(1, 4);
  Tokens x(FOVEA_F32, {1, 4, 3, 8});
  x.fill_random(1);
  const std::vector<float> ones(16, 1.0f);
  const int32_t offsets[2] = {0, 2};
  fovea_source self = {};
  self.x_k = self.x_v = x.view();
  self.rope = 1;
  fovea_multihead_args args = plain.args();
  args.sources = &self;
  args.x = x.view(), args.q_proj = fovea_linear();
  args.rope.cos = args.rope.sin = ones.data();
  args.rope.rows = 4, args.rope.stride = 4, args.rope.rotary_dim = 8;
  args.q_offsets = offsets, args.sequence_count = 1;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  for (int64_t token = 0; token < 4; ++token) {
    for (int64_t i = 0; i < 24; ++i) ASSERT_TRUE(std::isfinite(plain.out.of_token(token, i)));
  }
}

TEST(Multihead, ReportsRowsForWhichRopeHasNoPosition) {
  Plain plain(2, 4);
  const std::vector<float> ones(8, 1.0f);
  uint32_t errors[2] = {0, 0};
  const int32_t positions[8] = {0, 1, 0, 1, 0, 1, 2, 1};
  fovea_multihead_args args = plain.args();
  args.rope.cos = args.rope.sin = ones.data();
  args.rope.rows = 2, args.rope.stride = 4, args.rope.rotary_dim = 8;
  args.rope.positions = positions;
  args.errors = errors;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  EXPECT_EQ(errors[0], 0u);
  EXPECT_EQ(errors[1], FOVEA_BAD_POSITION);
}

TEST(Memory, HasAWorkspaceForItsKeysAndForItsValues) {
  Plain plain(2, 200);
  const std::vector<float> gain(8, 1.0f);
  Tokens k(FOVEA_BF16, {2, 200, 3, 8}), v(FOVEA_BF16, {2, 200, 3, 1});
  fovea_memory_args args = memory_of(plain, k, v);
  args.dim_v = 1;
  args.v_proj.weight.shape[1] = args.v_proj.bias.shape[3] = 3;
  args.k_norm.gain = gain.data();
  args.k_norm.eps = 1;
  ASSERT_EQ(call(args), FOVEA_OK) << fovea_layers_error_detail();
  EXPECT_EQ(k.wrong() + v.wrong(), "");
}

// ---- Refusals ----

TEST(Multihead, IsMeasuredBeforeThereIsAnyMemory) {
  Plain plain(2, 5);
  fovea_multihead_args args = plain.args();
  size_t with = 0, without = 0;
  ASSERT_EQ(fovea_multihead_workspace(shared_cpu(), &args, &with), FOVEA_OK);
  args.x.data = args.out.data = args.q_proj.weight.data = args.out_proj.bias.data = nullptr;
  plain.source.x_k.data = plain.source.k_proj.weight.data = nullptr;
  ASSERT_EQ(fovea_multihead_workspace(shared_cpu(), &args, &without), FOVEA_OK)
      << fovea_layers_error_detail();
  EXPECT_EQ(with, without);
}

// What the engine would find only when the cache has been written.
TEST(Multihead, WritesNothingIfALaterSourceHasNoMemory) {
  Plain plain(2, 5);
  Tokens k(FOVEA_F32, {2, 9, 3, 8}), v(FOVEA_F32, {2, 9, 3, 8}), lse(FOVEA_F32, {2, 5, 3, 1});
  const int32_t lengths[2] = {1, 2};
  fovea_source sources[2] = {plain.source, fovea_source()};
  sources[0].k = k.view(), sources[0].v = v.view();
  sources[0].sequences.kv_lengths = lengths;
  sources[1].k = fovea_contiguous(nullptr, FOVEA_F32, 2, 9, 3, 8);
  sources[1].v = v.view();
  fovea_multihead_args args = plain.args();
  args.sources = sources, args.source_count = 2;
  args.q_lengths = lengths;
  args.lse = lse.view();
  EXPECT_EQ(call(args), FOVEA_BAD_ARGUMENT);
  EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr("sources[1].k.data"));
  for (const Tokens *tensor : {&k, &v, &lse, &plain.out}) {
    EXPECT_EQ(tensor->wrong(), "not written: element 0");
  }
}

struct Call {
  fovea_multihead_args args;
  fovea_source sources[2];
};

struct Refusal {
  const char *detail;
  std::function<void(Call *)> spoil;
};

TEST(Multihead, RefusesWhatBreaksARuleByNameAndWritesNothing) {
  Plain plain(2, 5);
  Tokens k(FOVEA_F32, {2, 9, 3, 8}), v(FOVEA_F32, {2, 9, 3, 8}), lse(FOVEA_F32, {2, 5, 3, 1});
  Tokens weights(FOVEA_F32, {2, 5, 3, 5}), other(FOVEA_F32, {2, 4, 1, 24});
  const int32_t lengths[2] = {1, 2};
  const float one = 1;
  const Refusal refusals[] = {
      {"struct_size", [](Call *c) { c->args.struct_size = 16; }},
      {"heads_q is 0", [](Call *c) { c->args.heads_q = 0; }},
      {"multiple of heads_kv", [](Call *c) { c->args.heads_q = 4; }},
      {"dim is 0", [](Call *c) { c->args.dim = 0; }},
      {"dim_v is -1", [](Call *c) { c->args.dim_v = -1; }},
      {"source_count is 0", [](Call *c) { c->args.source_count = 0; }},
      {"source_count is 5", [](Call *c) { c->args.source_count = 5; }},
      {"sources is NULL", [](Call *c) { c->args.sources = nullptr; }},
      {"x.dtype is 0", [](Call *c) { c->args.x = fovea_tensor(); }},
      {"q_proj.weight.shape[1] is 24, must be 27", [](Call *c) { c->args.dim = 9; }},
      {"out_proj.weight.shape[3] is 24, must be 27",
       [](Call *c) {
         c->args.dim_v = 9;
         c->sources[0].v_proj = fovea_linear();
         c->sources[0].x_v = c->args.x;
         c->sources[0].x_v.shape[3] = 27;
         c->sources[0].x_v.stride[0] = c->sources[0].x_v.stride[1] = 0;
       }},
      {"out.shape[1] is 4", [](Call *c) { c->args.out.shape[1] = 4; }},
      {"residual.shape[1] is 4", [&](Call *c) { c->args.residual = other.view(); }},
      {"lse.dtype is 2", [](Call *c) { c->args.lse.dtype = FOVEA_F16; }},
      {"lse.shape[2] is 2", [](Call *c) { c->args.lse.shape[2] = 2; }},
      {"weights.shape[0] is 1", [](Call *c) { c->args.weights.shape[0] = 1; }},
      {"weights.shape[2] is 2", [](Call *c) { c->args.weights.shape[2] = 2; }},
      {"out overlaps lse", [](Call *c) { c->args.lse.data = c->args.out.data; }},
      {"out overlaps q_proj.weight",
       [](Call *c) { c->args.out.data = c->args.q_proj.weight.data; }},
      {"lse overlaps weights", [](Call *c) { c->args.weights.data = c->args.lse.data; }},
      {"where are the keys", [](Call *c) { c->sources[0] = fovea_source(); }},
      {"sources[0].x_v must have the tokens of x_k",
       [&](Call *c) { c->sources[0].x_v = other.view(); }},
      {"sources[0].k_proj.weight.shape[3] is 24, must be 23",
       [](Call *c) { c->sources[0].x_k.shape[3] = 23; }},
      {"sources[0].v_proj.activation is 9", [](Call *c) { c->sources[0].v_proj.activation = 9; }},
      {"sources[0].rope is 1, needs rope.cos", [](Call *c) { c->sources[0].rope = 1; }},
      {"sources[0].rope is 2", [](Call *c) { c->sources[0].rope = 2; }},
      {"sources[0].reserved must be 0", [](Call *c) { c->sources[0].reserved[7] = 1; }},
      {"sources[0].reserved32 must be 0", [](Call *c) { c->sources[0].reserved32 = 1; }},
      {"are the layer's", [&](Call *c) { c->sources[0].sequences.q_lengths = lengths; }},
      {"sources[0].v must be absent without k", [&](Call *c) { c->sources[0].v = v.view(); }},
      {"sources[0].v is absent, needed with k", [&](Call *c) { c->sources[0].k = k.view(); }},
      {"sources[0].sequences.kv_lengths is absent",
       [&](Call *c) {
         c->sources[0].k = k.view();
         c->sources[0].v = v.view();
       }},
      {"sources[0].x_k.shape[1] is 4, must be x.shape[1], which is 5, with a cache",
       [&](Call *c) {
         c->sources[0].x_k = other.view();
         c->sources[0].k = k.view();
         c->sources[0].v = v.view();
         c->sources[0].sequences.kv_lengths = lengths;
       }},
      {"k_proj and v_proj must be absent without x_k",
       [&](Call *c) {
         c->sources[0].x_k = fovea_tensor();
         c->sources[0].k = k.view();
         c->sources[0].v = v.view();
       }},
      {"sources[1].v is absent",
       [&](Call *c) {
         c->args.source_count = 2;
         c->sources[1].k = k.view();
       }},
      {"sources[0], attention: ", [](Call *c) { c->sources[0].visibility.causal = 2; }},
      {"sources[0], attention: ", [&](Call *c) { c->sources[0].bias_scale = &one; }},
      {"sources[0], keys: ", [&](Call *c) { c->sources[0].k_norm.gain = &one; }},
      {"queries: q_norm", [&](Call *c) { c->args.q_norm.gain = &one; }},
      {"sources[0], values: v_norm", [&](Call *c) { c->sources[0].v_norm.gain = &one; }},
      {"all of q_norm must be 0", [](Call *c) { c->args.q_norm.eps = 1; }},
      {"sources[0].k_norm.gain is NULL", [](Call *c) { c->sources[0].k_norm.unit_offset = 1; }},
      {"all of rope must be 0", [](Call *c) { c->args.rope.rotary_dim = 2; }},
      {"sources[0].sequences.kv_offsets must be absent with a cache",
       [&](Call *c) {
         c->sources[0].k = k.view(), c->sources[0].v = v.view();
         c->sources[0].sequences.kv_lengths = c->sources[0].sequences.kv_offsets = lengths;
       }},
      {"sources[0].k overlaps residual",
       [&](Call *c) {
         c->sources[0].k = k.view(), c->sources[0].v = v.view();
         c->sources[0].sequences.kv_lengths = lengths;
         c->args.residual = c->args.out;
         c->args.residual.data = k.view().data;
       }},
      {"out overlaps sources[0].bias",
       [](Call *c) {
         c->sources[0].bias = fovea_contiguous(c->args.out.data, FOVEA_F32, 2, 5, 3, 5);
       }},
      {"workspace overlaps x",
       [](Call *c) { c->args.x.data = c->sources[0].x_k.data = c->args.workspace; }},
      {"sinks is", [](Call *c) { c->args.sinks = reinterpret_cast<const float *>(1); }},
      {"sources[0], append: ",
       [&](Call *c) {
         c->sources[0].k = k.view();
         c->sources[0].k.shape[3] = 7;
         c->sources[0].v = v.view();
         c->sources[0].sequences.kv_lengths = lengths;
       }},
      {"workspace_bytes is 0", [](Call *c) { c->args.workspace_bytes = 0; }},
      {"workspace", [](Call *c) { c->args.workspace = nullptr; }},
  };
  Call good = {plain.args(), {plain.source, fovea_source()}};
  good.args.lse = lse.view();
  good.args.weights = weights.view();
  good.args.sources = good.sources;
  ASSERT_EQ(fovea_multihead_workspace(shared_cpu(), &good.args, &good.args.workspace_bytes),
            FOVEA_OK)
      << fovea_layers_error_detail();
  good.args.workspace_bytes += 1 << 16;  // some of the calls below need more
  Workspace workspace(good.args.workspace_bytes);
  good.args.workspace = workspace.data();
  for (const Refusal &refusal : refusals) {
    Call bad = good;
    bad.args.sources = bad.sources;
    refusal.spoil(&bad);
    EXPECT_EQ(fovea_multihead(shared_cpu(), &bad.args, nullptr), FOVEA_BAD_ARGUMENT)
        << refusal.detail;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail));
    EXPECT_EQ(plain.out.wrong(), "not written: element 0") << refusal.detail;
    EXPECT_EQ(lse.wrong(), "not written: element 0") << refusal.detail;
    EXPECT_EQ(weights.wrong(), "not written: element 0") << refusal.detail;
  }
  EXPECT_EQ(k.wrong(), "not written: element 0");
  EXPECT_EQ(fovea_multihead(shared_cpu(), &good.args, nullptr), FOVEA_OK)
      << fovea_layers_error_detail();
}

TEST(Memory, RefusesWhatBreaksARuleByName) {
  Plain plain(2, 5);
  Tokens k(FOVEA_F32, {2, 5, 3, 8}), v(FOVEA_F32, {2, 5, 3, 8});
  const fovea_memory_args good = memory_of(plain, k, v);
  const float one = 1;
  const std::pair<const char *, std::function<void(fovea_memory_args *)>> refusals[] = {
      {"heads_kv is 0", [](fovea_memory_args *a) { a->heads_kv = 0; }},
      {"dim is 0", [](fovea_memory_args *a) { a->dim = 0; }},
      {"dim_v is 0", [](fovea_memory_args *a) { a->dim_v = 0; }},
      {"x_k.dtype is 0", [](fovea_memory_args *a) { a->x_k = fovea_tensor(); }},
      {"k.dtype is 0", [](fovea_memory_args *a) { a->k = fovea_tensor(); }},
      {"k.shape[1] is 4, must be 5", [](fovea_memory_args *a) { a->k.shape[1] = 4; }},
      {"v.shape[3] is 7, must be 8", [](fovea_memory_args *a) { a->v.shape[3] = 7; }},
      {"k overlaps v", [](fovea_memory_args *a) { a->v.data = a->k.data; }},
      {"k overlaps x_k", [](fovea_memory_args *a) { a->k.data = a->x_k.data; }},
      {"k_proj.weight.shape[3] is 24, must be 20",
       [](fovea_memory_args *a) { a->x_k.shape[3] = 20; }},
      {"v_proj.weight.dtype is 1, must be FOVEA_NONE",
       [](fovea_memory_args *a) { a->v = fovea_tensor(); }},
      {"keys: ", [&](fovea_memory_args *a) { a->k_norm.gain = &one; }},
  };
  for (const auto &[detail, spoil] : refusals) {
    fovea_memory_args bad = good;
    spoil(&bad);
    EXPECT_EQ(call(bad), FOVEA_BAD_ARGUMENT) << detail;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(detail));
  }
  EXPECT_EQ(k.wrong(), "not written: element 0");
  EXPECT_EQ(call(good), FOVEA_OK) << fovea_layers_error_detail();
}

}  // namespace
}  // namespace fovea_test
