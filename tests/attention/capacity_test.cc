// capacity_test.cc - support, explain and workspace: what a call would do and need.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

class Capacity : public testing::TestWithParam<Device> {
 protected:
  fovea_handle *handle() { return handle_of(GetParam()); }
  size_t bytes_of(const fovea_limits &limits) {
    size_t bytes = 1;
    EXPECT_EQ(fovea_attention_workspace(handle(), &limits, &bytes), FOVEA_OK)
        << fovea_error_detail();
    return bytes;
  }
};

fovea_limits some_limits(Choices *choices) {
  const auto up_to = [&](int64_t n) { return 1 + choices->below(n); };
  fovea_limits limits{};
  limits.struct_size = sizeof limits;
  limits.dim = static_cast<int32_t>(8 * up_to(72));
  limits.dim_v = static_cast<int32_t>(8 * up_to(64));
  limits.heads_kv = static_cast<int32_t>(up_to(16));
  limits.heads_q = limits.heads_kv * static_cast<int32_t>(up_to(16));
  limits.sequences = up_to(1000);
  limits.total_q = up_to(100000);
  limits.len_kv = up_to(1 << 20);
  return limits;
}

TEST_P(Capacity, WorkspaceNeverFallsWhenALimitRises) {
  Choices choices(7);
  for (int n = 0; n < 3000; ++n) {
    const fovea_limits low = some_limits(&choices);
    const size_t bytes = bytes_of(low);
    const fovea_limits other = some_limits(&choices);
    fovea_limits high = low;
    high.dim = std::max(low.dim, other.dim);
    EXPECT_GE(bytes_of(high), bytes);
    high.dim_v = std::max(low.dim_v, other.dim_v);
    high.heads_q = std::max(low.heads_q, other.heads_q);
    EXPECT_GE(bytes_of(high), bytes);
    high.heads_kv = std::max(low.heads_kv, other.heads_kv);
    high.sequences = std::max(low.sequences, other.sequences);
    EXPECT_GE(bytes_of(high), bytes);
    high.total_q = std::max(low.total_q, other.total_q);
    high.len_kv = std::max(low.len_kv, other.len_kv);
    EXPECT_GE(bytes_of(high), bytes);
    high.dim = high.dim_v = 0;  // 0: the largest that the header allows
    EXPECT_GE(bytes_of(high), bytes);
  }
}

TEST_P(Capacity, WorkspaceOfNoDimIsThatOfTheLargest) {
  Choices choices(9);
  for (int n = 0; n < 100; ++n) {
    fovea_limits limits = some_limits(&choices);
    limits.dim = 576;
    limits.dim_v = 512;
    const size_t largest = bytes_of(limits);
    limits.dim = limits.dim_v = 0;
    EXPECT_EQ(bytes_of(limits), largest);
  }
}

TEST_P(Capacity, WorkspaceOfAnyTypeCoversEachType) {
  Choices choices(8);
  for (int n = 0; n < 100; ++n) {
    fovea_limits limits = some_limits(&choices);
    const size_t any = bytes_of(limits);
    limits.q_dtype = FOVEA_BF16;
    limits.k_dtype = limits.v_dtype = FOVEA_E4M3;
    limits.out_dtype = FOVEA_F16;
    EXPECT_LE(bytes_of(limits), any);
  }
}

TEST_P(Capacity, WorkspaceGrowsNeitherWithKeysNorOverflows) {
  fovea_limits limits{};
  limits.struct_size = sizeof limits;
  limits.heads_q = limits.heads_kv = 8;
  limits.sequences = 4;
  limits.total_q = 4;
  limits.len_kv = 1024;
  const size_t bytes = bytes_of(limits);
  limits.len_kv = int64_t{1} << 31;
  limits.total_q = int64_t{1} << 31;
  EXPECT_LT(bytes_of(limits), size_t{1} << 40);
  EXPECT_GE(bytes_of(limits), bytes);
}

TEST_P(Capacity, OneByteLessThanTheWorkspaceIsRefusedAndNothingIsWritten) {
  Case problem(Attention().contiguous().len_q(5).len_kv(70).s);
  const fovea_limits limits = problem.limits();
  const size_t bytes = bytes_of(limits);
  if (bytes == 0) GTEST_SKIP() << "this device needs no workspace";
  std::vector<float> out(5 * 2 * 16, 42.0f), lse(5 * 2, 42.0f);
  fovea_attention_args args = problem.args;
  args.out.data = out.data();
  args.lse.data = lse.data();
  Block workspace(bytes, 1, 256);
  args.workspace = workspace.data();
  args.workspace_bytes = 0;
  EXPECT_EQ(fovea_attention(handle(), &args, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_NE(std::string(fovea_error_detail()).find("workspace"), std::string::npos);
  for (float x : out) ASSERT_EQ(x, 42.0f);
  for (float x : lse) ASSERT_EQ(x, 42.0f);
  args.workspace_bytes = bytes;
  EXPECT_EQ(fovea_attention(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  EXPECT_TRUE(workspace.margins_intact());
}

// ---- The workspace of one call ---------------------------------------------------------------

TEST_P(Capacity, WorkspaceOfACallIsExactlyWhatTheCallAsksFor) {
  for (const Feature &feature : features()) {
    SCOPED_TRACE(feature.name);
    Case problem(base_of(feature, GetParam()).s);
    size_t bytes = 1;
    ASSERT_EQ(fovea_attention_workspace_for(handle(), &problem.args, &bytes), FOVEA_OK)
        << fovea_error_detail();
    EXPECT_LE(bytes, bytes_of(problem.limits()));
    fovea_attention_args args = problem.args;
    Block workspace(bytes, 1, 256);
    args.workspace = bytes > 0 ? workspace.data() : nullptr;
    args.workspace_bytes = bytes;
    EXPECT_EQ(fovea_attention(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_TRUE(workspace.margins_intact());
    if (bytes == 0) continue;
    args.workspace_bytes = bytes - 1;
    EXPECT_EQ(fovea_attention(handle(), &args, nullptr), FOVEA_BAD_ARGUMENT);
    EXPECT_EQ(std::string(fovea_error_detail()).rfind("workspace_bytes", 0), 0u)
        << fovea_error_detail();
  }
}

// The shapes may exceed all memory here, because nothing is computed.
TEST_P(Capacity, WorkspaceOfACallIsNotAboveThatOfItsLimits) {
  Choices choices(11);
  const auto up_to = [&](int64_t n) { return 1 + choices.below(n); };
  for (int n = 0; n < 3000; ++n) {
    fovea_limits limits = some_limits(&choices);
    const int64_t rows = up_to(choices.one_in(2) ? 4 : 3000);
    limits.sequences = up_to(100);
    limits.total_q = limits.sequences * rows;
    const auto lay_out = [&](int64_t seq, int64_t heads, int64_t dim, fovea_dtype dtype) {
      return fovea_contiguous(nullptr, dtype, limits.sequences, seq, heads, dim);
    };
    fovea_attention_args args{};
    args.struct_size = sizeof args;
    args.q = lay_out(rows, limits.heads_q, limits.dim, FOVEA_F16);
    args.k = lay_out(limits.len_kv, limits.heads_kv, limits.dim, FOVEA_F16);
    args.v = lay_out(limits.len_kv, limits.heads_kv, limits.dim_v, FOVEA_F16);
    args.out = lay_out(rows, limits.heads_q, limits.dim_v, FOVEA_F16);
    args.reproducible = static_cast<uint32_t>(choices.below(3));
    size_t bytes = 0;
    ASSERT_EQ(fovea_attention_workspace_for(handle(), &args, &bytes), FOVEA_OK)
        << fovea_error_detail();
    ASSERT_LE(bytes, bytes_of(limits)) << rows << " rows of " << limits.sequences << " sequences";
  }
}

TEST_P(Capacity, WorkspaceOfAnEmptyCallIsNone) {
  for (int extent = 0; extent < 3; ++extent) {
    Case problem(Attention().contiguous().len_q(5).len_kv(70).s);
    fovea_attention_args args = problem.args;
    for (fovea_tensor *t : {&args.q, &args.out, &args.lse}) t->shape[extent] = 0;
    if (extent == 0) args.k.shape[0] = args.v.shape[0] = args.sequences.count = 0;
    if (extent == 2) args.k.shape[2] = args.v.shape[2] = 0;
    size_t bytes = 1;
    EXPECT_EQ(fovea_attention_workspace_for(handle(), &args, &bytes), FOVEA_OK)
        << fovea_error_detail();
    EXPECT_EQ(bytes, 0u) << "extent " << extent << " is 0";
  }
}

TEST_P(Capacity, WorkspaceOfABrokenCallIsRefusedInWords) {
  Case problem(Attention().contiguous().s);
  fovea_attention_args args = problem.args;
  char detail[200] = "";
  args.detail = detail;
  args.detail_bytes = sizeof detail;
  size_t bytes = 77;
  args.q.shape[3] = 577;
  EXPECT_EQ(fovea_attention_workspace_for(handle(), &args, &bytes), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(std::string(detail).rfind("q.shape[3]", 0), 0u) << detail;
  EXPECT_STREQ(detail, fovea_error_detail());
  args = problem.args;
  EXPECT_EQ(fovea_attention_workspace_for(nullptr, &args, &bytes), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(std::string(fovea_error_detail()).rfind("handle is NULL", 0), 0u);
  EXPECT_EQ(fovea_attention_workspace_for(handle(), nullptr, &bytes), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(std::string(fovea_error_detail()).rfind("fovea_attention_args", 0), 0u);
  EXPECT_EQ(fovea_attention_workspace_for(handle(), &args, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(std::string(fovea_error_detail()).rfind("bytes is NULL", 0), 0u);
  EXPECT_EQ(bytes, 77u);
}

// ---- Support ---------------------------------------------------------------------------------

TEST_P(Capacity, SupportCoversEveryFeatureAndNamesAKernelOfTheList) {
  for (const Feature &feature : features()) {
    Case problem(base_of(feature, GetParam()).s);
    fovea_support support{};
    support.struct_size = sizeof support;
    ASSERT_EQ(fovea_attention_support(handle(), &problem.args, &support), FOVEA_OK)
        << feature.name << ": " << fovea_error_detail();
    EXPECT_EQ(support.supported, 1u) << feature.name << ": " << support.reason;
    EXPECT_STRNE(support.reason, "");
    bool listed = false;
    for (int32_t n = 0; fovea_kernel_name(n) != nullptr; ++n) {
      listed = listed || std::strcmp(fovea_kernel_name(n), support.kernel) == 0;
    }
    EXPECT_TRUE(listed) << support.kernel;
  }
}

// The functions read only the struct, so every pointer may lead nowhere.
TEST_P(Capacity, SupportExplainAndWorkspaceReadNoArray) {
  Case problem(base_of({"",
                        [](Attention &a) {
                          a.rows({1, 2, 3}).keys({9, 0, 70}).sinks();
                        }},
                       GetParam())
                   .s);
  fovea_attention_args args = problem.args;
  int32_t *const nowhere = reinterpret_cast<int32_t *>(64);
  for (fovea_tensor *t : {&args.q, &args.k, &args.v, &args.out, &args.lse}) t->data = nullptr;
  args.sequences.q_offsets = args.sequences.kv_offsets = args.sequences.kv_lengths =
      args.sequences.kv_first = nowhere;
  args.positions.q = args.positions.kv = args.visibility.prefix_lengths = args.visibility.spans =
      nowhere;
  args.sequences.q_lengths = nowhere;
  args.logits.sinks = args.logits.alibi_slopes = reinterpret_cast<float *>(nowhere);
  args.logits.distances = {reinterpret_cast<float *>(nowhere), 5, 0, 5, {}};
  fovea_support support{};
  support.struct_size = sizeof support;
  EXPECT_EQ(fovea_attention_support(handle(), &args, &support), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(support.supported, 1u);
  char text[2000];
  EXPECT_EQ(fovea_attention_explain(handle(), &args, text, sizeof text), FOVEA_OK);
  EXPECT_NE(std::string(text).find(support.kernel), std::string::npos) << text;
  size_t bytes = 1, expected = 0;
  EXPECT_EQ(fovea_attention_workspace_for(handle(), &args, &bytes), FOVEA_OK);
  EXPECT_EQ(fovea_attention_workspace_for(handle(), &problem.args, &expected), FOVEA_OK);
  EXPECT_EQ(bytes, expected);
}

TEST_P(Capacity, SupportRefusesWhatTheCallRefuses) {
  Case problem(Attention().contiguous().s);
  fovea_attention_args args = problem.args;
  args.q.shape[3] = 577;
  fovea_support support{};
  support.struct_size = sizeof support;
  EXPECT_EQ(fovea_attention_support(handle(), &args, &support), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_attention_support(handle(), nullptr, &support), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_attention_support(handle(), &problem.args, nullptr), FOVEA_BAD_ARGUMENT);
  support.struct_size = 0;
  EXPECT_EQ(fovea_attention_support(handle(), &problem.args, &support), FOVEA_BAD_ARGUMENT);
  char text[10];
  EXPECT_EQ(fovea_attention_explain(handle(), &args, text, sizeof text), FOVEA_BAD_ARGUMENT);
}

TEST_P(Capacity, ExplainCutsItsTextAtEveryCapacity) {
  Case problem(Attention().contiguous().s);
  char whole[4000];
  ASSERT_EQ(fovea_attention_explain(handle(), &problem.args, whole, sizeof whole), FOVEA_OK);
  const std::string text = whole;
  EXPECT_GT(text.size(), 40u);
  for (size_t capacity = 1; capacity <= text.size() + 2; ++capacity) {
    Block room(capacity, 1);
    char *cut = reinterpret_cast<char *>(room.data());
    ASSERT_EQ(fovea_attention_explain(handle(), &problem.args, cut, capacity), FOVEA_OK);
    ASSERT_EQ(std::string(cut), text.substr(0, capacity - 1));
    ASSERT_TRUE(room.margins_intact());
  }
}

TEST_P(Capacity, LimitsOutOfRangeAreRefused) {
  Choices choices(1);
  const fovea_limits good = some_limits(&choices);
  EXPECT_EQ(fovea_prepare(handle(), &good), FOVEA_OK);
  const auto refused = [&](const fovea_limits &limits) {
    size_t bytes = 0;
    return fovea_attention_workspace(handle(), &limits, &bytes) == FOVEA_BAD_ARGUMENT &&
           fovea_prepare(handle(), &limits) == FOVEA_BAD_ARGUMENT;
  };
  fovea_limits bad = good;
  bad.struct_size = 0;
  EXPECT_TRUE(refused(bad));
  for (int field = 0; field < 8; ++field) {
    bad = good;
    if (field == 0) bad.heads_q = 0;
    if (field == 1) bad.heads_kv = -1;
    if (field == 2) bad.sequences = 0;
    if (field == 3) bad.total_q = 0;
    if (field == 4) bad.len_kv = -5;
    if (field == 5) bad.reserved[1] = 1;
    if (field == 6) bad.q_dtype = 99;
    if (field == 7) bad.dim = -8;
    EXPECT_TRUE(refused(bad)) << field;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Capacity, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
