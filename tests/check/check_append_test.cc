// The rules of fovea_kv_append.
#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

using Args = fovea_kv_append_args;

const int64_t kU32Most = UINT32_MAX;

// Tokens go to flat slots, without lengths and pages.
Args by_slots() {
  Args args = append();
  args.sequences.kv_lengths = nullptr;
  args.slots = at<int64_t>(region(20));
  return args;
}

// 11 packed tokens of three sequences go into 9 pages of 4.
Args packed_and_paged_append() {
  Args args = append();
  args.k_new = view(0, FOVEA_F32, 1, 11, 4, 16);
  args.v_new = view(1, FOVEA_BF16, 1, 11, 4, 8);
  args.k_cache = view(2, FOVEA_E4M3, 9, 4, 4, 16);
  args.v_cache = view(3, FOVEA_I8, 9, 4, 4, 8);
  args.k_scale = view(4, FOVEA_F32, 9, 4, 4, 2);
  args.v_scale = view(5, FOVEA_F16, 1, 1, 4, 1);
  args.sequences.q_offsets = at<int32_t>(region(21));
  args.sequences.count = 3;
  args.sequences.pages.ids = at<int32_t>(region(22));
  args.sequences.pages.row_stride = 7;
  args.sequences.pages.count = 6;
  return args;
}

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

class AppendField : public testing::TestWithParam<Field> {};

TEST_P(AppendField, AcceptsItsRangeAndRefusesWhatLiesOutside) {
  const Field &field = GetParam();
  for (const Args &base : {append(), by_slots()}) {
    for (int64_t value : field.good) {
      Args args = base;
      field.set(args, value);
      EXPECT_THAT(Append(args), Passes()) << field.name << " = " << value;
    }
    for (int64_t value : field.bad) {
      Args args = base;
      field.set(args, value);
      EXPECT_THAT(Append(args), Refuses(field.name)) << field.name << " = " << value;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Each, AppendField,
    testing::ValuesIn(std::vector<Field>{
        {SET(flags), {0, FOVEA_ALLOW_DEPENDENT_LAUNCH}, {2, 3, kU32Most}},
        {SET(reserved), {0}, {1, kU32Most}},
        {SET(sequences.count), {0, 2}, {1, 3, -1, kLeast, kExtents, kMost}},
        {SET(sequences.pages.row_stride), {0}, {1, -1, kLeast, kMost}},
        {SET(sequences.pages.count), {0}, {1, -1, kLeast, kExtents - 1, kExtents, kMost}},
        {SET(rope.rows), {0, 1, 2, kExtents}, {-1, kLeast}},
        {SET(rope.stride), {4, 5, 1000}, {0, 3, -1, kLeast}},
        {SET(rope.rotary_dim), {2, 4, 6, 8}, {0, 1, 3, 5, -1, -2, 18, INT32_MAX, INT32_MIN}},
        {SET(rope.style), {0, 1}, {2, kU32Most}},
        {SET(rope.reserved[0]), {0}, {1, kMost}},
        {SET(rope.reserved[1]), {0}, {1, kMost}},
        {SET(sequences.reserved[0]), {0}, {1, kMost}},
        {SET(sequences.pages.reserved[0]), {0}, {1, kMost}},
        {SET(sequences.pages.head_stride), {0}, {1, 6, -1, kLeast, kMost}},
        {SET(detail_bytes), {0, 1, kMost}, {}},
    }));

// ---- Tensors ---------------------------------------------------------------------------------

struct Tensor {
  const char *name;
  fovea_tensor Args::*field;
  std::vector<uint32_t> dtypes;
  bool any_last_stride;
};
void PrintTo(const Tensor &tensor, std::ostream *os) {
  *os << tensor.name;
}

class AppendTensor : public testing::TestWithParam<Tensor> {
 protected:
  std::string Named(const std::string &rest) const { return GetParam().name + rest; }
  fovea_tensor &Of(Args &args) const { return args.*GetParam().field; }
};

TEST_P(AppendTensor, HasADtypeOfTheTable) {
  const std::vector<uint32_t> &list = GetParam().dtypes;
  for (uint32_t dtype = 1; dtype <= 40; ++dtype) {
    if (may_be_blocks(GetParam().name, dtype)) continue;  // check_block_test.cc
    Args args = append();
    if (!GetParam().any_last_stride) args.k_scale.dtype = args.v_scale.dtype = FOVEA_NONE;
    Of(args).dtype = dtype;
    if (std::count(list.begin(), list.end(), dtype) > 0)
      EXPECT_THAT(Append(args), Passes()) << dtype;
    else
      EXPECT_THAT(Append(args), Refuses(Named(".dtype"))) << dtype;
  }
}

TEST_P(AppendTensor, KeepsTheRulesOfTensors) {
  for (int i = 0; i < 4; ++i) {
    const std::string index = "[" + std::to_string(i) + "]";
    for (int64_t value : {kLeast, int64_t{-1}, kExtents, kMost}) {
      Args args = append();
      Of(args).shape[i] = value;
      EXPECT_THAT(Append(args), Refuses(Named(".shape" + index)));
    }
    Args stride = append();
    Of(stride).stride[i] = -1;
    EXPECT_THAT(Append(stride), Refuses(Named(".stride" + index)));
    Args reserved = append();
    Of(reserved).reserved[i + 1] = 1;
    EXPECT_THAT(Append(reserved), Refuses(Named(".reserved[" + std::to_string(i + 1) + "]")));
  }
  Args last = append();
  for (int64_t &stride : Of(last).stride) stride *= 2;
  if (GetParam().any_last_stride)
    EXPECT_THAT(Append(last), Passes());
  else
    EXPECT_THAT(Append(last), Refuses(Named(".stride[3]")));
  Args data = append();
  Of(data).data = nullptr;
  EXPECT_THAT(Append(data), Refuses(Named(".data"), "NULL"));
}

const std::vector<uint32_t> kPlain = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
const std::vector<uint32_t> kCache = {FOVEA_F32,  FOVEA_F16,  FOVEA_BF16,
                                      FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8};
const std::vector<uint32_t> kScale = {FOVEA_F32, FOVEA_F16};

INSTANTIATE_TEST_SUITE_P(Each, AppendTensor,
                         testing::ValuesIn(std::vector<Tensor>{
                             {"k_new", &Args::k_new, kPlain, false},
                             {"v_new", &Args::v_new, kPlain, false},
                             {"k_cache", &Args::k_cache, kCache, false},
                             {"v_cache", &Args::v_cache, kCache, false},
                             {"k_scale", &Args::k_scale, kScale, true},
                             {"v_scale", &Args::v_scale, kScale, true},
                         }));

TEST(AppendPairs, AreGivenOrAbsentAsAWhole) {
  Args no_keys = append();
  no_keys.k_new.dtype = no_keys.k_cache.dtype = no_keys.k_scale.dtype = FOVEA_NONE;
  no_keys.rope = {};
  EXPECT_THAT(Append(no_keys), Passes());
  Args no_values = append();
  no_values.v_new.dtype = no_values.v_cache.dtype = no_values.v_scale.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(no_values), Passes());
  Args none = no_values;
  none.k_new.dtype = none.k_cache.dtype = none.k_scale.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(none), Refuses("k_new.dtype,", "v_new.dtype and q.dtype are none"));

  Args args = append();
  args.k_new.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("k_new.dtype", "k_cache"));
  args = append();
  args.k_cache.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("k_cache.dtype", "k_new"));
  args = append();
  args.v_new.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("v_new.dtype", "v_cache"));
  args = append();
  args.v_cache.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("v_cache.dtype", "v_new"));
  args = no_keys;
  args.k_scale.dtype = FOVEA_F32;
  EXPECT_THAT(Append(args), Refuses("k_scale.dtype"));
}

TEST(AppendShapes, AgreeBetweenNewTokensAndCache) {
  auto resized = [](Args args, fovea_tensor Args::*field, int i, int64_t extent, int place) {
    fovea_tensor &t = args.*field;
    int64_t shape[] = {t.shape[0], t.shape[1], t.shape[2], t.shape[3]};
    shape[i] = extent;
    t = view(place, t.dtype, shape[0], shape[1], shape[2], shape[3]);
    return args;
  };
  for (int64_t extent : {0, 2, 3, 5, 9}) {
    EXPECT_THAT(Append(resized(append(), &Args::k_new, 2, extent, 0)),
                Refuses("k_new.shape[2] (heads_kv)"));
    EXPECT_THAT(Append(resized(append(), &Args::v_new, 2, extent, 0)),
                Refuses("v_new.shape[2] (heads_kv)"));
    EXPECT_THAT(Append(resized(append(), &Args::k_new, 3, extent, 0)),
                Refuses("k_new.shape[3] (dim)"));
    EXPECT_THAT(Append(resized(append(), &Args::v_new, 3, extent, 0)),
                Refuses("v_new.shape[3] (dim_v)"));
  }
  // v_new against k_new.
  EXPECT_THAT(Append(resized(append(), &Args::v_new, 0, 3, 1)), Refuses("v_new.shape[0] (batch)"));
  EXPECT_THAT(Append(resized(append(), &Args::v_new, 1, 2, 1)),
              Refuses("v_new.shape[1] (len_new)"));
  Args plain = append();
  plain.v_scale.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(resized(plain, &Args::v_cache, 0, 3, 3)), Refuses("v_cache.shape[0] (batch)"));
  EXPECT_THAT(Append(resized(plain, &Args::v_cache, 1, 6, 3)), Refuses("v_cache.shape[1] (len)"));
  Args heads = resized(plain, &Args::v_cache, 2, 2, 3);
  EXPECT_THAT(Append(resized(heads, &Args::v_new, 2, 2, 1)), Refuses("v_new.shape[2] (heads_kv)"));
}

TEST(AppendShapes, MayRepeatInputsByStridesOfZero) {
  Args args = append();
  for (fovea_tensor *t : {&args.k_new, &args.v_new, &args.k_scale, &args.v_scale})
    for (int i = 0; i < 3; ++i) t->stride[i] = 0;
  EXPECT_THAT(Append(args), Passes());
}

TEST(AppendShapes, MayHaveAnyDim) {
  Args args = append();
  args.v_new = view(1, FOVEA_F32, 2, 3, 4, 7);
  args.v_cache = view(3, FOVEA_I8, 2, 7, 4, 7);
  EXPECT_THAT(Append(args), Passes());
}

TEST(AppendScales, AreOf8BitCachesAndMatchThemOrBroadcast) {
  for (uint32_t dtype : kPlain) {
    Args keys = append(), values = append();
    keys.k_cache.dtype = values.v_cache.dtype = dtype;
    EXPECT_THAT(Append(keys), Refuses("k_scale.dtype", "k_cache.dtype"));
    EXPECT_THAT(Append(values), Refuses("v_scale.dtype", "v_cache.dtype"));
  }
  Args args = append();
  args.k_scale.shape[3] = 3;
  EXPECT_THAT(Append(args), Refuses("k_scale.shape[3] (blocks)", "k_cache.shape[3]"));
  args = append();
  args.v_scale.shape[1] = 6;
  EXPECT_THAT(Append(args), Refuses("v_scale.shape[1]"));
  args.v_scale.shape[1] = 1;
  Append checked(args);
  EXPECT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.args.v_scale.stride[1], 0);
}

// ---- Where the tokens go ---------------------------------------------------------------------

TEST(AppendSequences, FollowTheBatchUnlessPacked) {
  Append checked(append());
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.sequences, 2);
  EXPECT_EQ(checked.problem.rows, 3);
  EXPECT_EQ(checked.problem.heads_kv, 4);
  EXPECT_FALSE(checked.problem.packed);
  EXPECT_FALSE(checked.problem.paged);
  EXPECT_FALSE(checked.problem.empty);
  EXPECT_EQ(checked.problem.args.struct_size, sizeof(Args));

  Args args = packed_and_paged_append();
  Append packed(args);
  ASSERT_THAT(packed, Passes());
  EXPECT_EQ(packed.problem.sequences, 3);
  EXPECT_EQ(packed.problem.rows, 11);
  EXPECT_TRUE(packed.problem.packed);
  EXPECT_TRUE(packed.problem.paged);
  for (int64_t sequences : {kLeast, int64_t{-1}, kExtents}) {
    args.sequences.count = sequences;
    EXPECT_THAT(Append(args), Refuses("sequences.count"));
  }
  args.sequences.count = 0;
  EXPECT_THAT(Append(args), Passes());
  EXPECT_TRUE(Append(args).problem.empty);
  args = packed_and_paged_append();
  args.k_new.shape[0] = args.v_new.shape[0] = 2;
  EXPECT_THAT(Append(args), Refuses("k_new.shape[0] (batch)", "q_offsets"));
  args.k_new.dtype = args.k_cache.dtype = args.k_scale.dtype = FOVEA_NONE;
  args.rope = {};
  EXPECT_THAT(Append(args), Refuses("v_new.shape[0] (batch)", "q_offsets"));
}

TEST(AppendSequences, MayBringNothing) {
  Args rows = append();
  rows.k_new.shape[1] = rows.v_new.shape[1] = 0;
  rows.k_new.data = rows.v_new.data = nullptr;
  EXPECT_THAT(Append(rows), Passes());
  EXPECT_TRUE(Append(rows).problem.empty);
  Args heads = append();
  heads.k_scale.dtype = heads.v_scale.dtype = FOVEA_NONE;
  for (fovea_tensor *t : {&heads.k_new, &heads.v_new, &heads.k_cache, &heads.v_cache}) {
    t->shape[2] = 0;
    t->data = nullptr;
  }
  EXPECT_THAT(Append(heads), Passes());
  EXPECT_TRUE(Append(heads).problem.empty);
}

TEST(AppendDestination, IsARowOfTheCachePerSequence) {
  for (int64_t rows : {0, 1, 3}) {
    Args args = append();
    args.k_scale.dtype = args.v_scale.dtype = FOVEA_NONE;
    args.k_cache.shape[0] = args.v_cache.shape[0] = rows;
    EXPECT_THAT(Append(args), Refuses("k_cache.shape[0] (batch)", "sequences, which is 2"));
    args.slots = at<int64_t>(region(20));
    args.sequences.kv_lengths = nullptr;
    EXPECT_THAT(Append(args), Passes()) << "slots name any row";
    args.slots = nullptr;
    args.sequences.kv_lengths = at<int32_t>(region(6));
    args.sequences.pages.ids = at<int32_t>(region(22));
    args.sequences.pages.row_stride = args.sequences.pages.count = 1;
    EXPECT_THAT(Append(args), Passes()) << "so do pages";
    args.sequences.pages = {};
    args.k_new.dtype = args.k_cache.dtype = FOVEA_NONE;
    args.rope = {};
    EXPECT_THAT(Append(args), Refuses("v_cache.shape[0] (batch)"));
  }
}

TEST(AppendDestination, IsNamedByLengthsOrBySlots) {
  Args neither = append();
  neither.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Append(neither), Refuses("sequences.kv_lengths", "without slots"));
  Args both = append();
  both.slots = at<int64_t>(region(20));
  EXPECT_THAT(Append(both), Refuses("sequences.kv_lengths", "with slots"));
  Args pages = packed_and_paged_append();
  pages.slots = at<int64_t>(region(20));
  pages.sequences.kv_lengths = nullptr;
  EXPECT_THAT(Append(pages), Refuses("sequences.pages.ids", "with slots"));
}

TEST(AppendDestination, HasSlotsToDivideBy) {
  for (bool paged : {false, true}) {
    Args args = paged ? packed_and_paged_append() : by_slots();
    args.k_scale.dtype = args.v_scale.dtype = FOVEA_NONE;
    args.k_cache.shape[1] = args.v_cache.shape[1] = 1;
    EXPECT_THAT(Append(args), Passes());
    args.k_cache.shape[1] = args.v_cache.shape[1] = 0;
    EXPECT_THAT(Append(args), Refuses("k_cache.shape[1] (len)"));
  }
  Args rows = append();
  rows.k_scale.dtype = rows.v_scale.dtype = FOVEA_NONE;
  rows.k_cache.shape[1] = rows.v_cache.shape[1] = 0;
  EXPECT_THAT(Append(rows), Passes()) << "a cache without room: every token is skipped";
}

TEST(AppendPages, HaveARowOfIdsPerSequenceWhenDense) {
  Args args = packed_and_paged_append();
  args.sequences.pages.row_stride = 6;
  EXPECT_THAT(Append(args), Passes());
  args.sequences.pages.row_stride = 5;
  EXPECT_THAT(Append(args), Refuses("sequences.pages.row_stride", "sequences.pages.count"));
  args.sequences.pages.offsets = at<int32_t>(region(23));
  EXPECT_THAT(Append(args), Passes());
  args.sequences.pages.ids = nullptr;
  EXPECT_THAT(Append(args), Refuses("sequences.pages.offsets", "without pages.ids"));
  args.sequences.pages.v_ids = at<int32_t>(region(24));
  EXPECT_THAT(Append(args), Refuses("sequences.pages.v_ids", "without pages.ids"));
}

TEST(AppendPages, AreSharedByAllHeads) {
  Args args = packed_and_paged_append();
  args.sequences.pages.head_stride = 6;
  EXPECT_THAT(Append(args), Refuses("sequences.pages.head_stride", "in an append"));
  args.sequences.pages.head_stride = 0;
  args.sequences.pages.head_lengths = at<int32_t>(region(24));
  EXPECT_THAT(Append(args), Refuses("sequences.pages.head_lengths", "in an append"));
}

TEST(AppendPages, AreCountedWhereThereIsSomethingToLookUp) {
  for (bool csr : {false, true}) {
    Args args = packed_and_paged_append();
    if (csr) args.sequences.pages.offsets = at<int32_t>(region(23));
    args.sequences.pages.count = 0;
    EXPECT_THAT(Append(args), Refuses("sequences.pages.count", "at least 1")) << csr;
    args.sequences.count = 0;
    EXPECT_THAT(Append(args), Passes()) << "no sequences";
    args.sequences.count = 3;
    args.k_scale.dtype = args.v_scale.dtype = FOVEA_NONE;
    args.k_cache.shape[0] = args.v_cache.shape[0] = 0;
    EXPECT_THAT(Append(args), Passes()) << "no pages";
  }
}

TEST(AppendTensors, HaveAnyStridesIfAnExtentIsZero) {
  Args args = append();
  args.k_new.shape[1] = args.v_new.shape[1] = 0;
  args.k_cache.shape[1] = args.v_cache.shape[1] = args.k_scale.shape[1] = args.v_scale.shape[1] = 0;
  for (fovea_tensor *t : {&args.k_new, &args.v_new, &args.k_cache, &args.v_cache, &args.k_scale})
    for (int i = 0; i < 4; ++i) t->stride[i] = i == 2 ? -1 : 0;
  Append checked(args);
  ASSERT_THAT(checked, Passes());
  EXPECT_TRUE(checked.problem.empty);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(checked.problem.args.k_cache.stride[i], 0);
}

// ---- RoPE ------------------------------------------------------------------------------------

TEST(AppendRope, IsAPairOfTablesForKeys) {
  Args args = append();
  args.rope.sin = nullptr;
  EXPECT_THAT(Append(args), Refuses("rope.sin", "NULL"));
  args.rope = {};
  EXPECT_THAT(Append(args), Passes());
  args.rope.sin = at<float>(region(9));
  EXPECT_THAT(Append(args), Refuses("rope.sin", "without rope.cos"));
  args = append();
  args.k_new.dtype = args.k_cache.dtype = args.k_scale.dtype = FOVEA_NONE;
  EXPECT_THAT(Append(args), Refuses("rope.cos", "k_new"));
}

TEST(AppendRope, TurnsAnEvenNumberOfElementsUpToDim) {
  for (int32_t rotary = 0; rotary <= 20; ++rotary) {
    Args args = append();
    args.rope.stride = 32;
    args.rope.rotary_dim = rotary;
    if (rotary >= 2 && rotary <= 16 && rotary % 2 == 0)
      EXPECT_THAT(Append(args), Passes()) << rotary;
    else
      EXPECT_THAT(Append(args), Refuses("rope.rotary_dim")) << rotary;
  }
}

TEST(AppendRope, HasARowPerPosition) {
  Args args = append();
  args.rope.stride = 3;
  EXPECT_THAT(Append(args), Refuses("rope.stride", "rope.rotary_dim / 2, which is 4"));
  args.rope.rows = 2;
  EXPECT_THAT(Append(args), Refuses("rope.stride"));
  args.rope.rows = 1;
  EXPECT_THAT(Append(args), Passes()) << "one row needs no stride";
}

TEST(AppendRope, NeedsPositionsWithSlots) {
  Args args = by_slots();
  EXPECT_THAT(Append(args), Passes());
  args.rope.positions = nullptr;
  EXPECT_THAT(Append(args), Refuses("rope.positions", "slots"));
  args.rope = {};
  EXPECT_THAT(Append(args), Passes());
  args = append();
  args.rope.positions = nullptr;
  EXPECT_THAT(Append(args), Passes()) << "sequences.kv_lengths[s] + t";
}

TEST(AppendRope, KeepsItsRangesEvenWithoutTables) {
  Args args = append();
  args.rope = {};
  EXPECT_THAT(Append(args), Passes());
  args.rope.stride = -1;
  EXPECT_THAT(Append(args), Refuses("rope.stride", "at least 0"));
  args.rope.stride = 0;
  args.rope.rotary_dim = -1;
  EXPECT_THAT(Append(args), Refuses("rope.rotary_dim", "at least 0"));
}

TEST(AppendRope, IsNotAskedForByNumbersAlone) {
  Args args = append();
  args.rope.cos = args.rope.sin = nullptr;
  EXPECT_THAT(Append(args), Refuses("rope.positions", "without rope.cos"));
  args.rope.positions = nullptr;
  EXPECT_THAT(Append(args), Refuses("rope.rows", "without rope.cos"));
  args.rope.rows = 0;
  EXPECT_THAT(Append(args), Refuses("rope.rotary_dim", "without rope.cos"));
  args.rope.rotary_dim = 0;
  EXPECT_THAT(Append(args), Passes());
}

// ---- Memory ----------------------------------------------------------------------------------

struct Array {
  const char *name;
  void (*place)(Args &, uintptr_t);
  int64_t bytes;  // in packed_and_paged_append(), or in by_slots() for slots
  uintptr_t alignment;
};
#define PLACE(path)      \
#path, [](Args & args, \
            uintptr_t    \
                address) { args.path = at<std::remove_pointer_t<decltype(args.path)>>(address); }

const std::vector<Array> kArrays = {
    {PLACE(sequences.q_offsets), 4 * 4, 4},
    {PLACE(sequences.kv_lengths), 3 * 4, 4},
    {PLACE(sequences.pages.ids), (2 * 7 + 6) * 4, 4},
    {PLACE(sequences.pages.v_ids), (2 * 7 + 6) * 4, 4},
    {PLACE(rope.positions), 11 * 4, 4},
    {PLACE(rope.cos), (99 * 4 + 4) * 4, 4},
    {PLACE(rope.sin), (99 * 4 + 4) * 4, 4},
    {PLACE(errors), 3 * 4, 4},
};

TEST(AppendArrays, AreAligned) {
  for (const Array &array : kArrays)
    for (uintptr_t offset : {1, 2, 3}) {
      Args args = packed_and_paged_append();
      array.place(args, region(60) + offset);
      EXPECT_THAT(Append(args), Refuses(array.name, "4 bytes"));
    }
  for (uintptr_t offset : {1, 2, 4, 7}) {
    Args args = by_slots();
    args.slots = at<int64_t>(region(60) + offset);
    EXPECT_THAT(Append(args), Refuses("slots", "8 bytes"));
  }
  Args args = packed_and_paged_append();
  args.sequences.pages.offsets = at<int32_t>(region(60) + 1);
  EXPECT_THAT(Append(args), Refuses("sequences.pages.offsets", "4 bytes"));
}

TEST(AppendOverlap, KeepsCachesApartFromArrays) {
  for (const Array &array : kArrays) {
    Args args = packed_and_paged_append();
    array.place(args, region(2) - array.bytes);
    EXPECT_THAT(Append(args), Passes()) << array.name;
    array.place(args, region(2) - array.bytes + 4);
    EXPECT_THAT(Append(args), Refuses("k_cache", std::string("overlaps ") + array.name));
    array.place(args, region(3) - array.bytes + 4);
    EXPECT_THAT(Append(args), Refuses("v_cache", std::string("overlaps ") + array.name));
  }
  Args args = by_slots();
  args.slots = at<int64_t>(region(2) - 6 * 8);
  EXPECT_THAT(Append(args), Passes());
  args.slots = at<int64_t>(region(2) - 5 * 8);
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps slots"));
  args = packed_and_paged_append();
  args.sequences.pages.offsets = at<int32_t>(region(2) - 4 * 4);
  EXPECT_THAT(Append(args), Passes());
  args.sequences.pages.offsets = at<int32_t>(region(2) - 3 * 4);
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps sequences.pages.offsets"));
}

TEST(AppendOverlap, KeepsCachesApartFromTensors) {
  for (fovea_tensor Args::*cache : {&Args::k_cache, &Args::v_cache})
    for (fovea_tensor Args::*input : {&Args::k_new, &Args::v_new, &Args::k_scale, &Args::v_scale}) {
      Args args = append();
      (args.*input).data = (args.*cache).data;
      EXPECT_THAT(Append(args),
                  Refuses(cache == &Args::k_cache ? "k_cache" : "v_cache", "overlaps"));
    }
  Args args = append();
  args.v_cache.data = args.k_cache.data;
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache"));
  args = append();
  args.v_new.data = args.k_new.data;
  args.v_scale.data = args.k_scale.data;
  EXPECT_THAT(Append(args), Passes()) << "inputs may share memory";
}

TEST(AppendOverlap, LetsCachesAndScalesInterleaveInAPage) {
  // A page has 512 bytes: 4 slots of 4 heads with 16 bytes of keys, 8 of values and 2 scales each.
  Args args = packed_and_paged_append();
  args.v_scale.dtype = FOVEA_NONE;
  args.v_cache.data = at(region(2) + 16);
  for (fovea_tensor *t : {&args.k_cache, &args.v_cache}) {
    t->stride[0] = 512;
    t->stride[1] = 128;
    t->stride[2] = 32;
  }
  args.k_scale.data = at(region(2) + 24);
  args.k_scale.stride[0] = 512 / 4;
  args.k_scale.stride[1] = 128 / 4;
  args.k_scale.stride[2] = 32 / 4;
  EXPECT_THAT(Append(args), Passes());
  args.v_cache.data = at(region(2) + 15);
  EXPECT_THAT(Append(args), Refuses("k_cache", "overlaps v_cache"));
  args.v_cache.data = at(region(2) + 17);
  EXPECT_THAT(Append(args), Refuses("v_cache", "overlaps k_scale"));
}

TEST(AppendOverlap, KeepsACacheApartFromItself) {
  Args args = append();
  args.k_cache.stride[1] = 63;
  EXPECT_THAT(Append(args), Refuses("k_cache.stride[1]", "at least 64"));
  args = append();
  args.v_cache.stride[0] = 0;
  EXPECT_THAT(Append(args), Refuses("v_cache.stride[0]"));
}

TEST(AppendArrays, AreNoLongerThanTheAddressSpace) {
  Args args = append();
  args.rope.stride = kMost;
  EXPECT_THAT(Append(args), Refuses("rope.cos", "too long"));
  args = append();
  args.rope.rows = kMost;
  EXPECT_THAT(Append(args), Refuses("rope.cos", "too long"));
  args.rope.stride = kMost;
  EXPECT_THAT(Append(args), Refuses("rope.cos", "too long")) << "126 bits";
}

}  // namespace
}  // namespace fovea_test
