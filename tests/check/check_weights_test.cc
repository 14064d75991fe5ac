// The rules of fovea_attention_weights beyond those it shares with fovea_attention.
#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

struct Case {
  fovea_attention_args attention = fovea_test::attention();
  fovea_weights_args args = {};

  Case() {
    args.struct_size = sizeof args;
    args.weights = view(40, FOVEA_F32, 2, 3, 4, 7);
    args.sequences = at<int32_t>(region(41));
    args.rows = at<int32_t>(region(42));
    args.heads = at<int32_t>(region(43));
  }
  Weights Check() {
    args.attention = &attention;
    return Weights(args);
  }
};

TEST(WeightsAttention, IsGiven) {
  fovea_weights_args args = Case().args;
  args.attention = nullptr;
  EXPECT_THAT(Weights(args), Refuses("attention", "NULL"));
}

TEST(WeightsAttention, KeepsTheRulesOfWhatItUses) {
  Case q;
  q.attention.q.dtype = FOVEA_NONE;
  EXPECT_THAT(q.Check(), Refuses("q.dtype"));
  Case k;
  k.attention.k.dtype = FOVEA_NONE;
  EXPECT_THAT(k.Check(), Refuses("k.dtype"));
  Case dim;
  dim.attention.k = view(1, FOVEA_I8, 2, 7, 2, 24);
  EXPECT_THAT(dim.Check(), Refuses("k.shape[3] (dim)"));
  Case heads;
  heads.attention.q = view(0, FOVEA_E4M3, 2, 5, 3, 16);
  EXPECT_THAT(heads.Check(), Refuses("q.shape[2] (heads_q)"));
  Case scale;
  scale.attention.k_scale.shape[3] = 3;
  EXPECT_THAT(scale.Check(), Refuses("k_scale.shape[3] (blocks)"));
  Case mask;
  mask.attention.visibility.mask.shape[2] = 3;
  EXPECT_THAT(mask.Check(), Refuses("visibility.mask.shape[2] (heads_q)"));
  Case used[4];
  used[0].attention.q_scale.dtype = 99;
  used[1].attention.k_scale.dtype = 99;
  used[2].attention.visibility.mask.dtype = 99;
  used[3].attention.logits.bias.dtype = 99;
  for (Case &broken : used) EXPECT_EQ(broken.Check().status, FOVEA_BAD_ARGUMENT);
  Case data;
  data.attention.q.data = nullptr;
  EXPECT_THAT(data.Check(), Refuses("q.data"));
  Case array;
  array.attention.logits.sinks = at<float>(region(20) + 2);
  EXPECT_THAT(array.Check(), Refuses("logits.sinks"));
  Case size;
  size.attention.struct_size = 8;
  EXPECT_THAT(size.Check(), Refuses("fovea_attention_args.struct_size"));
}

TEST(WeightsAttention, IgnoresValuesOutputsAndWorkspace) {
  Case test;
  for (fovea_tensor fovea_attention_args::*field :
       {&fovea_attention_args::v, &fovea_attention_args::out, &fovea_attention_args::lse,
        &fovea_attention_args::v_scale, &fovea_attention_args::out_scale}) {
    fovea_tensor &tensor = test.attention.*field;
    tensor.dtype = 77;
    tensor.shape[1] = -1;
    tensor.data = at(1);
  }
  test.attention.workspace = at(3);
  Weights checked = test.Check();
  ASSERT_THAT(checked, Passes());
  const fovea_attention_args &copy = checked.problem.attention.args;
  EXPECT_EQ(copy.v.dtype, FOVEA_NONE);
  EXPECT_EQ(copy.out.dtype, FOVEA_NONE);
  EXPECT_EQ(copy.lse.dtype, FOVEA_NONE);
  EXPECT_EQ(copy.v_scale.dtype, FOVEA_NONE);
  EXPECT_EQ(copy.out_scale.dtype, FOVEA_NONE);
  EXPECT_EQ(copy.workspace, nullptr);
  EXPECT_EQ(checked.problem.attention.dim_v, 16) << "dim";
}

TEST(WeightsTensor, HasADtypeOfTheTable) {
  for (uint32_t dtype = 0; dtype <= 33; ++dtype) {
    Case test;
    test.args.weights.dtype = dtype;
    if (dtype == FOVEA_F32 || dtype == FOVEA_F16 || dtype == FOVEA_BF16)
      EXPECT_THAT(test.Check(), Passes()) << dtype;
    else
      EXPECT_THAT(test.Check(), Refuses("weights.dtype")) << dtype;
  }
}

TEST(WeightsTensor, KeepsTheRulesOfAnOutput) {
  Case last;
  last.args.weights.stride[3] = 2;
  EXPECT_THAT(last.Check(), Refuses("weights.stride[3]"));
  Case self;
  self.args.weights.stride[1] = 27;
  EXPECT_THAT(self.Check(), Refuses("weights.stride[1]"));
  Case data;
  data.args.weights.data = nullptr;
  EXPECT_THAT(data.Check(), Refuses("weights.data"));
}

TEST(WeightsTensor, HasAnyStridesIfAnExtentIsZero) {
  for (int i = 0; i < 4; ++i) {
    Case test;
    test.args.weights.shape[i] = 0;
    for (int64_t &stride : test.args.weights.stride) stride = -1;
    EXPECT_THAT(test.Check(), Passes());
  }
}

TEST(WeightsTensor, MayHaveAnyExtents) {
  Case test;
  test.args.weights = view(40, FOVEA_F32, 9, 8, 7, 99);
  Weights checked = test.Check();
  ASSERT_THAT(checked, Passes()) << "numbers out of range give zeros";
  EXPECT_FALSE(checked.problem.attention.empty);
  EXPECT_EQ(checked.problem.weights.shape[3], 99);
  EXPECT_EQ(checked.problem.sequences, at<int32_t>(region(41)));
  EXPECT_EQ(checked.problem.rows, at<int32_t>(region(42)));
  EXPECT_EQ(checked.problem.heads, at<int32_t>(region(43)));
  for (int i = 0; i < 4; ++i) {
    Case empty;
    empty.args.weights.shape[i] = 0;
    empty.args.weights.data = nullptr;
    EXPECT_THAT(empty.Check(), Passes());
    EXPECT_TRUE(empty.Check().problem.attention.empty);
  }
  Case rows;
  rows.attention.q.shape[1] = rows.attention.q_scale.shape[1] = 0;
  EXPECT_FALSE(rows.Check().problem.attention.empty) << "zeros are still to be written";
}

TEST(WeightsTensor, OverlapsNoInput) {
  const Case base;
  const int64_t bytes = 2 * 3 * 4 * 7 * 4;
  const uintptr_t begin = region(40);
  auto place = [&](auto set, const char *name) {
    for (int64_t distance : {int64_t{0}, bytes - 4}) {
      Case test;
      set(test, begin + distance);
      EXPECT_THAT(test.Check(), Refuses("weights", std::string("overlaps ") + name));
    }
    Case test;
    set(test, begin + bytes);
    EXPECT_THAT(test.Check(), Passes()) << name;
  };
  place([](Case &c, uintptr_t to) { c.attention.q.data = at(to); }, "q");
  place([](Case &c, uintptr_t to) { c.attention.k.data = at(to); }, "k");
  place([](Case &c, uintptr_t to) { c.attention.logits.bias.data = at(to); }, "logits.bias");
  place([](Case &c, uintptr_t to) { c.attention.sequences.kv_first = at<int32_t>(to); },
        "sequences.kv_first");
  place([](Case &c, uintptr_t to) { c.args.sequences = at<int32_t>(to); }, "sequences");
  place([](Case &c, uintptr_t to) { c.args.rows = at<int32_t>(to); }, "rows");
  place([](Case &c, uintptr_t to) { c.args.heads = at<int32_t>(to); }, "heads");
}

TEST(WeightsSelection, HasOneNumberPerExtent) {
  // The weights lie right behind the array, then one element closer.
  const int64_t counts[] = {2, 3, 4};
  const int32_t *fovea_weights_args::*fields[] = {
      &fovea_weights_args::sequences, &fovea_weights_args::rows, &fovea_weights_args::heads};
  for (int i = 0; i < 3; ++i) {
    Case test;
    test.args.*fields[i] = at<int32_t>(region(40) - counts[i] * 4);
    EXPECT_THAT(test.Check(), Passes());
    test.args.*fields[i] += 1;
    EXPECT_THAT(test.Check(), Refuses("weights", "overlaps"));
  }
}

TEST(WeightsSelection, IsAlignedOrAbsent) {
  Case none;
  none.args.sequences = none.args.rows = none.args.heads = nullptr;
  EXPECT_THAT(none.Check(), Passes());
  Case sequences, rows, heads;
  sequences.args.sequences = at<int32_t>(region(41) + 1);
  rows.args.rows = at<int32_t>(region(41) + 2);
  heads.args.heads = at<int32_t>(region(41) + 3);
  EXPECT_THAT(sequences.Check(), Refuses("sequences", "4 bytes"));
  EXPECT_THAT(rows.Check(), Refuses("rows", "4 bytes"));
  EXPECT_THAT(heads.Check(), Refuses("heads", "4 bytes"));
}

// ---- The outputs besides weights ----------------------------------------------------------------

// All outputs: 2 sequences, 3 rows, 4 heads, 7 keys.
struct Outputs : Case {
  Outputs() {
    args.mass = view(44, FOVEA_F32, 2, 1, 4, 7);
    args.statistics = view(45, FOVEA_F32, 2, 3, 4, 4);
    args.largest_keys = at<int32_t>(region(46));
  }
};

// Mass alone, whose rows nothing counts.
struct Alone : Case {
  Alone() {
    args.weights = fovea_tensor{};
    args.mass = view(44, FOVEA_F32, 2, 1, 4, 7);
    args.rows = nullptr;
  }
};

TEST(WeightsOutputs, MayBeAnyButNotNone) {
  EXPECT_THAT(Outputs().Check(), Passes());
  Outputs none;
  none.args.weights.dtype = none.args.mass.dtype = none.args.statistics.dtype = FOVEA_NONE;
  EXPECT_THAT(none.Check(), Refuses("weights.dtype", "mass and statistics"));
  Outputs only_weights, only_mass, only_statistics;
  only_weights.args.mass = only_weights.args.statistics = fovea_tensor{};
  only_weights.args.largest_keys = nullptr;
  EXPECT_THAT(only_weights.Check(), Passes());
  only_mass.args.weights = only_mass.args.statistics = fovea_tensor{};
  only_mass.args.largest_keys = nullptr;
  only_mass.args.row_count = 3;
  EXPECT_THAT(only_mass.Check(), Passes());
  only_statistics.args.weights = only_statistics.args.mass = fovea_tensor{};
  Weights checked = only_statistics.Check();
  ASSERT_THAT(checked, Passes());
  EXPECT_EQ(checked.problem.entries, 2);
  EXPECT_EQ(checked.problem.row_count, 3);
  EXPECT_EQ(checked.problem.head_count, 4);
}

TEST(WeightsOutputs, AreOfF32ExceptWeights) {
  for (uint32_t dtype = 2; dtype <= 9; ++dtype) {
    Outputs mass, statistics;
    mass.args.mass.dtype = statistics.args.statistics.dtype = dtype;
    EXPECT_THAT(mass.Check(), Refuses("mass.dtype"));
    EXPECT_THAT(statistics.Check(), Refuses("statistics.dtype"));
  }
}

TEST(WeightsOutputs, KeepTheRulesOfAnOutput) {
  Outputs mass_last, mass_self, statistics_last, statistics_self, keys;
  mass_last.args.mass.stride[3] = 2;
  EXPECT_THAT(mass_last.Check(), Refuses("mass.stride[3]"));
  mass_self.args.mass.stride[2] = 6;
  EXPECT_THAT(mass_self.Check(), Refuses("mass.stride[2]"));
  statistics_last.args.statistics.stride[3] = 0;
  EXPECT_THAT(statistics_last.Check(), Refuses("statistics.stride[3]"));
  statistics_self.args.statistics.stride[1] = 15;
  EXPECT_THAT(statistics_self.Check(), Refuses("statistics.stride[1]"));
  keys.args.largest_keys = at<int32_t>(region(46) + 2);
  EXPECT_THAT(keys.Check(), Refuses("largest_keys", "4 bytes"));
}

TEST(WeightsOutputs, AgreeInTheirExtents) {
  const auto refuses = [](fovea_tensor fovea_weights_args::*tensor, int i, int64_t change,
                          const char *field) {
    Outputs test;
    fovea_tensor &t = test.args.*tensor;
    int64_t n[] = {t.shape[0], t.shape[1], t.shape[2], t.shape[3]};
    n[i] += change;
    t = fovea_contiguous(t.data, FOVEA_F32, n[0], n[1], n[2], n[3]);
    EXPECT_THAT(test.Check(), Refuses(field)) << change;
  };
  for (int64_t change : {-1, 1}) {
    refuses(&fovea_weights_args::mass, 0, change, "mass.shape[0] (sequences)");
    refuses(&fovea_weights_args::mass, 1, change, "mass.shape[1]");
    refuses(&fovea_weights_args::mass, 2, change, "mass.shape[2] (heads)");
    refuses(&fovea_weights_args::mass, 3, change, "mass.shape[3] (keys)");
    refuses(&fovea_weights_args::statistics, 0, change, "statistics.shape[0] (sequences)");
    refuses(&fovea_weights_args::statistics, 1, change, "statistics.shape[1] (rows)");
    refuses(&fovea_weights_args::statistics, 2, change, "statistics.shape[2] (heads)");
    refuses(&fovea_weights_args::statistics, 3, change, "statistics.shape[3]");
  }
}

TEST(WeightsOutputs, OverlapNothing) {
  const auto meets = [](auto set, const char *first, const char *second) {
    Outputs test;
    set(test);
    EXPECT_THAT(test.Check(), Refuses(first, std::string("overlaps ") + second));
  };
  meets([](Case &c) { c.args.mass.data = at(region(0)); }, "mass", "q");
  meets([](Case &c) { c.args.mass.data = at(region(43)); }, "mass", "heads");
  meets([](Case &c) { c.args.mass.data = at(region(40)); }, "mass", "weights");
  meets([](Case &c) { c.args.mass.data = at(region(46)); }, "mass", "largest_keys");
  meets([](Case &c) { c.args.statistics.data = at(region(1)); }, "statistics", "k");
  meets([](Case &c) { c.args.statistics.data = at(region(44)); }, "statistics", "mass");
  meets([](Case &c) { c.args.statistics.data = at(region(40)); }, "statistics", "weights");
  meets([](Case &c) { c.args.largest_keys = at<int32_t>(region(42)); }, "largest_keys", "rows");
  meets([](Case &c) { c.args.largest_keys = at<int32_t>(region(40)); }, "weights", "largest_keys");
  // The array has 2 * 3 * 4 numbers.
  Outputs test;
  test.args.largest_keys = at<int32_t>(region(44) - 96);
  EXPECT_THAT(test.Check(), Passes());
  test.args.largest_keys += 1;
  EXPECT_THAT(test.Check(), Refuses("mass", "overlaps largest_keys"));
}

TEST(WeightsOutputs, AreEmptyOnlyIfAllAre) {
  Outputs keyless, rowless;
  keyless.args.weights.shape[3] = keyless.args.mass.shape[3] = 0;
  ASSERT_THAT(keyless.Check(), Passes());
  EXPECT_FALSE(keyless.Check().problem.attention.empty) << "statistics are to be written";
  rowless.args.weights.shape[1] = rowless.args.statistics.shape[1] = 0;
  ASSERT_THAT(rowless.Check(), Passes());
  EXPECT_FALSE(rowless.Check().problem.attention.empty) << "mass is to be written";
  rowless.args.mass.shape[0] = rowless.args.weights.shape[0] = 0;
  rowless.args.statistics.shape[0] = 0;
  ASSERT_THAT(rowless.Check(), Passes());
  EXPECT_TRUE(rowless.Check().problem.attention.empty);
}

TEST(WeightsKind, IsOneOfFour) {
  for (uint32_t kind = 0; kind < 6; ++kind) {
    Case test;
    test.args.kind = kind;
    if (kind <= FOVEA_WEIGHTS_LOGITS) {
      Weights checked = test.Check();
      EXPECT_THAT(checked, Passes());
      EXPECT_EQ(checked.problem.kind, kind);
    } else {
      EXPECT_THAT(test.Check(), Refuses("kind", "FOVEA_WEIGHTS_LOGITS"));
    }
  }
  Alone without;
  without.args.kind = FOVEA_WEIGHTS_SCALED;
  EXPECT_THAT(without.Check(), Refuses("kind", "without weights"));
}

TEST(WeightsMass, HasItsFlagsOnlyIfItIsThere) {
  Outputs both;
  both.args.heads = nullptr;
  both.args.mass = view(44, FOVEA_F32, 2, 1, 2, 7);
  both.args.mass_by_kv_head = both.args.mass_accumulate = 1;
  Weights checked = both.Check();
  ASSERT_THAT(checked, Passes());
  EXPECT_TRUE(checked.problem.mass_by_kv_head);
  EXPECT_TRUE(checked.problem.mass_accumulate);
  EXPECT_EQ(checked.problem.head_count, 4);
  Case by, accumulate;
  by.args.mass_by_kv_head = 1;
  EXPECT_THAT(by.Check(), Refuses("mass_by_kv_head", "without mass"));
  accumulate.args.mass_accumulate = 1;
  EXPECT_THAT(accumulate.Check(), Refuses("mass_accumulate", "without mass"));
  both.args.mass_by_kv_head = 2;
  EXPECT_THAT(both.Check(), Refuses("mass_by_kv_head", "0, 1"));
  both.args.mass_by_kv_head = 1;
  both.args.mass_accumulate = 2;
  EXPECT_THAT(both.Check(), Refuses("mass_accumulate", "0, 1"));
}

TEST(WeightsMass, ByKvHeadHasAllHeads) {
  Outputs test;
  test.args.mass_by_kv_head = 1;
  EXPECT_THAT(test.Check(), Refuses("heads", "with mass_by_kv_head"));
  test.args.heads = nullptr;
  EXPECT_THAT(test.Check(), Refuses("mass.shape[2]", "with mass_by_kv_head"));
  test.args.mass = view(44, FOVEA_F32, 2, 1, 2, 7);
  EXPECT_THAT(test.Check(), Passes());
  test.args.weights = view(40, FOVEA_F32, 2, 3, 3, 7);
  EXPECT_THAT(test.Check(), Refuses("weights.shape[2]", "with mass_by_kv_head"));
  test.args.weights = fovea_tensor{};
  test.args.statistics = view(45, FOVEA_F32, 2, 3, 3, 4);
  EXPECT_THAT(test.Check(), Refuses("statistics.shape[2]"));
}

TEST(WeightsRows, AreCountedByTheirOutputs) {
  Outputs test;
  for (int64_t count : {2, 4, 1}) {
    test.args.row_count = count;
    EXPECT_THAT(test.Check(), Refuses("row_count", "weights.shape[1]"));
    test.args.weights = fovea_tensor{};
    EXPECT_THAT(test.Check(), Refuses("row_count", "statistics.shape[1]"));
    test = Outputs();
  }
  for (int64_t count : {0, 3}) {
    test.args.row_count = count;
    EXPECT_THAT(test.Check(), Passes());
  }
  for (int64_t count : {int64_t{-1}, int64_t{INT32_MAX} + 1}) {
    test.args.row_count = count;
    EXPECT_THAT(test.Check(), Refuses("row_count"));
  }
}

TEST(WeightsRows, OfMassAloneAreAllUnlessCounted) {
  Alone test;
  ASSERT_THAT(test.Check(), Passes());
  EXPECT_EQ(test.Check().problem.row_count, -1);
  test.args.row_count = 5;
  ASSERT_THAT(test.Check(), Passes());
  EXPECT_EQ(test.Check().problem.row_count, 5);
  test.args.rows = at<int32_t>(region(44) - 5 * 4);
  EXPECT_THAT(test.Check(), Passes());
  test.args.rows += 1;
  EXPECT_THAT(test.Check(), Refuses("mass", "overlaps rows"));
  test.args.row_count = 0;
  EXPECT_THAT(test.Check(), Refuses("row_count", "with rows"));
  test.args.rows = nullptr;
  test.args.last_rows = 1;
  EXPECT_THAT(test.Check(), Refuses("row_count", "with last_rows"));
  test.args.row_count = 2;
  Weights checked = test.Check();
  ASSERT_THAT(checked, Passes());
  EXPECT_TRUE(checked.problem.last_rows);
}

TEST(WeightsRows, AreEitherListedOrTheLast) {
  Case test;
  test.args.last_rows = 1;
  EXPECT_THAT(test.Check(), Refuses("rows", "with last_rows"));
  test.args.rows = nullptr;
  EXPECT_THAT(test.Check(), Passes());
  test.args.last_rows = 2;
  EXPECT_THAT(test.Check(), Refuses("last_rows", "0, 1"));
}

TEST(WeightsStatistics, HaveTheLargestKeysOnlyIfTheyAreThere) {
  Outputs test;
  test.args.statistics = fovea_tensor{};
  EXPECT_THAT(test.Check(), Refuses("largest_keys", "without statistics"));
  test.args.largest_keys = nullptr;
  EXPECT_THAT(test.Check(), Passes());
}

}  // namespace
}  // namespace fovea_test
