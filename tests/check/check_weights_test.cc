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

}  // namespace
}  // namespace fovea_test
