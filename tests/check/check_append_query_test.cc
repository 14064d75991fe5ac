// The rules of fovea_kv_append for queries and norms.
#include <cmath>

#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

using Args = fovea_kv_append_args;

// Queries of 8 heads to e4m3 beside the keys and values, and three norms.
Args with_queries() {
  Args args = append();
  args.q = view(30, FOVEA_F32, 2, 3, 8, 16);
  args.q_out = view(31, FOVEA_E4M3, 2, 3, 8, 16);
  args.q_scale = view(32, FOVEA_F16, 2, 3, 8, 4);
  args.q_norm = {at<float>(region(33)), 16, 1e-6f, 1, FOVEA_NORM_TOKEN, {}};
  args.k_norm = {at<float>(region(34)), 0, 1e-6f, 0, FOVEA_NORM_HEAD, {}};
  args.v_norm = {at<float>(region(35)), 8, 1e-6f, 0, FOVEA_NORM_HEAD, {}};
  return args;
}

Args queries_alone() {
  Args args = with_queries();
  for (fovea_tensor *t :
       {&args.k_new, &args.v_new, &args.k_cache, &args.v_cache, &args.k_scale, &args.v_scale})
    t->dtype = FOVEA_NONE;
  args.k_norm = args.v_norm = {};
  return args;
}

// ---- Norms -----------------------------------------------------------------------------------

struct Norm {
  const char *name, *of;
  fovea_norm Args::*field;
};
const Norm kNorms[] = {{"q_norm", "q", &Args::q_norm},
                       {"k_norm", "k_new", &Args::k_norm},
                       {"v_norm", "v_new", &Args::v_norm}};

TEST(AppendNorms, HaveNumbersInTheirRanges) {
  for (const Norm &norm : kNorms) {
    const std::string name = norm.name;
    const auto checked = [&](auto fovea_norm::*field, auto value) {
      Args args = with_queries();
      (args.*norm.field).*field = value;
      return Append(args);
    };
    EXPECT_THAT(checked(&fovea_norm::stride, int64_t{0}), Passes());
    EXPECT_THAT(checked(&fovea_norm::stride, int64_t{100}), Passes());
    for (int64_t stride : {int64_t{-1}, kLeast})
      EXPECT_THAT(checked(&fovea_norm::stride, stride), Refuses(name + ".stride", "at least 0"));
    for (float eps : {0x1p-149f, 1.0f, 3e38f})
      EXPECT_THAT(checked(&fovea_norm::eps, eps), Passes());
    for (float eps : {0.0f, -0.0f, -1.0f, INFINITY, NAN})
      EXPECT_THAT(checked(&fovea_norm::eps, eps), Refuses(name + ".eps", "finite and above 0"));
    for (uint32_t value : {0u, 1u}) {
      EXPECT_THAT(checked(&fovea_norm::unit_offset, value), Passes());
      EXPECT_THAT(checked(&fovea_norm::scope, value), Passes());
    }
    for (uint32_t value : {2u, UINT32_MAX}) {
      EXPECT_THAT(checked(&fovea_norm::unit_offset, value), Refuses(name + ".unit_offset"));
      EXPECT_THAT(checked(&fovea_norm::scope, value), Refuses(name + ".scope", "FOVEA_NORM_TOKEN"));
    }
    for (int i = 0; i < 5; ++i) {
      Args args = with_queries();
      (args.*norm.field).reserved[i] = 1;
      EXPECT_THAT(Append(args), Refuses(name + ".reserved[" + std::to_string(i) + "]"));
    }
  }
}

TEST(AppendNorms, AreNotAskedForByNumbersAlone) {
  for (const Norm &norm : kNorms) {
    const std::string name = norm.name;
    Args args = with_queries();
    fovea_norm &room = args.*norm.field;
    room = {nullptr, 16, 1e-6f, 1, FOVEA_NORM_TOKEN, {}};
    EXPECT_THAT(Append(args), Refuses(name + ".stride", "without " + name + ".gain"));
    room.stride = 0;
    EXPECT_THAT(Append(args), Refuses(name + ".unit_offset", "without " + name + ".gain"));
    room.unit_offset = 0;
    EXPECT_THAT(Append(args), Refuses(name + ".scope", "without " + name + ".gain"));
    room.scope = 0;
    EXPECT_THAT(Append(args), Refuses(name + ".eps", "without a gain"));
    room.eps = 0;
    EXPECT_THAT(Append(args), Passes());
  }
}

TEST(AppendNorms, AreOfTensorsThatAreThere) {
  Args args = append();
  args.q_norm = with_queries().q_norm;
  EXPECT_THAT(Append(args), Refuses("q_norm.gain", "without q"));
  args = queries_alone();
  args.k_norm = with_queries().k_norm;
  EXPECT_THAT(Append(args), Refuses("k_norm.gain", "without k_new"));
  args = queries_alone();
  args.v_norm = with_queries().v_norm;
  EXPECT_THAT(Append(args), Refuses("v_norm.gain", "without v_new"));
}

// ---- Tensors ---------------------------------------------------------------------------------

TEST(AppendQueries, HaveDtypesOfTheTable) {
  const struct {
    const char *name;
    fovea_tensor Args::*field;
    uint32_t last;
  } tensors[] = {{"q", &Args::q, FOVEA_BF16},
                 {"q_out", &Args::q_out, FOVEA_E4M3},
                 {"q_scale", &Args::q_scale, FOVEA_F16}};
  for (const auto &tensor : tensors)
    for (uint32_t dtype = 1; dtype <= 40; ++dtype) {
      Args args = with_queries();
      if (tensor.field == &Args::q_out) args.q_scale.dtype = FOVEA_NONE;
      (args.*tensor.field).dtype = dtype;
      if (dtype <= tensor.last)
        EXPECT_THAT(Append(args), Passes()) << tensor.name << dtype;
      else
        EXPECT_THAT(Append(args), Refuses(std::string(tensor.name) + ".dtype")) << dtype;
    }
}

TEST(AppendQueries, KeepTheRulesOfTensors) {
  for (auto field : {&Args::q, &Args::q_out, &Args::q_scale}) {
    const std::string name = field == &Args::q ? "q" : field == &Args::q_out ? "q_out" : "q_scale";
    Args args = with_queries();
    (args.*field).stride[1] = -1;
    EXPECT_THAT(Append(args), Refuses(name + ".stride[1]"));
    args = with_queries();
    (args.*field).reserved[4] = 1;
    EXPECT_THAT(Append(args), Refuses(name + ".reserved[4]"));
    args = with_queries();
    (args.*field).data = nullptr;
    EXPECT_THAT(Append(args), Refuses(name + ".data", "NULL"));
    args = with_queries();
    for (int64_t &stride : (args.*field).stride) stride *= 2;
    if (field == &Args::q_scale)
      EXPECT_THAT(Append(args), Passes());
    else
      EXPECT_THAT(Append(args), Refuses(name + ".stride[3]"));
  }
  Args args = with_queries();
  args.q.stride[1] = args.q.stride[2] = 0;
  EXPECT_THAT(Append(args), Passes()) << "an input may repeat";
  args.q_out.stride[1] = 0;
  EXPECT_THAT(Append(args), Refuses("q_out.stride[1]", "must not meet itself"));
}

TEST(AppendQueries, AreAPair) {
  Args args = with_queries();
  args.q.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("q.dtype", "q_out"));
  args = with_queries();
  args.q_out.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("q_out.dtype", "q is given"));
  args = append();
  args.q_scale = with_queries().q_scale;
  EXPECT_THAT(Append(args), Refuses("q_scale.dtype", "q_out"));
}

TEST(AppendQueries, AgreeInShapeWithTheirOutputAndTheKeys) {
  const char *words[] = {"q_out.shape[0] (batch)", "q_out.shape[1] (len_new)",
                         "q_out.shape[2] (heads_q)", "q_out.shape[3] (dim)"};
  for (int i = 0; i < 4; ++i) {
    Args args = with_queries();
    args.q_scale.dtype = FOVEA_NONE;
    args.q_out.shape[i] -= 1;
    EXPECT_THAT(Append(args), Refuses(words[i], "q.shape[" + std::to_string(i) + "]"));
  }
  const auto reshaped = [](Args args, int64_t batch, int64_t len, int64_t heads, int64_t dim) {
    args.q_scale.dtype = FOVEA_NONE;
    args.q_norm.stride = 0;
    args.q = view(30, FOVEA_F32, batch, len, heads, dim);
    args.q_out = view(31, FOVEA_BF16, batch, len, heads, dim);
    return Append(args);
  };
  for (int64_t heads : {1, 3, 4, 8, 100})
    EXPECT_THAT(reshaped(with_queries(), 2, 3, heads, 16), Passes());
  EXPECT_THAT(reshaped(with_queries(), 1, 3, 8, 16), Refuses("q.shape[0] (batch)", "k_new"));
  EXPECT_THAT(reshaped(with_queries(), 2, 2, 8, 16), Refuses("q.shape[1]", "k_new"));
  EXPECT_THAT(reshaped(with_queries(), 2, 3, 8, 8), Refuses("q.shape[3] (dim)", "k_new"));
  Args values = with_queries();
  values.k_new.dtype = values.k_cache.dtype = values.k_scale.dtype = FOVEA_NONE;
  values.k_norm = {};
  EXPECT_THAT(reshaped(values, 2, 3, 8, 24), Passes()) << "v may have another dim";
  EXPECT_THAT(reshaped(values, 1, 3, 8, 16), Refuses("q.shape[0] (batch)", "v_new"));
  EXPECT_THAT(reshaped(values, 2, 2, 8, 16), Refuses("q.shape[1]", "v_new"));
  EXPECT_THAT(reshaped(values, 2, 3, 8, 4), Refuses("rope.rotary_dim", "q.shape[3] (dim)"));
}

TEST(AppendQueries, HaveScalesOnlyIn8Bits) {
  Args args = with_queries();
  args.q_out.dtype = FOVEA_BF16;
  EXPECT_THAT(Append(args), Refuses("q_scale.dtype", "q_out.dtype"));
  args = with_queries();
  args.q_scale.shape[3] = 3;
  EXPECT_THAT(Append(args), Refuses("q_scale.shape[3] (blocks)", "q_out.shape[3]"));
  args = with_queries();
  args.q_scale.shape[2] = 4;
  EXPECT_THAT(Append(args), Refuses("q_scale.shape[2]", "8"));
}

// ---- Alone -----------------------------------------------------------------------------------

TEST(AppendQueries, MayComeAlone) {
  Append both(with_queries());
  ASSERT_THAT(both, Passes());
  EXPECT_EQ(both.problem.heads_q, 8);
  EXPECT_EQ(both.problem.heads_kv, 4);
  Append checked(queries_alone());
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.sequences, 2);
  EXPECT_EQ(checked.problem.rows, 3);
  EXPECT_EQ(checked.problem.heads_q, 8);
  EXPECT_EQ(checked.problem.heads_kv, 0);
  EXPECT_FALSE(checked.problem.empty);
  EXPECT_EQ(Append(append()).problem.heads_q, 0);
  Args none = queries_alone();
  none.q.dtype = none.q_out.dtype = none.q_scale.dtype = FOVEA_NONE;
  none.q_norm = {};
  EXPECT_THAT(Append(none), Refuses("k_new.dtype,", "v_new.dtype and q.dtype are none"));
}

TEST(AppendQueries, AloneGoToNoCache) {
  Args args = queries_alone();
  args.slots = at<int64_t>(region(20));
  EXPECT_THAT(Append(args), Refuses("slots", "without k_new and v_new"));
  args = queries_alone();
  args.sequences.pages.ids = at<int32_t>(region(22));
  args.sequences.pages.count = args.sequences.pages.row_stride = 4;
  EXPECT_THAT(Append(args), Refuses("sequences.pages.ids", "without k_new and v_new"));
  args.sequences.pages.ids = nullptr;
  EXPECT_THAT(Append(args), Refuses("sequences.pages.row_stride", "without pages.ids"));
}

TEST(AppendQueries, AloneNeedLengthsOnlyForTheirPositions) {
  Args args = queries_alone();
  args.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Append(args), Passes());
  args.rope.positions = nullptr;
  EXPECT_THAT(Append(args), Refuses("sequences.kv_lengths", "for RoPE without positions"));
  args.sequences.kv_lengths = at<int32_t>(region(6));
  EXPECT_THAT(Append(args), Passes());
  args.sequences.kv_lengths = nullptr;
  args.rope = {};
  EXPECT_THAT(Append(args), Passes());
}

TEST(AppendQueries, AloneMayBePacked) {
  Args args = queries_alone();
  args.q_scale.dtype = FOVEA_NONE;
  args.q = view(30, FOVEA_F32, 1, 11, 8, 16);
  args.q_out = view(31, FOVEA_F16, 1, 11, 8, 16);
  args.sequences.q_offsets = at<int32_t>(region(21));
  args.sequences.count = 3;
  Append checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.sequences, 3);
  EXPECT_TRUE(checked.problem.packed);
  args.q = args.q_out = view(30, FOVEA_F16, 2, 11, 8, 16);
  EXPECT_THAT(Append(args), Refuses("q.shape[0] (batch)", "q_offsets"));
}

TEST(AppendQueries, WithoutHeadsAreNothingToDo) {
  Args args = queries_alone();
  args.q_scale.dtype = FOVEA_NONE;
  args.q.shape[2] = args.q_out.shape[2] = 0;
  Append checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_TRUE(checked.problem.empty);
  Args keys = with_queries();
  keys.q_scale.dtype = FOVEA_NONE;
  keys.q.shape[2] = keys.q_out.shape[2] = 0;
  EXPECT_FALSE(Append(keys).problem.empty);
  Args heads = with_queries();
  heads.k_scale.dtype = heads.v_scale.dtype = FOVEA_NONE;
  for (fovea_tensor *t : {&heads.k_new, &heads.v_new, &heads.k_cache, &heads.v_cache})
    t->shape[2] = 0;
  EXPECT_FALSE(Append(heads).problem.empty);
}

TEST(AppendQueries, MayBeRotatedWithoutKeys) {
  Args args = queries_alone();
  args.rope.rotary_dim = 16;
  args.rope.stride = 8;
  EXPECT_THAT(Append(args), Passes());
  args.rope.rotary_dim = 18;
  args.rope.stride = 9;
  EXPECT_THAT(Append(args), Refuses("rope.rotary_dim", "q.shape[3] (dim), which is 16"));
}

// ---- Memory ----------------------------------------------------------------------------------

TEST(AppendQueries, OverlapNoInput) {
  for (auto other :
       {&Args::k_new, &Args::v_new, &Args::k_scale, &Args::v_scale, &Args::q_scale, &Args::q}) {
    Args args = with_queries();
    args.q_out.data = (args.*other).data;
    EXPECT_THAT(Append(args), Refuses("q_out", "overlaps"));
  }
  for (auto cache : {&Args::k_cache, &Args::v_cache}) {
    for (auto other : {&Args::q, &Args::q_out, &Args::q_scale}) {
      Args args = with_queries();
      (args.*other).data = (args.*cache).data;
      EXPECT_THAT(Append(args),
                  Refuses(cache == &Args::k_cache ? "k_cache" : "v_cache", "overlaps q"));
    }
  }
}

TEST(AppendQueries, MayBePreparedInPlace) {
  Args args = with_queries();
  args.q_scale.dtype = FOVEA_NONE;
  args.q_out = args.q;
  EXPECT_THAT(Append(args), Passes());
  args.q_out.data = static_cast<float *>(args.q.data) + 16;
  EXPECT_THAT(Append(args), Refuses("q_out", "overlaps q"));
  args.q_out = args.q;
  args.q_out.dtype = FOVEA_BF16;
  EXPECT_THAT(Append(args), Refuses("q_out", "overlaps q"));
  args.q_out = args.q;
  args.q_out.stride[1] *= 2;
  args.q_out.stride[0] *= 2;
  EXPECT_THAT(Append(args), Refuses("q_out", "overlaps q"));
  args.q.stride[0] = 0;
  args.q_out = args.q;
  EXPECT_THAT(Append(args), Refuses("q_out.stride[0]", "must not meet itself"));
}

// The strides of an extent of 1 are never looked at.
TEST(AppendQueries, MayBePreparedInPlaceWhateverTheUnusedStrides) {
  Args args = queries_alone();
  args.q_scale.dtype = FOVEA_NONE;
  args.sequences.kv_lengths = nullptr;
  args.q = args.q_out = view(30, FOVEA_F32, 1, 3, 8, 16);
  args.q.stride[0] = 77;
  EXPECT_THAT(Append(args), Passes());
}

TEST(AppendQueries, MayLieBesideKeysAndValuesOfOneProduct) {
  Args args = with_queries();
  args.q_scale.dtype = FOVEA_NONE;
  const int64_t width = 8 * 16 + 4 * 16 + 4 * 8;
  args.v_new.dtype = FOVEA_F32;
  for (fovea_tensor *t : {&args.q, &args.k_new, &args.v_new}) {
    t->stride[0] = 3 * width;
    t->stride[1] = width;
  }
  args.k_new.data = static_cast<float *>(args.q.data) + 8 * 16;
  args.v_new.data = static_cast<float *>(args.k_new.data) + 4 * 16;
  args.q_out = args.q;
  EXPECT_THAT(Append(args), Passes());
  args.k_new.data = static_cast<float *>(args.k_new.data) - 1;
  EXPECT_THAT(Append(args), Refuses("q_out", "overlaps k_new"));
}

TEST(AppendQueries, KeepApartFromArrays) {
  const struct {
    const char *name;
    void (*place)(Args &, uintptr_t);
    int64_t bytes;
  } arrays[] = {
      {"q_norm.gain", [](Args &a, uintptr_t p) { a.q_norm.gain = at<float>(p); },
       (7 * 16 + 16) * 4},
      {"k_norm.gain", [](Args &a, uintptr_t p) { a.k_norm.gain = at<float>(p); }, 16 * 4},
      {"v_norm.gain", [](Args &a, uintptr_t p) { a.v_norm.gain = at<float>(p); }, (3 * 8 + 8) * 4},
      {"rope.cos", [](Args &a, uintptr_t p) { a.rope.cos = at<float>(p); }, (99 * 4 + 4) * 4},
      {"sequences.kv_lengths",
       [](Args &a, uintptr_t p) { a.sequences.kv_lengths = at<int32_t>(p); }, 2 * 4},
      {"errors", [](Args &a, uintptr_t p) { a.errors = at<uint32_t>(p); }, 2 * 4},
  };
  for (const auto &array : arrays)
    for (auto written : {std::pair{31, "q_out"}, std::pair{2, "k_cache"}}) {
      Args args = with_queries();
      array.place(args, region(written.first) - array.bytes);
      EXPECT_THAT(Append(args), Passes()) << array.name;
      array.place(args, region(written.first) - array.bytes + 4);
      EXPECT_THAT(Append(args), Refuses(written.second, std::string("overlaps ") + array.name));
      array.place(args, region(60) + 2);
      EXPECT_THAT(Append(args), Refuses(array.name, "4 bytes"));
    }
}

TEST(AppendNorms, HaveGainsNoLongerThanTheAddressSpace) {
  for (const Norm &norm : kNorms) {
    Args args = with_queries();
    (args.*norm.field).stride = kMost;
    EXPECT_THAT(Append(args), Refuses(std::string(norm.name) + ".gain", "too long"));
  }
}

}  // namespace
}  // namespace fovea_test
