// The rules of fovea_attention: every field gets values at its limits and past them. The rules on
// memory are in check_overlap_test.cc.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

using Args = fovea_attention_args;

const int64_t kI32Most = INT32_MAX, kI32Least = INT32_MIN, kU32Most = UINT32_MAX;

// ---- Single fields ---------------------------------------------------------------------------

struct Field {
  const char *name;
  void (*set)(Args &, int64_t);
  std::vector<int64_t> good, bad;
};
void PrintTo(const Field &field, std::ostream *os) {
  *os << field.name;
}

#define SET(path)        \
#path, [](Args & args, \
            int64_t value) { args.path = static_cast<std::decay_t<decltype(args.path)>>(value); }

class AttentionField : public testing::TestWithParam<Field> {};

TEST_P(AttentionField, AcceptsItsRangeAndRefusesWhatLiesOutside) {
  const Field &field = GetParam();
  for (const Args &base : {attention(), plain_attention()}) {
    for (int64_t value : field.good) {
      Args args = base;
      field.set(args, value);
      EXPECT_THAT(Attention(args), Passes()) << field.name << " = " << value;
      EXPECT_THAT(Shape(args), Passes()) << field.name << " = " << value;
    }
    for (int64_t value : field.bad) {
      Args args = base;
      field.set(args, value);
      EXPECT_THAT(Attention(args), Refuses(field.name)) << field.name << " = " << value;
      EXPECT_THAT(Shape(args), Refuses(field.name)) << field.name << " = " << value;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Each, AttentionField,
    testing::ValuesIn(std::vector<Field>{
        {SET(flags), {0, FOVEA_ALLOW_DEPENDENT_LAUNCH}, {2, 3, int64_t{1} << 31, kU32Most}},
        {SET(reproducible), {0, 1, 2}, {3, 4, kU32Most}},
        {SET(sequences.count), {0, 2}, {1, 3, -1, kLeast, kExtents, kMost}},
        // A number of pages without page ids means that the caller forgot the ids.
        {SET(sequences.pages.row_stride), {0}, {1, -1, kLeast, kMost}},
        {SET(sequences.pages.count), {0}, {1, -1, kLeast, kExtents - 1, kExtents, kMost}},
        {SET(sequences.pages.head_stride), {0}, {1, -1, kLeast, kMost}},
        {SET(sequences.pages.reserved[0]), {0}, {1, kMost}},
        {SET(visibility.causal), {0, 1}, {2, kU32Most}},
        {SET(visibility.span_rule), {0}, {2, 3, kU32Most}},
        {SET(positions.alignment), {0, 1}, {2, 3, kU32Most}},
        {SET(visibility.window_left.kind), {0, 1}, {2, 3, kU32Most}},
        {SET(visibility.window_right.kind), {0, 1}, {2, 3, kU32Most}},
        // A caller who sets the count but no kind believes that there is a window.
        {SET(visibility.window_left.count), {0}, {1, -1, kI32Least, kI32Most}},
        {SET(visibility.window_right.count), {0}, {1, -1, kI32Least, kI32Most}},
        {SET(positions.kv_stride), {0, 1, 2, kI32Most}, {-1, kI32Least}},
        {SET(positions.selected), {0}, {2, kU32Most}},
        {SET(positions.reserved32), {0}, {1, kU32Most}},
        {SET(positions.reserved[0]), {0}, {1, kMost}},
        {SET(reserved), {0}, {1, 2, kU32Most}},
        {SET(logits.alibi_stride), {0}, {-1, kLeast}},
        {SET(visibility.tree.words), {0}, {-1, kLeast}},
        {SET(sm_count), {0, 1, kI32Most}, {-1, kI32Least}},
        {SET(reserved), {0}, {1, 2, kU32Most}},
        {SET(detail_bytes), {0, 1, kMost}, {}},
    }));

TEST(AttentionWindow, CountsFromZeroOnceLimited) {
  for (int64_t count : {int64_t{0}, int64_t{1}, kI32Most}) {
    Args args = attention();
    args.visibility.window_left = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(count)};
    args.visibility.window_right = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(count / 2)};
    Attention checked(args);
    EXPECT_THAT(checked, Passes());
    EXPECT_EQ(checked.problem.window_left, count);
    EXPECT_EQ(checked.problem.window_right, count / 2);
  }
  for (int64_t count : {int64_t{-1}, kI32Least}) {
    Args left = attention(), right = attention();
    left.visibility.window_left = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(count)};
    right.visibility.window_right = {FOVEA_WINDOW_LIMITED, static_cast<int32_t>(count)};
    EXPECT_THAT(Attention(left), Refuses("visibility.window_left.count"));
    EXPECT_THAT(Attention(right), Refuses("visibility.window_right.count"));
  }
}

TEST(AttentionWindow, IsMinusOneInTheProblemWhenUnlimited) {
  Attention checked(attention());
  EXPECT_EQ(checked.problem.window_left, -1);
  EXPECT_EQ(checked.problem.window_right, -1);
}

TEST(AttentionOptions, AreRefusedWithoutTheArrayThatTheySpeakOf) {
  Args args = attention();
  for (int64_t value : {int64_t{0}, int64_t{1}, int64_t{4}, int64_t{1} << 30}) {
    args.logits.alibi_stride = args.visibility.tree.words = value;
    args.logits.distances.head_stride = value;
    EXPECT_THAT(Attention(args), Passes()) << value;
  }
  args.logits.alibi_slopes = nullptr;
  EXPECT_THAT(Attention(args), Refuses("logits.alibi_stride", "without alibi_slopes"));
  args.logits.alibi_stride = 0;
  EXPECT_THAT(Attention(args), Passes());
  args.visibility.tree.bits = nullptr;
  args.visibility.tree.lengths = args.visibility.tree.starts = nullptr;
  EXPECT_THAT(Attention(args), Refuses("visibility.tree.words", "without tree.bits"));
  args.visibility.tree.words = 0;
  EXPECT_THAT(Attention(args), Passes());
  args.visibility.span_rule = FOVEA_SPAN_WITHIN;
  args.visibility.spans = nullptr;
  EXPECT_THAT(Attention(args), Refuses("visibility.span_rule", "without visibility.spans"));
  args.visibility.span_rule = 0;
  EXPECT_THAT(Attention(args), Passes());
  args.logits.bias.dtype = FOVEA_NONE;
  EXPECT_THAT(Attention(args), Refuses("logits.bias_scale", "without logits.bias"));
}

TEST(AttentionDistances, HaveEntriesFromAnyDistanceOn) {
  for (int64_t count : {int64_t{1}, int64_t{2}, kI32Most}) {
    Args args = attention();
    args.logits.distances.count = static_cast<int32_t>(count);
    for (int64_t first : {int64_t{0}, -count, kI32Least, kI32Most}) {
      args.logits.distances.first = static_cast<int32_t>(first);
      EXPECT_THAT(Attention(args), Passes()) << count << " from " << first;
    }
  }
  for (int64_t count : {int64_t{0}, int64_t{-1}, kI32Least}) {
    Args args = attention();
    args.logits.distances.count = static_cast<int32_t>(count);
    EXPECT_THAT(Attention(args), Refuses("logits.distances.count", "entries of a head")) << count;
  }
  for (int64_t stride : {int64_t{-1}, kLeast}) {
    Args args = attention();
    args.logits.distances.head_stride = stride;
    EXPECT_THAT(Attention(args), Refuses("logits.distances.head_stride")) << stride;
  }
}

TEST(AttentionDistances, AreNothingWithoutATable) {
  Args args = plain_attention();
  args.logits.distances.first = -1;
  EXPECT_THAT(Attention(args), Refuses("logits.distances.first", "without distances.table"));
  args.logits.distances.first = 0;
  args.logits.distances.count = 1;
  EXPECT_THAT(Attention(args), Refuses("logits.distances.count", "without distances.table"));
  args.logits.distances.count = 0;
  args.logits.distances.head_stride = 1;
  EXPECT_THAT(Attention(args), Refuses("logits.distances.head_stride", "without distances.table"));
  args.logits.distances.head_stride = 0;
  args.logits.distances.reserved[0] = 1;
  EXPECT_THAT(Attention(args), Refuses("logits.distances.reserved[0]"));
}

TEST(AttentionAdditive, NeedsItsVector) {
  Args args = attention();
  EXPECT_EQ(Attention(args).problem.scale, 1.0f) << "the default";
  args.logits.additive.head_stride = -1;
  EXPECT_THAT(Attention(args), Refuses("logits.additive.head_stride"));
  args = plain_attention();
  args.logits.additive.head_stride = 1;
  EXPECT_THAT(Attention(args), Refuses("logits.additive.head_stride", "without additive.vector"));
  args.logits.additive.head_stride = 0;
  args.logits.additive.reserved[0] = 1;
  EXPECT_THAT(Attention(args), Refuses("logits.additive.reserved[0]"));
}

TEST(AttentionFactor, IsFiniteAndNotNegative) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float fovea_logits::*field : {&fovea_logits::scale, &fovea_logits::softcap}) {
    const char *name = field == &fovea_logits::scale ? "logits.scale" : "logits.softcap";
    const auto with = [](Args args, float fovea_logits::*factor, float value) {
      args.logits.*factor = value;
      return args;
    };
    for (float value : {0.0f, -0.0f, FLT_TRUE_MIN, FLT_MIN, 1.0f, FLT_MAX})
      EXPECT_THAT(Attention(with(attention(), field, value)), Passes()) << name << " " << value;
    for (float value : {-FLT_TRUE_MIN, -1.0f, -FLT_MAX, infinity, -infinity, std::nanf("")})
      EXPECT_THAT(Attention(with(attention(), field, value)), Refuses(name)) << value;
  }
}

TEST(AttentionScale, DefaultsToOneOverTheRootOfDim) {
  for (int64_t dim : {1, 3, 8, 16, 24, 64, 575, 576}) {
    Args args = plain_attention();
    args.q = view(0, FOVEA_F32, 2, 5, 4, dim);
    args.k = view(1, FOVEA_F32, 2, 7, 2, dim);
    Attention checked(args);
    EXPECT_THAT(checked, Passes());
    EXPECT_EQ(checked.problem.scale, static_cast<float>(1.0 / std::sqrt(double(dim))));
    args.logits.scale = -0.0f;
    EXPECT_EQ(Attention(args).problem.scale, checked.problem.scale);
    args.logits.scale = 0.25f;
    EXPECT_EQ(Attention(args).problem.scale, 0.25f);
  }
}

// ---- Each tensor by itself -------------------------------------------------------------------

struct Tensor {
  const char *name;
  fovea_tensor &(*of)(Args &);
  std::vector<uint32_t> dtypes;  // those of the header's table
  bool optional;
  int64_t last_strides;  // number of valid stride[3], from 0 (or 1) up; -1: all are
};
#define TENSOR(field) #field, [](Args & args) -> fovea_tensor & { return args.field; }
void PrintTo(const Tensor &tensor, std::ostream *os) {
  *os << tensor.name;
}

const std::vector<uint32_t> kPlain = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
const std::vector<uint32_t> kQuery = {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3};
const std::vector<uint32_t> kCache = {FOVEA_F32,  FOVEA_F16,  FOVEA_BF16,
                                      FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8};
const std::vector<uint32_t> kScale = {FOVEA_F32, FOVEA_F16};

class AttentionTensor : public testing::TestWithParam<Tensor> {
 protected:
  std::string Named(const char *member, int index) const {
    return std::string(GetParam().name) + "." + member + "[" + std::to_string(index) + "]";
  }
  fovea_tensor &Of(Args &args) const { return GetParam().of(args); }
};

TEST_P(AttentionTensor, HasADtypeOfTheTable) {
  const std::vector<uint32_t> &list = GetParam().dtypes;
  for (uint32_t dtype = 0; dtype <= 40; ++dtype) {
    if (may_be_blocks(GetParam().name, dtype)) continue;  // check_block_test.cc
    Args args = attention();
    // Scales would add the rule that they are for 8-bit tensors only.
    args.q_scale.dtype = args.k_scale.dtype = args.v_scale.dtype = args.out_scale.dtype = 0;
    if (dtype == FOVEA_NONE) args.logits.bias_scale = nullptr;  // it may not stand without a bias
    Of(args).dtype = dtype;
    if (GetParam().last_strides < 0 && dtype != 0) {
      args = attention();
      Of(args).dtype = dtype;
    }
    const bool listed = std::count(list.begin(), list.end(), dtype) > 0;
    const bool absent = dtype == 0 && GetParam().optional;
    if (listed || absent)
      EXPECT_THAT(Attention(args), Passes()) << dtype;
    else
      EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".dtype")) << dtype;
  }
  Args args = attention();
  Of(args).dtype = UINT32_MAX;
  EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".dtype", "unknown"));
}

TEST_P(AttentionTensor, IsZeroInTheProblemWhenAbsent) {
  if (!GetParam().optional) return;
  Args args = attention();
  args.logits.bias_scale = nullptr;  // as it must be
  Of(args).dtype = FOVEA_NONE;
  Of(args).shape[1] = -1;
  Of(args).stride[2] = -1;
  Of(args).reserved[3] = 9;
  Attention checked(args);
  ASSERT_THAT(checked, Passes());
  const fovea_tensor zero = {};
  EXPECT_EQ(memcmp(&Of(checked.problem.args), &zero, sizeof zero), 0);
}

TEST_P(AttentionTensor, HasReservedWordsOfZero) {
  for (int i = 0; i < 5; ++i)
    for (uint32_t value : {1u, 2u, UINT32_MAX}) {
      Args args = attention();
      Of(args).reserved[i] = value;
      EXPECT_THAT(Attention(args), Refuses(Named("reserved", i)));
      EXPECT_THAT(Shape(args), Refuses(Named("reserved", i)));
    }
}

TEST_P(AttentionTensor, HasExtentsFromZeroToBelowTwoToThe31) {
  for (int i = 0; i < 4; ++i)
    for (int64_t value : {kLeast, int64_t{-1}, kExtents, kExtents + 1, kMost}) {
      Args args = attention();
      Of(args).shape[i] = value;
      EXPECT_THAT(Attention(args), Refuses(Named("shape", i))) << value;
      EXPECT_THAT(Shape(args), Refuses(Named("shape", i))) << value;
    }
}

TEST_P(AttentionTensor, HasStridesThatAreNotNegative) {
  for (int i = 0; i < 4; ++i)
    for (int64_t value : {kLeast, int64_t{-1}}) {
      Args args = attention();
      Of(args).stride[i] = value;
      EXPECT_THAT(Attention(args), Refuses(Named("stride", i))) << value;
    }
}

TEST_P(AttentionTensor, SpansLessThanTwoToThe63Bytes) {
  for (int i = 0; i < 3; ++i) {
    Args args = attention();
    Of(args).stride[i] = kMost;
    EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".stride"));
    EXPECT_THAT(Shape(args), Refuses(std::string(GetParam().name) + ".stride"));
  }
}

TEST_P(AttentionTensor, HasTheLastStrideOfTheTable) {
  const std::string last = Named("stride", 3);
  for (int64_t value : {0, 1, 2, 3}) {
    Args args = attention();
    fovea_tensor &tensor = Of(args);
    for (int i = 0; i < 3; ++i) tensor.stride[i] *= 4;
    tensor.stride[3] = value;
    const int64_t kinds = GetParam().last_strides;
    const bool right =
        tensor.shape[3] == 1 || kinds < 0 || value == 1 || (kinds == 2 && value == 0);
    if (right)
      EXPECT_THAT(Attention(args), Passes()) << value;
    else
      EXPECT_THAT(Attention(args), Refuses(last)) << value;
  }
}

// The strides of an empty numpy array may be anything: zeros, or those of other extents.
TEST_P(AttentionTensor, HasAnyStridesIfAnExtentIsZero) {
  const int64_t strides[][4] = {
      {0, 0, 0, 0}, {kLeast, -1, -2, -3}, {kMost, kMost, kMost, kMost}, {1, 1, 1, 2}};
  for (const auto &stride : strides) {
    Args args = attention();
    for (fovea_tensor *t : {&args.q, &args.out, &args.lse, &args.q_scale, &args.out_scale})
      t->shape[1] = 0;
    for (fovea_tensor *t : {&args.k, &args.v, &args.k_scale, &args.v_scale}) t->shape[1] = 0;
    args.visibility.mask.shape[3] = args.logits.bias.shape[3] = 0;
    Of(args).data = nullptr;
    std::copy(stride, stride + 4, Of(args).stride);
    EXPECT_THAT(Shape(args), Passes()) << stride[3];
    Attention checked(args);
    EXPECT_THAT(checked, Passes()) << stride[3];
    for (int i = 0; i < 4; ++i) EXPECT_EQ(Of(checked.problem.args).stride[i], 0);
  }
}

TEST_P(AttentionTensor, HasDataUnlessAnExtentIsZero) {
  Args args = attention();
  Of(args).data = nullptr;
  EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".data", "NULL"));
  EXPECT_THAT(Shape(args), Passes());
}

TEST_P(AttentionTensor, IsAlignedToItsElements) {
  for (uintptr_t offset : {1, 2, 3, 4}) {
    Args args = attention();
    const uint32_t dtype = Of(args).dtype;
    const uintptr_t size = dtype == FOVEA_F32 ? 4 : dtype == FOVEA_F16 ? 2 : 1;
    Of(args).data = at(reinterpret_cast<uintptr_t>(Of(args).data) + offset);
    if (offset % size == 0)
      EXPECT_THAT(Attention(args), Passes()) << offset;
    else
      EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".data", "aligned"));
    EXPECT_THAT(Shape(args), Passes());
  }
}

TEST_P(AttentionTensor, StaysInTheAddressSpace) {
  Args args = attention();
  Of(args).data = at(UINTPTR_MAX - 15);
  EXPECT_THAT(Attention(args), Refuses(std::string(GetParam().name) + ".data", "address space"));
  EXPECT_THAT(Shape(args), Passes());
}

INSTANTIATE_TEST_SUITE_P(Each, AttentionTensor,
                         testing::ValuesIn(std::vector<Tensor>{
                             {TENSOR(q), kQuery, false, 1},
                             {TENSOR(k), kCache, false, 1},
                             {TENSOR(v), kCache, false, 1},
                             {TENSOR(out), kQuery, false, 1},
                             {TENSOR(lse), {FOVEA_F32}, true, 1},
                             {TENSOR(q_scale), kScale, true, -1},
                             {TENSOR(k_scale), kScale, true, -1},
                             {TENSOR(v_scale), kScale, true, -1},
                             {TENSOR(out_scale), kScale, true, -1},
                             {TENSOR(visibility.mask), {FOVEA_U8}, true, 2},
                             {TENSOR(logits.bias), kPlain, true, 2},
                         }));

TEST(AttentionStride, IsNeverUsedWhereTheExtentIsOne) {
  // All extents are 1 except dim, so only the stride of dim matters.
  Args args = plain_attention();
  args.q = view(0, FOVEA_F32, 1, 1, 1, 16);
  args.k = view(1, FOVEA_F32, 1, 1, 1, 16);
  args.v = view(2, FOVEA_F32, 1, 1, 1, 8);
  args.out = view(3, FOVEA_F32, 1, 1, 1, 8);
  args.lse = view(4, FOVEA_F32, 1, 1, 1, 1);
  args.visibility.mask = view(5, FOVEA_U8, 1, 1, 1, 1);
  for (fovea_tensor *tensor :
       {&args.q, &args.k, &args.v, &args.out, &args.lse, &args.visibility.mask}) {
    for (int i = 0; i < 3; ++i) tensor->stride[i] = kMost - i;
    if (tensor->shape[3] == 1) tensor->stride[3] = kMost;
  }
  Attention checked(args);
  ASSERT_THAT(checked, Passes());
  const Args &copy = checked.problem.args;
  for (const fovea_tensor *tensor :
       {&copy.q, &copy.k, &copy.v, &copy.out, &copy.lse, &copy.visibility.mask})
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(tensor->stride[i], tensor->shape[i] == 1 ? 0 : 1) << "dimension " << i;
}

TEST(AttentionStride, MayReachAsFarAsAnAddressCan) {
  // Two keys may lie 2^62 bytes apart, but not 2^62 elements of two bytes.
  Args args = plain_attention();
  args.k = view(40, FOVEA_I8, 2, 2, 2, 16);  // above all other memory
  args.v.shape[1] = 2;
  args.k.stride[0] = args.v.stride[0] = 0;
  args.k.stride[1] = int64_t{1} << 62;
  EXPECT_THAT(Attention(args), Passes());
  args.k.dtype = FOVEA_F16;
  EXPECT_THAT(Attention(args), Refuses("k.stride", "2^63"));
  // A span of 2^63 - 1 bytes is allowed, one of 2^63 is not.
  args.k.dtype = FOVEA_I8;
  args.k.stride[1] = kMost - 32;  // heads and dim span 32
  EXPECT_THAT(Attention(args), Passes());
  args.k.stride[1] += 1;
  EXPECT_THAT(Attention(args), Refuses("k.stride"));
}

TEST(AttentionStride, OfTheLastDimensionMattersFromTwoElementsOn) {
  Args args = plain_attention();
  args.sequences.kv_lengths = at<int32_t>(region(9));
  for (int64_t keys : {1, 2, 3}) {
    args.visibility.mask = view(10, FOVEA_U8, 1, 1, 1, keys);
    args.visibility.mask.stride[3] = 2;
    if (keys == 1)
      EXPECT_THAT(Attention(args), Passes());
    else
      EXPECT_THAT(Attention(args), Refuses("visibility.mask.stride[3]"));
  }
}

TEST(AttentionStride, OfZeroRepeatsAnInput) {
  Args args = plain_attention();
  for (int i = 0; i < 3; ++i) args.q.stride[i] = args.k.stride[i] = args.v.stride[i] = 0;
  EXPECT_THAT(Attention(args), Passes());
}

TEST(AttentionExtent, OfZeroNeedsNoData) {
  // len_q, batch and heads_q may be 0, and so may len_kv.
  Args rows = plain_attention();
  rows.q.shape[1] = rows.out.shape[1] = 0;
  rows.q.data = rows.out.data = nullptr;
  EXPECT_THAT(Attention(rows), Passes());
  EXPECT_TRUE(Attention(rows).problem.empty);

  Args batch = plain_attention();
  for (fovea_tensor *tensor : {&batch.q, &batch.k, &batch.v, &batch.out}) {
    tensor->shape[0] = 0;
    tensor->data = nullptr;
  }
  EXPECT_THAT(Attention(batch), Passes());
  EXPECT_TRUE(Attention(batch).problem.empty);

  Args heads = plain_attention();
  heads.q.shape[2] = heads.out.shape[2] = 0;
  heads.q.data = heads.out.data = nullptr;
  EXPECT_THAT(Attention(heads), Passes());
  EXPECT_TRUE(Attention(heads).problem.empty);
  EXPECT_EQ(Attention(heads).problem.group, 1);

  Args keys = plain_attention();
  keys.k.shape[1] = keys.v.shape[1] = 0;
  keys.k.data = keys.v.data = nullptr;
  EXPECT_THAT(Attention(keys), Passes());
  EXPECT_FALSE(Attention(keys).problem.empty) << "rows that see no key are written";
}

// ---- Tensors against each other --------------------------------------------------------------

struct Relation {
  const char *field;
  void (*set)(Args &, int64_t);
  const char *other;  // the detail names it too
};
void PrintTo(const Relation &relation, std::ostream *os) {
  *os << relation.field;
}

class AttentionShapes : public testing::TestWithParam<Relation> {};

TEST_P(AttentionShapes, AgreeInEveryNamedDimension) {
  const Relation &relation = GetParam();
  for (int64_t off : {-1, 1, 8}) {
    Args args = attention();
    Args probe = args;
    // The regions are so large that a contiguous tensor of any of these extents stays inside.
    relation.set(args, off);
    EXPECT_THAT(Attention(args), Refuses(relation.field, relation.other)) << off;
    EXPECT_THAT(Shape(args), Refuses(relation.field, relation.other)) << off;
    EXPECT_THAT(Attention(probe), Passes());
  }
}

#define ADD(tensor, i) \
#tensor ".shape[" #i "]", [](Args &args, int64_t more) { \
    args.tensor.shape[i] += more;                           \
    for (int d = 2; d >= 0; --d)                            \
      args.tensor.stride[d] = args.tensor.stride[d + 1] * args.tensor.shape[d + 1]; \
  }

INSTANTIATE_TEST_SUITE_P(Each, AttentionShapes,
                         testing::ValuesIn(std::vector<Relation>{
                             {ADD(k, 3), "q.shape[3] (dim), which is 16"},
                             {ADD(v, 0), "k.shape[0] (batch), which is 2"},
                             {ADD(v, 1), "k.shape[1] (len_kv), which is 7"},
                             {ADD(v, 2), "k.shape[2] (heads_kv), which is 2"},
                             {ADD(out, 0), "q.shape[0] (batch), which is 2"},
                             {ADD(out, 1), "q.shape[1] (len_q), which is 5"},
                             {ADD(out, 2), "q.shape[2] (heads_q), which is 4"},
                             {ADD(out, 3), "v.shape[3] (dim_v), which is 8"},
                             {ADD(lse, 0), "q.shape[0] (batch), which is 2"},
                             {ADD(lse, 1), "q.shape[1] (len_q), which is 5"},
                             {ADD(lse, 2), "q.shape[2] (heads_q), which is 4"},
                             {ADD(lse, 3), "must equal 1"},
                         }));

TEST(AttentionDim, IsAMultipleOf8From8To576) {
  for (int64_t dim = 0; dim <= 600; ++dim) {
    Args args = plain_attention();
    args.q = view(0, FOVEA_F32, 2, 5, 4, dim);
    args.k = view(1, FOVEA_F32, 2, 7, 2, dim);
    if (dim >= 1 && dim <= 576)
      EXPECT_THAT(Attention(args), Passes()) << dim;
    else
      EXPECT_THAT(Attention(args), Refuses("q.shape[3] (dim)")) << dim;
  }
}

TEST(AttentionDimV, IsAMultipleOf8From8To512) {
  for (int64_t dim_v = 0; dim_v <= 600; ++dim_v) {
    Args args = plain_attention();
    args.v = view(2, FOVEA_F32, 2, 7, 2, dim_v);
    args.out = view(3, FOVEA_F32, 2, 5, 4, dim_v);
    if (dim_v >= 1 && dim_v <= 512) {
      EXPECT_THAT(Attention(args), Passes()) << dim_v;
      EXPECT_EQ(Attention(args).problem.dim_v, dim_v);
    } else {
      EXPECT_THAT(Attention(args), Refuses("v.shape[3] (dim_v)")) << dim_v;
    }
  }
}

TEST(AttentionHeads, OfQueriesAreAMultipleOfTheKeys) {
  for (int64_t heads_q = 0; heads_q <= 13; ++heads_q)
    for (int64_t heads_kv = 0; heads_kv <= 13; ++heads_kv) {
      Args args = plain_attention();
      args.q = view(0, FOVEA_F32, 2, 5, heads_q, 16);
      args.out = view(3, FOVEA_F32, 2, 5, heads_q, 8);
      args.k = view(1, FOVEA_F32, 2, 7, heads_kv, 16);
      args.v = view(2, FOVEA_F32, 2, 7, heads_kv, 8);
      Attention checked(args);
      if (heads_kv == 0 ? heads_q == 0 : heads_q % heads_kv == 0) {
        EXPECT_THAT(checked, Passes()) << heads_q << " " << heads_kv;
        EXPECT_EQ(checked.problem.heads_q, heads_q);
        EXPECT_EQ(checked.problem.heads_kv, heads_kv);
        EXPECT_EQ(checked.problem.group, heads_q == 0 ? 1 : heads_q / heads_kv);
      } else {
        EXPECT_THAT(checked, Refuses("q.shape[2] (heads_q)", "k.shape[2] (heads_kv)"));
      }
    }
}

// ---- Scales ----------------------------------------------------------------------------------

struct ScalePair {
  const char *scale_name, *name;
  fovea_tensor Args::*scale, Args::*tensor;
};

const std::vector<ScalePair> kScales = {
    {"q_scale", "q", &Args::q_scale, &Args::q},
    {"k_scale", "k", &Args::k_scale, &Args::k},
    {"v_scale", "v", &Args::v_scale, &Args::v},
    {"out_scale", "out", &Args::out_scale, &Args::out},
};

TEST(AttentionScales, AreFor8BitTensorsOnly) {
  for (const ScalePair &pair : kScales)
    for (uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
      Args args = attention();
      (args.*pair.tensor).dtype = dtype;
      EXPECT_THAT(Attention(args), Refuses(std::string(pair.scale_name) + ".dtype", pair.name));
      (args.*pair.scale).dtype = FOVEA_NONE;
      EXPECT_THAT(Attention(args), Passes());
    }
}

TEST(AttentionScales, MatchTheirTensorOrBroadcast) {
  for (const ScalePair &pair : kScales)
    for (int i = 0; i < 3; ++i) {
      Args args = attention();
      fovea_tensor &scale = args.*pair.scale;
      const std::string name = std::string(pair.scale_name) + ".shape[" + std::to_string(i) + "]";
      for (int64_t extent = 0; extent <= 9; ++extent) {
        scale.shape[i] = extent;
        const int64_t right = (args.*pair.tensor).shape[i];
        Attention checked(args);
        if (extent != 1 && extent != right) {
          EXPECT_THAT(checked, Refuses(name, "or 1, which broadcasts")) << extent;
          continue;
        }
        EXPECT_THAT(checked, Passes()) << name << " " << extent;
        EXPECT_EQ((checked.problem.args.*pair.scale).stride[i], extent == 1 ? 0 : scale.stride[i]);
      }
    }
}

TEST(AttentionScales, HaveBlocksThatDivideDim) {
  for (const ScalePair &pair : kScales)
    for (int64_t blocks = 0; blocks <= 33; ++blocks) {
      Args args = attention();
      fovea_tensor &scale = args.*pair.scale;
      scale.shape[3] = blocks;
      scale.stride[3] = 7;
      const int64_t dim = (args.*pair.tensor).shape[3];
      if (blocks != 0 && dim % blocks == 0)
        EXPECT_THAT(Attention(args), Passes()) << pair.name << " " << blocks;
      else
        EXPECT_THAT(Attention(args),
                    Refuses(std::string(pair.scale_name) + ".shape[3] (blocks)", pair.name));
    }
}

TEST(AttentionScales, OfATensorWithoutRowsMayHaveNoRowsOrOne) {
  Args args = attention();
  args.k.shape[1] = args.v.shape[1] = 0;
  args.k_scale.shape[1] = 0;
  args.v_scale.shape[1] = 1;
  EXPECT_THAT(Attention(args), Passes());
  args.v_scale.shape[1] = 7;
  EXPECT_THAT(Attention(args), Refuses("v_scale.shape[1]"));
}

// ---- Selected keys ---------------------------------------------------------------------------

// Nothing is said by position of keys that have none.
TEST(AttentionSelection, RefusesWhatIsSaidByPosition) {
  Args selected = plain_attention();
  selected.positions.selected = 1;
  selected.visibility.mask = view(9, FOVEA_U8, 2, 5, 4, 7);
  selected.logits.bias = view(10, FOVEA_F32, 2, 5, 4, 7);
  selected.logits.sinks = at<float>(region(20));
  selected.sequences.kv_lengths = at<int32_t>(region(11));
  EXPECT_THAT(Attention(selected), Passes());
  const auto expect = [&](const char *name, void (*change)(Args &)) {
    Args args = selected;
    change(args);
    EXPECT_THAT(Attention(args), Refuses(name, "with positions.selected"));
    EXPECT_THAT(Shape(args), Refuses(name, "with positions.selected"));
    args.positions.selected = 0;
    EXPECT_THAT(Attention(args), Passes()) << name;
  };
  expect("positions.alignment", [](Args &a) { a.positions.alignment = FOVEA_ALIGN_TOP_LEFT; });
  expect("positions.kv_stride", [](Args &a) { a.positions.kv_stride = 1; });
  expect("positions.q", [](Args &a) { a.positions.q = at<int32_t>(region(12)); });
  expect("positions.kv", [](Args &a) { a.positions.kv = at<int32_t>(region(14)); });
  expect("sequences.kv_first", [](Args &a) { a.sequences.kv_first = at<int32_t>(region(13)); });
  expect("visibility.window_left.kind", [](Args &a) { a.visibility.window_left.kind = 1; });
  expect("visibility.window_right.kind", [](Args &a) { a.visibility.window_right.kind = 1; });
  expect("visibility.prefix_lengths",
         [](Args &a) { a.visibility.prefix_lengths = at<int32_t>(region(15)); });
  expect("visibility.spans", [](Args &a) { a.visibility.spans = at<int32_t>(region(25)); });
  expect("visibility.tree.bits",
         [](Args &a) { a.visibility.tree.bits = at<uint32_t>(region(16)); });
  expect("logits.alibi_slopes", [](Args &a) { a.logits.alibi_slopes = at<float>(region(19)); });
  expect("logits.distances.table", [](Args &a) {
    a.logits.distances = {at<float>(region(27)), 6, -3, 5, {}};
  });
  expect("visibility.causal", [](Args &a) { a.visibility.causal = 1; });
}

TEST(AttentionSelection, LetsOneRowPerSequenceBeCausal) {
  Args args = plain_attention();
  args.positions.selected = args.visibility.causal = 1;
  EXPECT_THAT(Attention(args), Refuses("visibility.causal", "one row"));
  for (int64_t rows : {0, 1}) {
    args.q.shape[1] = args.out.shape[1] = rows;
    Attention checked(args);
    EXPECT_THAT(checked, Passes());
    EXPECT_EQ(checked.problem.window_right, -1) << "all keys come before the row";
  }
  Args packed = packed_and_paged();
  packed.positions.selected = packed.visibility.causal = 1;
  EXPECT_THAT(Attention(packed), Refuses("visibility.causal", "one row"));
  packed.sequences.count = 11;
  EXPECT_THAT(Attention(packed), Passes());
  EXPECT_EQ(Attention(packed).problem.window_right, -1);
  packed.sequences.count = 12;
  EXPECT_THAT(Attention(packed), Refuses("visibility.causal", "one row"));
}

// ---- Order, support --------------------------------------------------------------------------

TEST(AttentionOrder, TheFirstBrokenRuleWins) {
  Args args = attention();
  args.workspace = at(region(22) + 1);
  EXPECT_THAT(Attention(args), Refuses("workspace"));
  args.visibility.mask.shape[0] = 3;
  EXPECT_THAT(Attention(args), Refuses("visibility.mask.shape[0]"));
  args.sequences.pages.count = -1;
  EXPECT_THAT(Attention(args), Refuses("sequences.pages.count"));
  args.sequences.count = 3;
  EXPECT_THAT(Attention(args), Refuses("sequences.count"));
  args.v_scale.shape[0] = 5;
  EXPECT_THAT(Attention(args), Refuses("v_scale.shape[0]"));
  args.q.shape[2] = 3;
  EXPECT_THAT(Attention(args), Refuses("q.shape[2]"));
  args.logits.bias.shape[3] = -1;
  EXPECT_THAT(Attention(args), Refuses("logits.bias.shape[3]"));
  args.q.stride[0] = -1;
  EXPECT_THAT(Attention(args), Refuses("q.stride[0]"));
  args.sm_count = -1;
  EXPECT_THAT(Attention(args), Refuses("sm_count"));
  args.flags = 2;
  EXPECT_THAT(Attention(args), Refuses("flags"));
}

TEST(AttentionShape, LooksAtNoAddress) {
  Args args = attention();
  for (fovea_tensor Args::*field : {&Args::q, &Args::k, &Args::v, &Args::out, &Args::lse})
    (args.*field).data = at(1);
  args.sequences.kv_lengths = at<int32_t>(1);
  args.logits.sinks = at<float>(3);
  args.workspace = at(7);
  EXPECT_THAT(Shape(args), Passes());
  args.workspace = nullptr;
  EXPECT_THAT(Shape(args), Passes());
  EXPECT_EQ(Shape(args).problem.args.workspace_bytes, 0u);
}

}  // namespace
}  // namespace fovea_test
