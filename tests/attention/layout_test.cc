// layout_test.cc - unusual memory: broadcast strides, shared pages, k and v in one block, offsets
// beyond 2^31 and 2^40; and very many sequences and heads.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

class Layout : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).batch(3).len_q(4).len_kv(33).seed(21); }
  void expect_oracle(Case *problem, const char *what) {
    expect_matches(*problem, GetParam(), what);
  }
};

TEST_P(Layout, StrideZeroRepeatsInEveryInput) {
  for (int dimension = 0; dimension < 3; ++dimension) {
    for (int which = 0; which < 3; ++which) {
      Case problem(base().heads(4, 2).contiguous().causal().s);
      fovea_tensor *const tensors[] = {&problem.args.q, &problem.args.k, &problem.args.v};
      tensors[which]->stride[dimension] = 0;
      expect_oracle(&problem, "stride 0");
    }
  }
}

TEST_P(Layout, StrideZeroRepeatsInMaskAndBias) {
  for (int dimension = 0; dimension < 4; ++dimension) {
    Case problem(base().contiguous().mask().bias().s);
    problem.args.visibility.mask.stride[dimension] = 0;
    problem.args.logits.bias.stride[3 - dimension] = 0;
    expect_oracle(&problem, "stride 0 in masks");
  }
}

TEST_P(Layout, ScalesMayHaveAnyStrideOfBlocks) {
  for (int64_t stride : {0, 1, 3}) {
    Attention a = base().contiguous().types(FOVEA_E4M3, FOVEA_I8, FOVEA_E5M2, FOVEA_E4M3);
    Case problem(a.scales("qkvo", "", 4).s);
    std::vector<float> values;
    for (int n = 0; n < 13; ++n) values.push_back(0.25f * static_cast<float>(n + 1));
    for (fovea_tensor *t : {&problem.args.q_scale, &problem.args.k_scale, &problem.args.v_scale,
                            &problem.args.out_scale}) {
      t->data = values.data();
      t->stride[3] = stride;
    }
    expect_oracle(&problem, "strides of scale blocks");
  }
}

TEST_P(Layout, ScalesOfZeroAndInfinityFollowArithmetic) {
  for (float value : {0.0f, HUGE_VALF, NAN, -2.0f}) {
    for (int which = 0; which < 4; ++which) {
      Case problem(base().type(FOVEA_E4M3).scales("qkvo", "").s);
      fovea_tensor *const scales[] = {&problem.args.q_scale, &problem.args.k_scale,
                                      &problem.args.v_scale, &problem.args.out_scale};
      scales[which]->data = &value;
      expect_oracle(&problem, "extreme scale");
    }
  }
}

TEST_P(Layout, SequencesMayShareAndRepeatPages) {
  Case problem(base().clean().lengths({33, 20, 32}).paged(8).contiguous().causal().s);
  const std::vector<int32_t> ids = {4, 2, 4, 4, 0, 4, 2, 7, 7, 7, 4, 2, 4, 1, 1};
  fovea_pages &pages = problem.args.sequences.pages;
  ASSERT_GE(problem.args.k.shape[0], 8);
  pages.ids = ids.data();
  pages.count = 5;
  pages.row_stride = 5;
  expect_oracle(&problem, "shared pages");
}

TEST_P(Layout, KeysAndValuesMayLieInOneBlock) {
  // Some engines store them as [page][k or v][head][slot][dim].
  Case problem(base().paged(16).lengths({33, 1, 16}).causal().s);
  const fovea_tensor k = problem.args.k;
  const fovea_tensor v = problem.args.v;
  const int64_t pages = k.shape[0], slots = 16, heads = k.shape[2], dim = 16;
  std::vector<float> block(static_cast<size_t>(pages * 2 * slots * heads * dim));
  fovea_tensor views[2] = {k, v};
  for (int n = 0; n < 2; ++n) {
    fovea_tensor &t = views[n];
    t.data = block.data() + n * heads * slots * dim;
    t.stride[0] = 2 * heads * slots * dim;
    t.stride[1] = dim;
    t.stride[2] = slots * dim;
    for (int64_t p = 0; p < pages; ++p) {
      for (int64_t j = 0; j < slots; ++j) {
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t d = 0; d < dim; ++d) {
            *static_cast<float *>(const_cast<void *>(address(t, p, j, h, d))) =
                static_cast<float>(element(n == 0 ? k : v, p, j, h, d));
          }
        }
      }
    }
  }
  const Outcome apart = problem.run(GetParam());
  problem.args.k = views[0];
  problem.args.v = views[1];
  EXPECT_EQ(difference(apart, problem.run(GetParam())), "");
  expect_oracle(&problem, "one block");
}

// Reserved address space: only the pages that are touched cost memory.
class Reservation {
 public:
  explicit Reservation(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Reservation() {
    if (ok()) munmap(data_, bytes_);
  }
  bool ok() const { return data_ != MAP_FAILED; }
  void *data() const { return data_; }

 private:
  size_t bytes_;
  void *data_;
};

void copy_elements(const fovea_tensor &from, const fovea_tensor &to, int64_t batch_from,
                   int64_t batch_to) {
  for (int64_t j = 0; j < from.shape[1]; ++j) {
    for (int64_t h = 0; h < from.shape[2]; ++h) {
      for (int64_t d = 0; d < from.shape[3]; ++d) {
        store_bits(to.dtype, const_cast<void *>(address(to, batch_to, j, h, d)),
                   load_bits(from.dtype, address(from, batch_from, j, h, d)));
      }
    }
  }
}

TEST_P(Layout, OffsetsBeyondTwoToThe32AreExact) {
  Reservation space(size_t{1} << 38);
  if (!space.ok()) GTEST_SKIP() << "cannot reserve 256 GiB of address space";
  for (int dimension = 0; dimension < 3; ++dimension) {
    Case problem(base().batch(2).type(FOVEA_F16).len_kv(9).heads(4, 2).causal().s);
    const Outcome plain = problem.run(GetParam());
    for (const bool of_v : {false, true}) {
      fovea_tensor &t = of_v ? problem.args.v : problem.args.k;
      const fovea_tensor small = t;
      int64_t strides[3] = {9 * 64, 64, 32};
      strides[dimension] = (int64_t{1} << 32) + 8;  // elements
      t.data = static_cast<char *>(space.data()) + (of_v ? size_t{1} << 37 : 0);
      std::copy(strides, strides + 3, t.stride);
      for (int64_t b = 0; b < 2; ++b) copy_elements(small, t, b, b);
    }
    EXPECT_EQ(difference(plain, problem.run(GetParam())), "") << dimension;
  }
}

TEST_P(Layout, PageIdsBeyondTwoToThe31BytesAreExact) {
  const int64_t pages = int64_t{1} << 27;  // of 16 KiB: 2 TiB of cache
  Reservation space(size_t{1} << 41);
  if (!space.ok()) GTEST_SKIP() << "cannot reserve 2 TiB of address space";
  Case problem(base().batch(1).lengths({33}).paged(16, true).contiguous().clean().s);
  const Outcome plain = problem.run(GetParam());
  const std::vector<int32_t> old(problem.args.sequences.pages.ids,
                                 problem.args.sequences.pages.ids + 3);
  const std::vector<int32_t> ids = {static_cast<int32_t>(pages - 1), 1 << 20, (1 << 18) * 3 + 1};
  for (const bool of_v : {false, true}) {
    fovea_tensor &t = of_v ? problem.args.v : problem.args.k;
    const fovea_tensor small = t;
    t.data = static_cast<char *>(space.data()) + (of_v ? 8192 : 0);
    t.shape[0] = pages;
    t.stride[0] = 4096;
    for (size_t n = 0; n < 3; ++n) copy_elements(small, t, old[n], ids[n]);
  }
  problem.args.sequences.pages.ids = ids.data();
  EXPECT_EQ(difference(plain, problem.run(GetParam())), "");
  const std::vector<int32_t> beyond = {ids[0], static_cast<int32_t>(pages), ids[2]};
  problem.args.sequences.pages.ids = beyond.data();
  EXPECT_EQ(problem.run(GetParam()).errors, (std::vector<uint32_t>{FOVEA_BAD_PAGE}));
}

TEST_P(Layout, MoreThan65535SequencesAreComputed) {
  const Fill key = [](const At &at) { return static_cast<double>((at.tag + at.d) % 7); };
  for (const bool packed : {false, true}) {
    Attention a = Attention().on(GetParam()).contiguous().heads(1, 1).dim(8);
    if (packed) {
      a.rows(Ints(65537, 1)).keys(Ints(65537, 1));
    } else {
      a.batch(65537).len_q(1).len_kv(1);
    }
    const Outcome outcome = a.fill("v", key).run();
    for (int64_t s = 0; s < 65537; ++s) {
      ASSERT_EQ(outcome.at(s, 0, 0, 3), static_cast<double>((s + 3) % 7));
    }
  }
}

TEST_P(Layout, MoreThan65535HeadsAreComputed) {
  const Fill value = [](const At &at) { return static_cast<double>(at.h % 11); };
  const Outcome own = Attention()
                          .on(GetParam())
                          .len_q(1)
                          .len_kv(1)
                          .heads(65537, 65537)
                          .dim(8)
                          .fill("v", value)
                          .run();
  const Outcome shared =
      Attention().on(GetParam()).len_q(1).len_kv(1).heads(65537, 1).dim(8).fill("v", value).run();
  for (int64_t h = 0; h < 65537; ++h) {
    ASSERT_EQ(own.at(0, 0, h, 0), static_cast<double>(h % 11));
    ASSERT_EQ(shared.at(0, 0, h, 0), 0.0);
  }
}

TEST_P(Layout, NoHeadsIsNoWork) {
  base().heads(0, 0).expect_matches_oracle();
  base().heads(0, 2).expect_matches_oracle();
}

TEST_P(Layout, DataMayBeNullWhereAnExtentIsZero) {
  Case keyless(base().len_kv(0).s);
  keyless.args.k.data = keyless.args.v.data = nullptr;
  expect_oracle(&keyless, "no keys, no data");
  Case rowless(base().len_q(0).s);
  rowless.args.q.data = rowless.args.out.data = rowless.args.lse.data = nullptr;
  EXPECT_EQ(rowless.run(GetParam()).status, FOVEA_OK) << rowless.run(GetParam()).detail;
}

TEST_P(Layout, LargestValuesOfF16DoNotOverflowInTheSums) {
  for (double value : {65504.0, -65504.0}) {
    Attention a = base().type(FOVEA_F16).len_kv(300).fill("v", [=](const At &) { return value; });
    EXPECT_EQ(a.run().at(0, 1, 1, 7), value);
  }
}

// These fields concern only GPUs.
TEST_P(Layout, HintsChangeNoBit) {
  Case problem(base().rows({4, 0, 2}).keys({33, 12, 0}).causal().s);
  const Outcome plain = problem.run(GetParam());
  problem.args.sm_count = 3;
  problem.args.flags = FOVEA_ALLOW_DEPENDENT_LAUNCH;
  EXPECT_EQ(difference(plain, problem.run(GetParam())), "");
}

INSTANTIATE_TEST_SUITE_P(Devices, Layout, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
