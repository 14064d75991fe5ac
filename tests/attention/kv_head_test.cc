// kv_head_test.cc - pages and lengths of each kv head, and selected keys.
//
// A kv head with a table or a length of its own gets the bits of a call of its own. Tables that are
// the same for all heads change no bit. What is bad in one head's table hides keys of that head.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "tests/support/attention_builder.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

// The results of one call in memory of its own, [batch][rows][heads].
struct Results {
  std::vector<float> out, lse;
  std::vector<uint32_t> errors;
};

Results call(const Device &device, fovea_attention_args args, int64_t sequences) {
  Results r;
  const int64_t *q = args.q.shape;
  r.out.assign(static_cast<size_t>(q[0] * q[1] * q[2] * args.v.shape[3]), NAN);
  r.lse.assign(static_cast<size_t>(q[0] * q[1] * q[2]), NAN);
  r.errors.assign(static_cast<size_t>(sequences), 0);
  args.out = fovea_contiguous(r.out.data(), FOVEA_F32, q[0], q[1], q[2], args.v.shape[3]);
  args.lse = fovea_contiguous(r.lse.data(), FOVEA_F32, q[0], q[1], q[2], 1);
  args.errors = r.errors.data();
  size_t bytes = 0;
  EXPECT_EQ(fovea_attention_workspace_for(handle_of(device), &args, &bytes), FOVEA_OK)
      << fovea_error_detail();
  Block workspace(bytes, 1, 256);
  args.workspace = bytes > 0 ? workspace.data() : nullptr;
  args.workspace_bytes = bytes;
  EXPECT_EQ(fovea_attention(handle_of(device), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  EXPECT_TRUE(workspace.margins_intact());
  return r;
}

// The heads [first, first + count) of a view.
void take_heads(fovea_tensor *t, int64_t first, int64_t count) {
  if (t->dtype == FOVEA_NONE || t->shape[2] == 1) return;
  t->data =
      static_cast<char *>(t->data) + first * t->stride[2] * static_cast<int64_t>(size_of(t->dtype));
  t->shape[2] = count;
}

// The call of kv head g alone. `lengths` receives the head's own.
fovea_attention_args of_head(const fovea_attention_args &all, int64_t g, int64_t sequences,
                             std::vector<int32_t> *lengths) {
  fovea_attention_args one = all;
  const int64_t heads_kv = all.k.shape[2], group = all.q.shape[2] / heads_kv;
  take_heads(&one.q, g * group, group);
  take_heads(&one.visibility.mask, g * group, group);
  take_heads(&one.logits.bias, g * group, group);
  for (fovea_tensor *t : {&one.k, &one.v, &one.k_scale, &one.v_scale}) take_heads(t, g, 1);
  if (one.logits.sinks != nullptr) one.logits.sinks += g * group;
  if (one.logits.alibi_slopes != nullptr) one.logits.alibi_slopes += g * group;
  fovea_pages *pages = &one.sequences.pages;
  pages->ids += g * pages->head_stride;
  if (pages->v_ids != nullptr) pages->v_ids += g * pages->head_stride;
  pages->head_stride = 0;
  for (int64_t s = 0; s < sequences && pages->head_lengths != nullptr; ++s) {
    lengths->push_back(pages->head_lengths[s * heads_kv + g]);
  }
  if (pages->head_lengths != nullptr) one.sequences.kv_lengths = lengths->data();
  pages->head_lengths = nullptr;
  return one;
}

// Compares the results of all heads with those of each head's own call.
void expect_calls_of_heads(const Device &device, const Attention &a) {
  Case problem(a.s);
  const int64_t sequences = problem.sequences();
  const Results all = call(device, problem.args, sequences);
  const int64_t heads_q = problem.args.q.shape[2], heads_kv = problem.args.k.shape[2];
  const int64_t group = heads_q / heads_kv, width = problem.args.v.shape[3];
  std::vector<uint32_t> errors(static_cast<size_t>(sequences), 0);
  const Geometry geometry(problem.args);
  for (int64_t g = 0; g < heads_kv; ++g) {
    std::vector<int32_t> lengths;
    const Results one = call(device, of_head(problem.args, g, sequences, &lengths), sequences);
    for (size_t s = 0; s < errors.size(); ++s) errors[s] |= one.errors[s];
    for (const Sequence &s : geometry.sequences()) {
      for (int64_t i = 0; i < s.len_q; ++i) {
        const int64_t row = s.q_batch * problem.args.q.shape[1] + s.q_begin + i;
        for (int64_t h = 0; h < group; ++h) {
          const size_t whole = static_cast<size_t>(row * heads_q + g * group + h);
          const size_t own = static_cast<size_t>(row * group + h);
          ASSERT_EQ(encode(FOVEA_F32, static_cast<double>(all.lse[whole])),
                    encode(FOVEA_F32, static_cast<double>(one.lse[own])))
              << "sequence " << s.index << ", row " << i << ", kv head " << g << "\n"
              << a.text();
          for (size_t d = 0; d < static_cast<size_t>(width); ++d) {
            const size_t w = static_cast<size_t>(width);
            ASSERT_EQ(encode(FOVEA_F32, static_cast<double>(all.out[whole * w + d])),
                      encode(FOVEA_F32, static_cast<double>(one.out[own * w + d])))
                << "sequence " << s.index << ", row " << i << ", kv head " << g << "\n"
                << a.text();
          }
        }
      }
    }
  }
  EXPECT_EQ(all.errors, errors) << a.text();
}

class KvHead : public testing::TestWithParam<Device> {
 protected:
  Attention base() {
    return Attention().on(GetParam()).seed(11).batch(2).len_q(3).len_kv(150).heads(6, 3).dim(16);
  }
  Device with_threads(int32_t threads) {
    Device device = GetParam();
    device.threads = threads;
    return device;
  }
};

// Few rows are streams of keys, many are tiles.
TEST_P(KvHead, GetsTheBitsOfItsOwnCall) {
  for (char outer : {'s', 'h'}) {
    for (int64_t len_q : {1, 3, 9, 100}) {
      const auto with = [&]() {
        return base().len_q(len_q).paged(16).head_pages(outer).head_lengths(
            {150, 1, 64, 0, 70, 33});
      };
      expect_calls_of_heads(GetParam(), with());
      expect_calls_of_heads(GetParam(), with().causal());
      expect_calls_of_heads(GetParam(), with().causal().window(20, -1).prefix({9, 0}).alibi());
      expect_calls_of_heads(GetParam(), with().causal().spans().sinks().tree());
      expect_calls_of_heads(GetParam(), with().mask().bias().kv_first({3, 70}));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(KvHead, GetsTheBitsOfItsOwnCallInEveryFormOfTheCache) {
  const Ints lengths = {150, 1, 64, 0, 70, 33};
  for (int64_t page_len : {1, 7, 64}) {
    expect_calls_of_heads(GetParam(), base().paged(page_len).head_lengths(lengths).causal());
    expect_calls_of_heads(GetParam(), base().paged(page_len, true).head_lengths(lengths).causal());
    expect_calls_of_heads(GetParam(), base().paged(page_len).head_pages().lengths({149, 20}));
    Attention packed = base().rows({2, 5}).paged(page_len, false, true).head_pages('h');
    expect_calls_of_heads(GetParam(), packed.head_lengths(lengths).causal());
    Attention narrow = base().paged(page_len).head_pages().head_lengths(lengths);
    narrow.types(FOVEA_F16, FOVEA_E4M3, FOVEA_I8, FOVEA_F32).scales("kv", "bsh", 1, 0.1);
    expect_calls_of_heads(GetParam(), narrow);
  }
}

// With these lengths a head has 1 to 16 chunks. On more than one thread each is a work tile.
TEST_P(KvHead, OfManyKeysIsCutIntoItsOwnChunks) {
  const auto with = [&](int32_t threads) {
    Attention a = base().on(with_threads(threads)).batch(1).len_q(2).len_kv(9000).paged(100);
    return a.head_pages().head_lengths({9000, 600, 0}).causal();
  };
  expect_calls_of_heads(GetParam(), with(3));
  const Outcome alone = with(1).run();
  for (int32_t threads : {2, 3, 7}) EXPECT_EQ(difference(alone, with(threads).run()), "");
  Attention several = base().on(with_threads(4)).len_kv(2000).paged(64);
  several.head_lengths({2000, 513, 1, 1024, 0, 1999});
  expect_calls_of_heads(GetParam(), several);
  several.expect_matches_oracle();
}

TEST_P(KvHead, SharesATableThatIsWrittenOutForEachHead) {
  for (bool heads_first : {false, true}) {
    Case problem(base().paged(16, false, true).lengths({150, 70}).causal().s);
    const Results shared = call(GetParam(), problem.args, 2);
    fovea_pages *pages = &problem.args.sequences.pages;
    const int64_t width = pages->count, heads = 3, sequences = 2;
    const int64_t row = heads_first ? width : heads * width;
    const int64_t head = heads_first ? sequences * width : width;
    std::vector<int32_t> ids(static_cast<size_t>(heads * sequences * width)), v_ids = ids;
    std::vector<int32_t> lengths;
    for (int64_t s = 0; s < sequences; ++s) {
      for (int64_t g = 0; g < heads; ++g) {
        lengths.push_back(problem.args.sequences.kv_lengths[s]);
        for (int64_t p = 0; p < width; ++p) {
          const size_t to = static_cast<size_t>(s * row + g * head + p);
          ids[to] = pages->ids[s * pages->row_stride + p];
          v_ids[to] = pages->v_ids[s * pages->row_stride + p];
        }
      }
    }
    pages->ids = ids.data();
    pages->v_ids = v_ids.data();
    pages->row_stride = row;
    pages->head_stride = head;
    const Results tables = call(GetParam(), problem.args, 2);
    EXPECT_EQ(tables.out, shared.out);
    EXPECT_EQ(tables.lse, shared.lse);
    problem.args.sequences.kv_lengths = nullptr;
    pages->head_lengths = lengths.data();
    const Results both = call(GetParam(), problem.args, 2);
    EXPECT_EQ(both.out, shared.out);
    EXPECT_EQ(both.lse, shared.lse);
  }
}

// ---- Bad tables and lengths ------------------------------------------------------------------

TEST_P(KvHead, HidesTheKeysOfABadPageInThatHeadAlone) {
  for (bool of_v : {false, true}) {
    for (int64_t bad_head : {0, 2}) {
      Case problem(base().paged(16, false, true).head_pages().lengths({150, 40}).s);
      const Results healthy = call(GetParam(), problem.args, 2);
      fovea_pages *pages = &problem.args.sequences.pages;
      const int32_t *&table = of_v ? pages->v_ids : pages->ids;
      std::vector<int32_t> ids(table,
                               table + pages->row_stride + 2 * pages->head_stride + pages->count);
      ids[static_cast<size_t>(bad_head * pages->head_stride + 2)] =
          static_cast<int32_t>(problem.args.k.shape[0]);
      table = ids.data();
      const Results spoiled = call(GetParam(), problem.args, 2);
      EXPECT_EQ(spoiled.errors, (std::vector<uint32_t>{FOVEA_BAD_PAGE, 0}));
      for (size_t n = 0; n < spoiled.lse.size(); ++n) {
        const bool hit = n < 3 * 6 && static_cast<int64_t>(n % 6 / 2) == bad_head;
        EXPECT_EQ(spoiled.lse[n] == healthy.lse[n], !hit) << n;
      }
      expect_matches(problem, GetParam(), "a bad page id of one kv head");
    }
  }
}

TEST_P(KvHead, ClampsAndReportsEachLength) {
  const int64_t least = std::numeric_limits<int32_t>::min(),
                most = std::numeric_limits<int32_t>::max();
  for (int64_t bad : {least, int64_t{-1}, int64_t{1000}, most}) {
    for (size_t which = 0; which < 6; ++which) {
      Ints lengths = {150, 1, 64, 0, 70, 33};
      lengths[which] = bad;
      const auto with = [&]() { return base().clean().paged(16).head_pages(); };
      with().head_lengths(lengths).causal().expect_matches_oracle();
      Attention empty = with().rows({4, 0}).head_lengths(lengths);
      empty.expect_matches_oracle();
      std::vector<uint32_t> expected(2, 0);
      expected[which / 3] = FOVEA_BAD_LENGTH;
      EXPECT_EQ(empty.run().errors, expected) << which;
    }
  }
  EXPECT_EQ(base().paged(16).head_lengths({150, 1, 64, 0, 70, 33}).run().errors,
            (std::vector<uint32_t>{0, 0}));
}

// The weights of a head report that head's length.
TEST_P(KvHead, ReportsItsLengthToWhoeverAsksForWeights) {
  Case problem(base().clean().paged(16).head_pages().head_lengths({150, 1000, 64, -1, 70, 33}).s);
  std::vector<uint32_t> errors(2, 0);
  std::vector<float> weights(150);
  problem.args.errors = errors.data();
  fovea_weights_args args{};
  args.struct_size = sizeof args;
  args.attention = &problem.args;
  args.weights = fovea_contiguous(weights.data(), FOVEA_F32, 1, 1, 1, 150);
  for (int32_t head = 0; head < 6; ++head) {
    for (int32_t sequence = 0; sequence < 2; ++sequence) {
      args.heads = &head;
      args.sequences = &sequence;
      errors.assign(2, 0);
      ASSERT_EQ(fovea_attention_weights(handle_of(GetParam()), &args, nullptr), FOVEA_OK)
          << fovea_error_detail();
      std::vector<uint32_t> expected(2, 0);
      const bool bad = sequence == 0 ? head / 2 == 1 : head / 2 == 0;
      if (bad) expected[static_cast<size_t>(sequence)] = FOVEA_BAD_LENGTH;
      EXPECT_EQ(errors, expected) << head;
    }
  }
}

TEST_P(KvHead, HoldsFirstKeysAgainstItsOwnLength) {
  for (int64_t first : {0, 1, 33, 34, 64, 65, 150}) {
    base()
        .paged(16)
        .head_lengths({150, 1, 64, 0, 70, 33})
        .kv_first({first, 0})
        .expect_matches_oracle();
  }
}

// ---- Selected keys ---------------------------------------------------------------------------

TEST_P(KvHead, SelectedKeysAreWhatKeysWithoutMasksAre) {
  const auto with = [&]() {
    return base().paged(1).head_pages().head_lengths({9, 40, 1, 150, 0, 64});
  };
  const Outcome plain = with().run();
  EXPECT_EQ(difference(plain, with().selected().run()), "");
  const Outcome one_row = with().len_q(1).run();
  EXPECT_EQ(difference(one_row, with().len_q(1).selected().causal().run()), "");
  const Outcome packed = with().contiguous().rows({1, 1}).run();
  EXPECT_EQ(difference(packed, with().contiguous().rows({1, 1}).selected().causal().run()), "");
}

// Rows that follow no sequence's order: the second sequence has both rows. Causal hides nothing.
TEST_P(KvHead, SelectedKeysHaveNoOrderForCausalRows) {
  Case problem(base().contiguous().clean().rows({1, 1}).paged(1).selected().causal().s);
  const int32_t offsets[3] = {0, 0, 2};
  problem.args.sequences.q_offsets = offsets;
  const Results causal = call(GetParam(), problem.args, 2);
  problem.args.visibility.causal = 0;
  const Results all = call(GetParam(), problem.args, 2);
  EXPECT_EQ(causal.out, all.out);
  EXPECT_EQ(causal.lse, all.lse);
}

TEST_P(KvHead, TheOrderOfASelectionMattersOnlyToRounding) {
  Case problem(base().clean().paged(1).head_pages().lengths({150, 150}).selected().s);
  fovea_pages *pages = &problem.args.sequences.pages;
  const Truth ordered = attend(problem.args);
  const size_t slots =
      static_cast<size_t>(pages->row_stride + 2 * pages->head_stride + pages->count);
  std::vector<int32_t> ids(pages->ids, pages->ids + slots);
  for (int64_t table = 0; table < 6; ++table) {
    int32_t *own = ids.data() + table / 3 * pages->row_stride + table % 3 * pages->head_stride;
    for (int64_t n = 0; n < 75; ++n) std::swap(own[n], own[149 - (n * 7 + table) % 75]);
  }
  pages->ids = ids.data();
  const Truth permuted = attend(problem.args);
  for (size_t n = 0; n < ordered.out.size(); ++n) {
    ASSERT_NEAR(ordered.out[n], permuted.out[n], 1e-12);
  }
  expect_matches(problem, GetParam(), "a permuted selection");
}

// Queries of zeros weigh all keys alike, so out is the mean over the list, and lse the logarithm of
// its length.
TEST_P(KvHead, AKeyThatIsListedTwiceCountsTwice) {
  Attention a = base().clean().heads(3, 3).batch(1).len_q(1).len_kv(8).paged(1).head_pages();
  a.lengths({4}).selected().fill("q", [](const At &) { return 0.0; });
  a.fill("v", [](const At &at) {
    return std::ldexp(1.0, static_cast<int>(at.i)) + 64.0 * static_cast<double>(at.h);
  });
  Case problem(a.s);
  fovea_pages *pages = &problem.args.sequences.pages;
  std::vector<int32_t> ids(pages->ids, pages->ids + 2 * pages->head_stride + pages->count);
  const int lists[3][4] = {{0, 1, 1, 1}, {2, 2, 2, 2}, {3, 0, 3, 0}};
  for (int64_t g = 0; g < 3; ++g) {
    for (int64_t j = 0; j < 4; ++j) {
      ids[static_cast<size_t>(g * pages->head_stride + j)] =
          pages->ids[g * pages->head_stride + lists[g][j]];
    }
  }
  pages->ids = ids.data();
  const Results r = call(GetParam(), problem.args, 1);
  const float expected[3] = {7.0f / 4, 64 + 4, 128 + 4.5f};
  for (size_t g = 0; g < 3; ++g) {
    EXPECT_EQ(r.out[g * 16 + 5], expected[g]) << g;
    EXPECT_FLOAT_EQ(r.lse[g], std::log(4.0f));
  }
}

// Each row of a sequence selects for itself, as a sequence of its own.
TEST_P(KvHead, RowsSelectForThemselvesAsSequences) {
  Attention a = base().clean().rows({1, 1, 1}).len_kv(90).paged(1).head_pages('h').selected();
  a.head_lengths({5, 90, 20, 64, 65, 1, 0, 33, 90}).causal().expect_matches_oracle();
}

TEST_P(KvHead, SupportAndPlanReadNoTableAndNameWhatIsThere) {
  Case problem(base().paged(4).head_pages().head_lengths({9, 9, 9, 9, 9, 9}).selected().s);
  fovea_attention_args args = problem.args;
  int32_t *const nowhere = reinterpret_cast<int32_t *>(64);
  args.sequences.pages.ids = args.sequences.pages.head_lengths = nowhere;
  char text[2000];
  ASSERT_EQ(fovea_attention_explain(handle_of(GetParam()), &args, text, sizeof text), FOVEA_OK)
      << fovea_error_detail();
  for (const char *word : {" paged", " head-pages", " head-lengths", " selected"}) {
    EXPECT_NE(std::string(text).find(word), std::string::npos) << word << " of\n" << text;
  }
  size_t bytes = 0, needed = 1;
  EXPECT_EQ(fovea_attention_workspace_for(handle_of(GetParam()), &args, &bytes), FOVEA_OK);
  EXPECT_EQ(fovea_attention_workspace_for(handle_of(GetParam()), &problem.args, &needed), FOVEA_OK);
  EXPECT_EQ(bytes, needed);
}

INSTANTIATE_TEST_SUITE_P(Devices, KvHead, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
