// concat_test.cc - attention over parts of the keys, merged by LSE, equals attention over all keys.
//
// The keys are split at every place, empty sides included. Each part has its own error and the
// merge adds another, so the limits are twice those of one call.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

const int64_t kLen = 70;

class Concat : public testing::TestWithParam<Device> {
 protected:
  Attention base() {
    return Attention().on(GetParam()).len_q(3).len_kv(kLen).dim(16).q_position({50}).seed(8);
  }
};

// A partial as contiguous f32. Its one dimension of rows has all sequences and heads, as Truth has.
struct Part {
  std::vector<float> out, lse;
};

Part part_of(const Outcome &outcome) {
  Part part;
  for (uint32_t bits : outcome.out) part.out.push_back(static_cast<float>(decode(FOVEA_F32, bits)));
  for (uint32_t bits : outcome.lse) part.lse.push_back(static_cast<float>(decode(FOVEA_F32, bits)));
  return part;
}

Part merge(const Device &device, std::vector<Part> parts, int64_t dim_v) {
  const int64_t rows = static_cast<int64_t>(parts[0].lse.size());
  std::vector<fovea_tensor> outs, lses;
  for (Part &part : parts) {
    outs.push_back(fovea_contiguous(part.out.data(), FOVEA_F32, 1, rows, 1, dim_v));
    lses.push_back(fovea_contiguous(part.lse.data(), FOVEA_F32, 1, rows, 1, 1));
  }
  Part all = {std::vector<float>(parts[0].out.size()), std::vector<float>(parts[0].lse.size())};
  fovea_merge_args args{};
  args.struct_size = sizeof args;
  args.count = static_cast<int32_t>(parts.size());
  args.outs = outs.data();
  args.lses = lses.data();
  args.out = fovea_contiguous(all.out.data(), FOVEA_F32, 1, rows, 1, dim_v);
  args.lse = fovea_contiguous(all.lse.data(), FOVEA_F32, 1, rows, 1, 1);
  EXPECT_EQ(fovea_merge(handle_of(device), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  return all;
}

void expect_truth(const Device &device, const Attention &whole, const Part &merged,
                  const std::string &what) {
  const Truth truth = whole.truth();
  Observed observed;
  observed.work = 2.0 * 0x1p-24;
  observed.out.assign(merged.out.begin(), merged.out.end());
  observed.lse.assign(merged.lse.begin(), merged.lse.end());
  const std::vector<Finding> findings = judge(truth, observed, true);
  EXPECT_TRUE(passes(findings, truth)) << device.name << ' ' << what << '\n' << describe(findings);
}

TEST_P(Concat, TwoPartsMergeToTheWholeAtEveryCut) {
  for (const bool causal : {false, true}) {
    const auto problem = [&]() { return causal ? base().causal() : base(); };
    for (int64_t cut = 0; cut <= kLen; ++cut) {
      const Part before = part_of(problem().lengths({cut}).run());
      const Part after = part_of(problem().kv_first({cut}).run());
      expect_truth(GetParam(), problem(), merge(GetParam(), {before, after}, 16),
                   "cut at " + std::to_string(cut));
      if (HasFailure()) return;
    }
  }
}

TEST_P(Concat, ManyPartsMergeToTheWholeInAnyOrder) {
  const Ints cuts = {0, 1, 1, 16, 33, 64, kLen};
  std::vector<Part> parts;
  for (size_t n = 0; n + 1 < cuts.size(); ++n) {
    parts.push_back(part_of(base().kv_first({cuts[n]}).lengths({cuts[n + 1]}).run()));
  }
  expect_truth(GetParam(), base(), merge(GetParam(), parts, 16), "in order");
  std::swap(parts[0], parts[5]);
  std::swap(parts[2], parts[4]);
  expect_truth(GetParam(), base(), merge(GetParam(), parts, 16), "out of order");
}

TEST_P(Concat, TheSinkCountsOnce) {
  const Part before = part_of(base().sinks().lengths({40}).run());
  const Part after = part_of(base().kv_first({40}).run());
  expect_truth(GetParam(), base().sinks(), merge(GetParam(), {before, after}, 16), "sink");
}

// The keys of one sequence are dealt to three shards in turn, and keep their positions.
TEST_P(Concat, InterleavedShardsMergeToTheWhole) {
  const auto whole = [&]() { return base().causal().window(40, -1).alibi(); };
  const Case laid(whole().s);
  std::vector<Part> parts;
  for (int64_t shard = 0; shard < 3; ++shard) {
    const auto key = [&](const fovea_tensor &t) -> Fill {
      return [&t, shard](const At &at) {
        const int64_t j = at.i * 3 + shard;
        return element(t, 0, j, at.h, at.d);
      };
    };
    const int64_t count = (kLen - shard + 2) / 3;
    Attention a = whole().len_kv(count).kv_position({shard}, 3).clean();
    parts.push_back(part_of(a.fill("k", key(laid.args.k)).fill("v", key(laid.args.v)).run()));
  }
  expect_truth(GetParam(), whole(), merge(GetParam(), parts, 16), "shards");
}

// Counting every key twice does not change out, and adds ln 2 to lse.
TEST_P(Concat, APartMergedWithItselfAddsLogTwo) {
  const Part one = part_of(base().run());
  const Part two = merge(GetParam(), {one, one}, 16);
  EXPECT_EQ(one.out, two.out);
  for (size_t n = 0; n < one.lse.size(); ++n) {
    EXPECT_NEAR(two.lse[n], one.lse[n] + std::log(2.0), 0x1p-24 * (8 + 4 * std::fabs(one.lse[n])));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Concat, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
