// cache_view_test.cc - caches that are more than one key after the other: what docs/guide/caches.md
// says. A ring of pages serves a window for ever, layers share one cache, and k holds v.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/devices.h"
#include "tests/support/judge.h"
#include "tests/support/memory.h"

namespace fovea_test {
namespace {

const int64_t kSequences = 3, kHeadsQ = 4, kHeadsKv = 2, kDim = 16;
const int64_t kPageLen = 8, kWindow = 24, kNewTokens = 5;  // of a sequence in a step, at most
const int64_t kMost = 160;                                 // tokens of a sequence, in the end

// The keys that the rows of a step see lie in a row of this length, which may begin anywhere in a
// page.
const int64_t kRingPages = (kWindow - 1 + kNewTokens - 1 + kPageLen - 1) / kPageLen + 1;

using Floats = std::vector<float>;

struct Outputs {
  Floats out, lse;
};

// The step of a server: new tokens of every sequence, and all lengths before it.
struct Step {
  std::vector<int32_t> before, offsets, positions;  // positions: of the packed rows
  Floats q, k_new, v_new;
  int64_t rows() const { return offsets.back(); }
  int64_t tokens(int64_t s) const {
    return offsets[static_cast<size_t>(s) + 1] - offsets[static_cast<size_t>(s)];
  }
};

float number(uint64_t what, int64_t s, int64_t position, int64_t h, int64_t d) {
  return static_cast<float>(
      normal(mix(what, static_cast<uint64_t>(s), static_cast<uint64_t>(position),
                 static_cast<uint64_t>(h), static_cast<uint64_t>(d))));
}

Step make_step(const std::vector<int32_t> &before, Choices *choices) {
  Step step;
  step.before = before;
  step.offsets = {0};
  for (int64_t s = 0; s < kSequences; ++s) {
    const int64_t n = before[static_cast<size_t>(s)];
    const int64_t tokens = std::min(choices->below(kNewTokens + 1), kMost - n);
    for (int64_t position = n; position < n + tokens; ++position) {
      step.positions.push_back(static_cast<int32_t>(position));
      for (int64_t h = 0; h < kHeadsQ; ++h) {
        for (int64_t d = 0; d < kDim; ++d) step.q.push_back(number(1, s, position, h, d));
      }
      for (int64_t h = 0; h < kHeadsKv; ++h) {
        for (int64_t d = 0; d < kDim; ++d) {
          step.k_new.push_back(number(2, s, position, h, d));
          step.v_new.push_back(number(3, s, position, h, d));
        }
      }
    }
    step.offsets.push_back(step.offsets.back() + static_cast<int32_t>(tokens));
  }
  return step;
}

// The key/value cache of one layer, [outer][inner][heads_kv][dim], filled with NaN.
struct Cache {
  int64_t outer, inner;
  Floats k, v;
  Cache(int64_t outer_, int64_t inner_) : outer(outer_), inner(inner_) {
    const size_t count = static_cast<size_t>(outer * inner * kHeadsKv * kDim);
    k.assign(count, NAN);
    v.assign(count, NAN);
  }
  fovea_tensor view(Floats *data) const {
    return fovea_contiguous(data->data(), FOVEA_F32, outer, inner, kHeadsKv, kDim);
  }
};

// Tables of RoPE's angles, one row per position.
struct Rope {
  Floats cosines, sines;
  Rope() {
    for (int64_t n = 0; n < kMost * kDim / 2; ++n) {
      const double angle = static_cast<double>(n / (kDim / 2)) /
                           std::pow(100.0, static_cast<double>(n % (kDim / 2)) / 8);
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  fovea_rope of(const int32_t *positions) const {
    fovea_rope rope{};
    rope.cos = cosines.data();
    rope.sin = sines.data();
    rope.rows = kMost;
    rope.stride = kDim / 2;
    rope.rotary_dim = kDim;
    rope.positions = positions;
    return rope;
  }
};

class CacheView : public testing::TestWithParam<Device> {
 protected:
  fovea_handle *handle() { return handle_of(GetParam()); }

  void append(Step *step, Cache *cache, const fovea_sequences &sequences) {
    fovea_kv_append_args args{};
    args.struct_size = sizeof args;
    args.k_new = fovea_contiguous(step->k_new.data(), FOVEA_F32, 1, step->rows(), kHeadsKv, kDim);
    args.v_new = fovea_contiguous(step->v_new.data(), FOVEA_F32, 1, step->rows(), kHeadsKv, kDim);
    args.k_cache = cache->view(&cache->k);
    args.v_cache = cache->view(&cache->v);
    args.sequences = sequences;
    args.rope = rope_.of(step->positions.data());
    std::vector<uint32_t> errors(static_cast<size_t>(kSequences), 0);
    args.errors = errors.data();
    ASSERT_EQ(fovea_kv_append(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(errors, std::vector<uint32_t>(static_cast<size_t>(kSequences), 0));
  }

  fovea_attention_args call(Step *step, Cache *cache, const fovea_sequences &sequences) {
    fovea_attention_args args{};
    args.struct_size = sizeof args;
    args.q = fovea_contiguous(step->q.data(), FOVEA_F32, 1, step->rows(), kHeadsQ, kDim);
    args.k = cache->view(&cache->k);
    args.v = cache->view(&cache->v);
    args.sequences = sequences;
    args.visibility.causal = 1;
    args.visibility.window_left = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(kWindow - 1)};
    args.reproducible = FOVEA_REPRODUCIBLE_BATCH;
    return args;
  }

  Outputs attend_to(fovea_attention_args args) {
    Outputs outputs;
    const int64_t rows = args.q.shape[1];
    outputs.out.assign(static_cast<size_t>(rows * kHeadsQ * args.v.shape[3]), NAN);
    outputs.lse.assign(static_cast<size_t>(rows * kHeadsQ), NAN);
    args.out = fovea_contiguous(outputs.out.data(), FOVEA_F32, 1, rows, kHeadsQ, args.v.shape[3]);
    args.lse = fovea_contiguous(outputs.lse.data(), FOVEA_F32, 1, rows, kHeadsQ, 1);
    std::vector<uint32_t> errors(static_cast<size_t>(kSequences), 0);
    args.errors = errors.data();
    size_t bytes = 0;
    EXPECT_EQ(fovea_attention_workspace_for(handle(), &args, &bytes), FOVEA_OK)
        << fovea_error_detail();
    Block workspace(bytes, 1, 256);
    args.workspace = bytes > 0 ? workspace.data() : nullptr;
    args.workspace_bytes = bytes;
    EXPECT_EQ(fovea_attention(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(errors, std::vector<uint32_t>(static_cast<size_t>(kSequences), 0));
    return outputs;
  }

  // Judges the results by the truth about another call with the same rows: args.
  void expect_truth(fovea_attention_args args, const Outputs &got) {
    args.out = fovea_contiguous(nullptr, FOVEA_F32, 1, args.q.shape[1], kHeadsQ, args.v.shape[3]);
    const Truth truth = attend(args);
    Observed observed;
    observed.work = GetParam().work;
    for (const Row &row : truth.rows) {
      const size_t at = static_cast<size_t>(row.row * kHeadsQ + row.h);
      const size_t width = static_cast<size_t>(args.v.shape[3]);
      observed.lse.push_back(static_cast<double>(got.lse[at]));
      for (size_t d = 0; d < width; ++d) {
        observed.out.push_back(static_cast<double>(got.out[at * width + d]));
      }
    }
    const std::vector<Finding> findings = judge(truth, observed, GetParam().exact_probabilities);
    EXPECT_TRUE(passes(findings, truth)) << describe(findings);
  }

  const Rope rope_;
};

fovea_sequences sequences_of(const Step &step, const std::vector<int32_t> &lengths) {
  fovea_sequences sequences{};
  sequences.count = kSequences;
  sequences.q_offsets = step.offsets.data();
  sequences.kv_lengths = lengths.data();
  return sequences;
}

std::vector<int32_t> after(const Step &step, const std::vector<int32_t> &before) {
  std::vector<int32_t> lengths = before;
  for (int64_t s = 0; s < kSequences; ++s) {
    lengths[static_cast<size_t>(s)] += static_cast<int32_t>(step.tokens(s));
  }
  return lengths;
}

// ---- A ring of pages -------------------------------------------------------------------------

// What a server knows of its rings in a step. Sequence s owns kRingPages pages, and its page n lies
// in the n-th of them, modulo their number. The keys begin with the page of the oldest key that a
// new row sees.
struct Rings {
  std::vector<int32_t> first_positions;  // positions.kv
  std::vector<int32_t> before, after;    // keys from there on
  std::vector<int32_t> ids, offsets;

  explicit Rings(const Step &step, bool csr) {
    for (int64_t s = 0; s < kSequences; ++s) {
      const int64_t n = step.before[static_cast<size_t>(s)];
      const int64_t page = std::max<int64_t>(n - (kWindow - 1), 0) / kPageLen;
      first_positions.push_back(static_cast<int32_t>(page * kPageLen));
      before.push_back(static_cast<int32_t>(n - page * kPageLen));
      after.push_back(before.back() + static_cast<int32_t>(step.tokens(s)));
      offsets.push_back(static_cast<int32_t>(s * 2 * kRingPages + page % kRingPages));
      // Dense: the ids in use, in order. CSR: the ring twice, for ever, and offsets that move on.
      const int64_t from = csr ? 0 : page, count = csr ? 2 * kRingPages : kRingPages;
      for (int64_t p = from; p < from + count; ++p) {
        ids.push_back(static_cast<int32_t>(s * kRingPages + p % kRingPages));
      }
    }
    offsets.push_back(static_cast<int32_t>(kSequences * 2 * kRingPages));
  }

  fovea_pages pages(bool csr) const {
    fovea_pages pages{};
    pages.ids = ids.data();
    pages.row_stride = csr ? 0 : kRingPages;
    pages.count = csr ? static_cast<int64_t>(ids.size()) : kRingPages;
    if (csr) pages.offsets = offsets.data();
    return pages;
  }
};

// Copies the keys that a ring holds, in order, to a cache without pages.
Cache unrolled(const Cache &whole, const Rings &rings) {
  Cache copy(kSequences, kRingPages * kPageLen);
  const size_t key = static_cast<size_t>(kHeadsKv * kDim);
  for (int64_t s = 0; s < kSequences; ++s) {
    for (int64_t j = 0; j < rings.after[static_cast<size_t>(s)]; ++j) {
      const size_t from =
          static_cast<size_t>(s * kMost + rings.first_positions[static_cast<size_t>(s)] + j) * key;
      const size_t to = static_cast<size_t>(s * copy.inner + j) * key;
      std::copy_n(&whole.k[from], key, &copy.k[to]);
      std::copy_n(&whole.v[from], key, &copy.v[to]);
    }
  }
  return copy;
}

TEST_P(CacheView, ARingOfPagesServesAWindowForEver) {
  for (bool csr : {false, true}) {
    Choices choices(csr ? 5 : 3);
    Cache whole(kSequences, kMost), ring(kSequences * kRingPages, kPageLen);
    std::vector<int32_t> lengths(static_cast<size_t>(kSequences), 0);
    for (int steps = 0; steps < 70; ++steps) {
      Step step = make_step(lengths, &choices);
      lengths = after(step, step.before);
      append(&step, &whole, sequences_of(step, step.before));
      const fovea_attention_args of_whole = call(&step, &whole, sequences_of(step, lengths));

      const Rings rings(step, csr);
      fovea_sequences in_ring = sequences_of(step, rings.before);
      in_ring.pages = rings.pages(csr);
      append(&step, &ring, in_ring);
      in_ring.kv_lengths = rings.after.data();
      fovea_attention_args of_ring = call(&step, &ring, in_ring);
      of_ring.positions.kv = rings.first_positions.data();
      const Outputs got = attend_to(of_ring);
      expect_truth(of_whole, got);

      Cache copy = unrolled(whole, rings);
      fovea_attention_args of_copy = call(&step, &copy, sequences_of(step, rings.after));
      of_copy.positions.kv = rings.first_positions.data();
      const Outputs expected = attend_to(of_copy);
      EXPECT_EQ(got.out, expected.out) << "step " << steps;
      EXPECT_EQ(got.lse, expected.lse) << "step " << steps;
      if (HasFailure()) return;
    }
    const int64_t wraps =
        *std::min_element(lengths.begin(), lengths.end()) / (kRingPages * kPageLen);
    EXPECT_GE(wraps, 2);
  }
}

// One page less would lose the oldest keys that the rows of a full step see.
TEST(RingPages, AreAsManyAsAWindowAndAStepCanTouch) {
  int64_t most = 0;
  for (int64_t n = kWindow; n < kWindow + kPageLen; ++n) {
    for (int64_t tokens = 1; tokens <= kNewTokens; ++tokens) {
      most = std::max(most, (n + tokens - 1) / kPageLen - (n - (kWindow - 1)) / kPageLen + 1);
    }
  }
  EXPECT_EQ(most, kRingPages);
}

// ---- Shared caches ---------------------------------------------------------------------------

// The second layer appends nothing. It brings queries of its own to the first one's cache.
TEST_P(CacheView, LayersShareACache) {
  Choices choices(9);
  Cache shared(kSequences, kMost), own(kSequences, kMost);
  std::vector<int32_t> lengths(static_cast<size_t>(kSequences), 0);
  for (int steps = 0; steps < 12; ++steps) {
    Step step = make_step(lengths, &choices);
    lengths = after(step, step.before);
    for (Cache *cache : {&shared, &own}) append(&step, cache, sequences_of(step, step.before));
    attend_to(call(&step, &shared, sequences_of(step, lengths)));
    for (float &x : step.q) x = -0.5f * x;
    const fovea_attention_args second = call(&step, &shared, sequences_of(step, lengths));
    const Outputs got = attend_to(second);
    const Outputs expected = attend_to(call(&step, &own, sequences_of(step, lengths)));
    EXPECT_EQ(got.out, expected.out);
    EXPECT_EQ(got.lse, expected.lse);
    expect_truth(second, got);
  }
}

// Only k is appended, and v is a view of it: all of it, or its first elements.
TEST_P(CacheView, ValuesLieInsideKeys) {
  for (int64_t dim_v : {int64_t{8}, kDim}) {
    Choices choices(13);
    Cache latent(kSequences, kMost);
    std::vector<int32_t> lengths(static_cast<size_t>(kSequences), 0);
    for (int steps = 0; steps < 12; ++steps) {
      Step step = make_step(lengths, &choices);
      lengths = after(step, step.before);
      fovea_kv_append_args args{};
      args.struct_size = sizeof args;
      args.k_new = fovea_contiguous(step.k_new.data(), FOVEA_F32, 1, step.rows(), kHeadsKv, kDim);
      args.k_cache = latent.view(&latent.k);
      args.sequences = sequences_of(step, step.before);
      ASSERT_EQ(fovea_kv_append(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
      fovea_attention_args both = call(&step, &latent, sequences_of(step, lengths));
      both.v = both.k;
      both.v.shape[3] = dim_v;
      const Outputs got = attend_to(both);
      expect_truth(both, got);
      latent.v = latent.k;
      fovea_attention_args apart = both;
      apart.v.data = latent.v.data();
      EXPECT_EQ(got.out, attend_to(apart).out);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CacheView, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
