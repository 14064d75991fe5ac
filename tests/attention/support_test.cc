// support_test.cc - the answers of fovea_attention_weights_support, fovea_merge_support and
// fovea_kv_append_support on every device of the host.
#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

using testing::StartsWith;

// A pointer that leads nowhere and satisfies every alignment.
template <class T = void>
T *nowhere() {
  return reinterpret_cast<T *>(uintptr_t{4096} * 16);
}

fovea_tensor view(uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  return fovea_contiguous(nowhere(), static_cast<fovea_dtype>(dtype), a, b, c, d);
}

bool is_listed(const std::string &kernel) {
  for (int32_t n = 0; fovea_kernel_name(n) != nullptr; ++n) {
    if (kernel == fovea_kernel_name(n)) return true;
  }
  return false;
}

// Filled with rubbish, so that a field that is not written shows.
fovea_support unfilled() {
  fovea_support support;
  std::memset(&support, 0x5a, sizeof support);
  support.struct_size = sizeof support;
  return support;
}

class Support : public testing::TestWithParam<Device> {
 protected:
  using Ask = std::function<fovea_status(fovea_handle *, fovea_support *)>;

  fovea_handle *handle() { return handle_of(GetParam()); }

  void expect_yes(const Ask &ask) {
    fovea_support support = unfilled();
    ASSERT_EQ(ask(handle(), &support), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(support.struct_size, sizeof support);
    EXPECT_EQ(support.supported, 1u) << support.reason;
    EXPECT_EQ(support.reserved, 0u);
    EXPECT_TRUE(is_listed(support.kernel)) << support.kernel;
    EXPECT_STRNE(support.reason, "");
  }

  // The detail names the field, and nothing is filled in.
  void expect_refusal(const Ask &ask, const char *field) {
    fovea_support support = unfilled();
    const fovea_support before = support;
    EXPECT_EQ(ask(handle(), &support), FOVEA_BAD_ARGUMENT) << field;
    EXPECT_THAT(fovea_error_detail(), StartsWith(field));
    EXPECT_EQ(std::memcmp(&support, &before, sizeof support), 0) << field;
  }

  // What every function refuses before it looks at its arguments.
  void expect_refusal_of_none(const Ask &ask, const Ask &ask_of_nothing, const char *type) {
    fovea_support support = unfilled();
    EXPECT_EQ(ask(nullptr, &support), FOVEA_BAD_ARGUMENT);
    EXPECT_THAT(fovea_error_detail(), StartsWith("handle is NULL"));
    EXPECT_EQ(ask(handle(), nullptr), FOVEA_BAD_ARGUMENT);
    EXPECT_THAT(fovea_error_detail(), StartsWith("fovea_support: the pointer is NULL"));
    expect_refusal(ask_of_nothing, type);
    for (size_t size : {size_t{0}, sizeof support - 1, size_t{4097}}) {
      support.struct_size = size;
      EXPECT_EQ(ask(handle(), &support), FOVEA_BAD_ARGUMENT);
      EXPECT_THAT(fovea_error_detail(), StartsWith("fovea_support.struct_size is "));
    }
  }
};

// ---- Weights ---------------------------------------------------------------------------------

fovea_attention_args far_attention() {
  fovea_attention_args args{};
  args.struct_size = sizeof args;
  args.q = view(FOVEA_BF16, 2, 5, 4, 16);
  args.k = view(FOVEA_E4M3, 2, 7, 2, 16);
  args.k_scale = view(FOVEA_F32, 2, 7, 2, 2);
  args.visibility.mask = view(FOVEA_U8, 2, 1, 1, 7);
  args.visibility.tree.bits = nowhere<uint32_t>();
  args.visibility.tree.words = 10;
  args.visibility.tree.lengths = args.visibility.tree.starts = nowhere<int32_t>();
  args.visibility.prefix_lengths = args.visibility.spans = nowhere<int32_t>();
  args.sequences.q_lengths = nowhere<int32_t>();
  args.logits.bias_scale = nowhere<float>();
  args.logits.additive.vector = nowhere<float>();
  args.logits.distances = {nowhere<float>(), 100, -50, 100, {}};
  args.sequences.kv_lengths = args.sequences.kv_first = nowhere<int32_t>();
  args.positions.q = args.positions.kv = nowhere<int32_t>();
  args.logits.bias = view(FOVEA_F16, 2, 5, 4, 7);
  args.logits.alibi_slopes = args.logits.sinks = nowhere<float>();
  args.errors = nowhere<uint32_t>();
  return args;
}

struct FarWeights {
  fovea_attention_args attention = far_attention();
  fovea_weights_args args{};

  FarWeights() {
    args.struct_size = sizeof args;
    args.attention = &attention;
    args.weights = view(FOVEA_F32, 1, 2, 3, 7);
    args.sequences = args.rows = args.heads = nowhere<int32_t>();
  }
  FarWeights(const FarWeights &) = delete;
  fovea_status ask(fovea_handle *handle, fovea_support *support) const {
    return fovea_attention_weights_support(handle, &args, support);
  }
};

TEST_P(Support, OfWeightsCoversEveryFeature) {
  for (const Feature &feature : features()) {
    SCOPED_TRACE(feature.name);
    Case problem(base_of(feature, GetParam()).s);
    std::vector<float> room(3 * 6 * 4 * 75);
    fovea_weights_args args{};
    args.struct_size = sizeof args;
    args.attention = &problem.args;
    args.weights = fovea_contiguous(room.data(), FOVEA_F32, 3, 6, 4, 75);
    std::vector<float> mass(3 * 4 * 75), statistics(3 * 6 * 4 * 4);
    args.mass = fovea_contiguous(mass.data(), FOVEA_F32, 3, 1, 4, 75);
    args.statistics = fovea_contiguous(statistics.data(), FOVEA_F32, 3, 6, 4, 4);
    expect_yes([&](fovea_handle *on, fovea_support *support) {
      return fovea_attention_weights_support(on, &args, support);
    });
    EXPECT_EQ(fovea_attention_weights(handle(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  }
}

TEST_P(Support, OfWeightsReadsNoArray) {
  FarWeights far;
  far.args.mass = view(FOVEA_F32, 1, 1, 3, 7);
  far.args.statistics = view(FOVEA_F32, 1, 2, 3, 4);
  far.args.largest_keys = const_cast<int32_t *>(nowhere<int32_t>());
  expect_yes([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); });
}

TEST_P(Support, OfWeightsRefusesBadArgumentsInWords) {
  const struct {
    const char *field;
    void (*change)(FarWeights &);
  } changes[] = {
      {"q.shape[3]", [](FarWeights &far) { far.attention.q.shape[3] = 577; }},
      {"fovea_attention_args.struct_size", [](FarWeights &far) { far.attention.struct_size = 9; }},
      {"attention", [](FarWeights &far) { far.args.attention = nullptr; }},
      {"fovea_weights_args.struct_size", [](FarWeights &far) { far.args.struct_size = 0; }},
      {"weights.dtype", [](FarWeights &far) { far.args.weights.dtype = FOVEA_I8; }},
      {"weights.shape[3]", [](FarWeights &far) { far.args.weights.shape[3] = -1; }},
      {"weights.stride[3]", [](FarWeights &far) { far.args.weights.stride[3] = 2; }},
      {"kind", [](FarWeights &far) { far.args.kind = 4; }},
      {"mass.dtype", [](FarWeights &far) { far.args.mass = view(FOVEA_F16, 1, 1, 3, 7); }},
      {"statistics.shape[3]",
       [](FarWeights &far) { far.args.statistics = view(FOVEA_F32, 1, 2, 3, 3); }},
  };
  for (const auto &one : changes) {
    FarWeights far;
    one.change(far);
    expect_refusal([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); }, one.field);
  }
  // The detail also goes to the buffer that the attention's arguments name.
  FarWeights far;
  char detail[100] = "";
  far.attention.detail = detail;
  far.attention.detail_bytes = sizeof detail;
  far.args.weights.dtype = FOVEA_I8;
  expect_refusal([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); },
                 "weights.dtype");
  EXPECT_THAT(detail, StartsWith("weights.dtype"));
}

TEST_P(Support, OfWeightsRefusesNothing) {
  const FarWeights far;
  expect_refusal_of_none([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); },
                         [](fovea_handle *on, fovea_support *s) {
                           return fovea_attention_weights_support(on, nullptr, s);
                         },
                         "fovea_weights_args");
}

// ---- Merge -----------------------------------------------------------------------------------

struct FarMerge {
  std::vector<fovea_tensor> outs, lses;
  fovea_merge_args args{};

  explicit FarMerge(int32_t count = 3, uint32_t dtype = FOVEA_F16) {
    for (int32_t n = 0; n < count; ++n) {
      outs.push_back(view(dtype, 2, 5, 3, 40));
      lses.push_back(view(FOVEA_F32, 2, 5, 3, 1));
    }
    args.struct_size = sizeof args;
    args.count = count;
    args.outs = outs.data();
    args.lses = lses.data();
    args.out = view(dtype, 2, 5, 3, 40);
    args.lse = view(FOVEA_F32, 2, 5, 3, 1);
  }
  FarMerge(const FarMerge &) = delete;
  fovea_status ask(fovea_handle *handle, fovea_support *support) const {
    return fovea_merge_support(handle, &args, support);
  }
};

TEST_P(Support, OfMergeCoversAnyNumberOfPartsAndReadsNone) {
  for (int32_t count : {2, 3, 448, 449, 1000}) {
    for (uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
      const FarMerge far(count, dtype);
      expect_yes([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); });
    }
  }
}

TEST_P(Support, OfMergeRefusesBadArgumentsInWords) {
  const struct {
    const char *field;
    void (*change)(FarMerge &);
  } changes[] = {
      {"count", [](FarMerge &far) { far.args.count = 1; }},
      {"reserved", [](FarMerge &far) { far.args.reserved = 1; }},
      {"outs is NULL", [](FarMerge &far) { far.args.outs = nullptr; }},
      {"lses is NULL", [](FarMerge &far) { far.args.lses = nullptr; }},
      {"outs[1].dtype", [](FarMerge &far) { far.outs[1].dtype = FOVEA_E4M3; }},
      {"outs[2].shape[1]", [](FarMerge &far) { far.outs[2].shape[1] = 4; }},
      {"lses[0].shape[3]", [](FarMerge &far) { far.lses[0].shape[3] = 2; }},
      {"out.dtype", [](FarMerge &far) { far.args.out.dtype = FOVEA_I8; }},
      {"lse.shape[0]", [](FarMerge &far) { far.args.lse.shape[0] = 3; }},
      {"fovea_merge_args.struct_size", [](FarMerge &far) { far.args.struct_size = 8; }},
  };
  for (const auto &one : changes) {
    FarMerge far;
    char detail[100] = "";
    far.args.detail = detail;
    far.args.detail_bytes = sizeof detail;
    one.change(far);
    expect_refusal([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); }, one.field);
    if (far.args.struct_size == sizeof far.args) {
      EXPECT_THAT(detail, StartsWith(one.field));
    }
  }
}

TEST_P(Support, OfMergeRefusesNothing) {
  const FarMerge far;
  expect_refusal_of_none(
      [&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); },
      [](fovea_handle *on, fovea_support *s) { return fovea_merge_support(on, nullptr, s); },
      "fovea_merge_args");
}

// ---- Append ----------------------------------------------------------------------------------

struct FarAppend {
  fovea_kv_append_args args{};

  explicit FarAppend(uint32_t cache = FOVEA_E4M3) {
    args.struct_size = sizeof args;
    args.k_new = view(FOVEA_F32, 2, 3, 4, 16);
    args.v_new = view(FOVEA_BF16, 2, 3, 4, 8);
    args.k_cache = view(cache, 2, 7, 4, 16);
    args.v_cache = view(cache, 2, 7, 4, 8);
    args.sequences.kv_lengths = nowhere<int32_t>();
    args.rope.cos = args.rope.sin = nowhere<float>();
    args.rope.rows = 100;
    args.rope.stride = 4;
    args.rope.positions = nowhere<int32_t>();
    args.rope.rotary_dim = 8;
    args.errors = nowhere<uint32_t>();
  }
  FarAppend &paged() {
    args.sequences.pages.ids = args.sequences.pages.v_ids = nowhere<int32_t>();
    args.sequences.pages.offsets = nowhere<int32_t>();
    args.sequences.pages.count = 2;
    return *this;
  }
  FarAppend &to_slots() {
    args.sequences.kv_lengths = nullptr;
    args.slots = nowhere<int64_t>();
    return *this;
  }
  fovea_status ask(fovea_handle *handle, fovea_support *support) const {
    return fovea_kv_append_support(handle, &args, support);
  }
};

TEST_P(Support, OfAppendCoversEveryCacheAndReadsNoArray) {
  for (uint32_t cache : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    for (const FarAppend &far :
         {FarAppend(cache), FarAppend(cache).paged(), FarAppend(cache).to_slots()}) {
      expect_yes([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); });
    }
  }
}

TEST_P(Support, OfAppendRefusesBadArgumentsInWords) {
  const struct {
    const char *field;
    void (*change)(fovea_kv_append_args &);
  } changes[] = {
      {"flags", [](fovea_kv_append_args &a) { a.flags = 2; }},
      {"reserved", [](fovea_kv_append_args &a) { a.reserved = 1; }},
      {"k_new.dtype", [](fovea_kv_append_args &a) { a.k_new.dtype = FOVEA_I8; }},
      {"v_cache.shape[1]", [](fovea_kv_append_args &a) { a.v_cache.shape[1] = 6; }},
      {"sequences.kv_first",
       [](fovea_kv_append_args &a) { a.sequences.kv_first = nowhere<int32_t>(); }},
      {"rope.rotary_dim", [](fovea_kv_append_args &a) { a.rope.rotary_dim = 5; }},
      {"rope.style", [](fovea_kv_append_args &a) { a.rope.style = 2; }},
      {"fovea_kv_append_args.struct_size", [](fovea_kv_append_args &a) { a.struct_size = 8; }},
  };
  for (const auto &one : changes) {
    FarAppend far;
    char detail[100] = "";
    far.args.detail = detail;
    far.args.detail_bytes = sizeof detail;
    one.change(far.args);
    expect_refusal([&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); }, one.field);
    if (far.args.struct_size == sizeof far.args) {
      EXPECT_THAT(detail, StartsWith(one.field));
    }
  }
}

TEST_P(Support, OfAppendRefusesNothing) {
  const FarAppend far;
  expect_refusal_of_none(
      [&](fovea_handle *on, fovea_support *s) { return far.ask(on, s); },
      [](fovea_handle *on, fovea_support *s) { return fovea_kv_append_support(on, nullptr, s); },
      "fovea_kv_append_args");
}

INSTANTIATE_TEST_SUITE_P(Devices, Support, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test
