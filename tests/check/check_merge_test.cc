// The rules of fovea_merge.
#include "tests/check/check_case.h"

namespace fovea_test {
namespace {

struct Case {
  std::vector<fovea_tensor> outs, lses;
  fovea_merge_args args = {};

  explicit Case(int parts = 3) {
    const uint32_t dtypes[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
    for (int n = 0; n < parts; ++n) {
      outs.push_back(view(2 * n, dtypes[n % 3], 2, 5, 4, 6));
      lses.push_back(view(2 * n + 1, FOVEA_F32, 2, 5, 4, 1));
    }
    args.struct_size = sizeof args;
    args.count = parts;
    args.out = view(60, FOVEA_F32, 2, 5, 4, 6);
    args.lse = view(61, FOVEA_F32, 2, 5, 4, 1);
  }
  Merge Check() {
    args.outs = outs.data();
    args.lses = lses.data();
    return Merge(args);
  }
};

std::string Part(const char *array, int n, const std::string &rest) {
  return std::string(array) + "[" + std::to_string(n) + "]." + rest;
}

TEST(MergeCount, IsAtLeastTwo) {
  for (int32_t count : {INT32_MIN, -1, 0, 1}) {
    Case test;
    test.args.count = count;
    EXPECT_THAT(test.Check(), Refuses("count", "at least 2")) << count;
  }
  for (int parts : {2, 3, 20}) {
    Case test(parts);
    Merge checked = test.Check();
    EXPECT_THAT(checked, Passes()) << parts;
    EXPECT_EQ(checked.problem.args.count, parts);
    EXPECT_EQ(checked.problem.args.outs, test.outs.data());
    EXPECT_EQ(checked.problem.args.lses, test.lses.data());
  }
}

TEST(MergeArgs, HaveNoReservedBitsAndBothArrays) {
  Case reserved;
  reserved.args.reserved = 1;
  EXPECT_THAT(reserved.Check(), Refuses("reserved"));
  Case test;
  test.Check();
  fovea_merge_args args = test.args;
  args.outs = nullptr;
  EXPECT_THAT(Merge(args), Refuses("outs", "NULL"));
  args = test.args;
  args.lses = nullptr;
  EXPECT_THAT(Merge(args), Refuses("lses", "NULL"));
  args = test.args;
  args.outs = at<const fovea_tensor>(reinterpret_cast<uintptr_t>(args.outs) + 4);
  EXPECT_THAT(Merge(args), Refuses("outs", "aligned"));
  args = test.args;
  args.lses = at<const fovea_tensor>(reinterpret_cast<uintptr_t>(args.lses) + 1);
  EXPECT_THAT(Merge(args), Refuses("lses", "aligned"));
}

TEST(MergeTensors, HaveAnyStridesIfAnExtentIsZero) {
  Case test;
  std::vector<fovea_tensor *> all = {&test.args.out, &test.args.lse};
  for (fovea_tensor &part : test.outs) all.push_back(&part);
  for (fovea_tensor &part : test.lses) all.push_back(&part);
  int64_t any = -3;
  for (fovea_tensor *tensor : all) {
    tensor->shape[1] = 0;
    for (int64_t &stride : tensor->stride) stride = any++;
  }
  EXPECT_THAT(test.Check(), Passes());
}

TEST(MergeTensors, HaveDtypesOfTheTable) {
  for (uint32_t dtype = 0; dtype <= 33; ++dtype) {
    const bool plain = dtype == FOVEA_F32 || dtype == FOVEA_F16 || dtype == FOVEA_BF16;
    Case out, outs, lse, lses;
    out.args.out.dtype = outs.outs[1].dtype = dtype;
    lse.args.lse.dtype = lses.lses[2].dtype = dtype;
    if (plain) {
      EXPECT_THAT(out.Check(), Passes());
      EXPECT_THAT(outs.Check(), Passes());
    } else {
      EXPECT_THAT(out.Check(), Refuses("out.dtype"));
      EXPECT_THAT(outs.Check(), Refuses("outs[1].dtype"));
    }
    if (dtype == FOVEA_F32 || dtype == FOVEA_NONE)
      EXPECT_THAT(lse.Check(), Passes()) << "lse may be absent";
    else
      EXPECT_THAT(lse.Check(), Refuses("lse.dtype"));
    if (dtype == FOVEA_F32)
      EXPECT_THAT(lses.Check(), Passes());
    else
      EXPECT_THAT(lses.Check(), Refuses("lses[2].dtype"));
  }
}

TEST(MergeTensors, HaveOneShape) {
  for (int i = 0; i < 4; ++i)
    for (int64_t off : {-1, 1}) {
      const std::string shape = "shape[" + std::to_string(i) + "]";
      for (int n = 0; n < 3; ++n) {
        Case outs, lses;
        outs.outs[n].shape[i] += off;
        lses.lses[n].shape[i] += off;
        EXPECT_THAT(outs.Check(), Refuses(Part("outs", n, shape)));
        EXPECT_THAT(lses.Check(), Refuses(Part("lses", n, shape)));
      }
      Case lse;
      int64_t extents[] = {2, 5, 4, 1};
      extents[i] += off;
      lse.args.lse = view(61, FOVEA_F32, extents[0], extents[1], extents[2], extents[3]);
      EXPECT_THAT(lse.Check(), Refuses("lse." + shape));
    }
}

TEST(MergeTensors, AreNamedWithTheirPlaceAndTheirDimension) {
  Case outs, lses, lse;
  outs.outs[2].shape[1] = 4;
  EXPECT_EQ(outs.Check().detail,
            "outs[2].shape[1] (len_q) is 4, must equal out.shape[1] (len_q), which is 5");
  lses.lses[1].shape[2] = 3;
  EXPECT_EQ(lses.Check().detail,
            "lses[1].shape[2] (heads_q) is 3, must equal out.shape[2] (heads_q), which is 4");
  lse.args.lse.shape[0] = 1;
  EXPECT_EQ(lse.Check().detail,
            "lse.shape[0] (batch) is 1, must equal out.shape[0] (batch), which is 2");
}

TEST(MergeTensors, KeepTheRulesOfTensors) {
  Case stride, last, data, part;
  stride.args.out.stride[1] = 23;
  EXPECT_THAT(stride.Check(), Refuses("out.stride[1]", "at least 24"));
  last.outs[2].stride[3] = 2;
  EXPECT_THAT(last.Check(), Refuses("outs[2].stride[3]"));
  data.lses[0].data = nullptr;
  EXPECT_THAT(data.Check(), Refuses("lses[0].data"));
  Case out_data, lse_data, outs_data;
  out_data.args.out.data = lse_data.args.lse.data = outs_data.outs[2].data = nullptr;
  EXPECT_THAT(out_data.Check(), Refuses("out.data"));
  EXPECT_THAT(lse_data.Check(), Refuses("lse.data"));
  EXPECT_THAT(outs_data.Check(), Refuses("outs[2].data"));
  part.outs[1].stride[0] = part.outs[1].stride[1] = part.outs[1].stride[2] = 0;
  EXPECT_THAT(part.Check(), Passes()) << "inputs may repeat";
  Case lse;
  lse.args.lse.stride[2] = 0;
  EXPECT_THAT(lse.Check(), Refuses("lse.stride[2]"));
}

TEST(MergePlace, MayBeThatOfOnePart) {
  for (int n = 0; n < 3; ++n) {
    Case test;
    test.args.out = test.outs[n];
    test.args.lse = test.lses[(n + 1) % 3];
    EXPECT_THAT(test.Check(), Passes()) << n;
  }
}

TEST(MergePlace, IsTheSameDataStridesAndDtype) {
  Case dtype;
  dtype.args.out = dtype.outs[1];
  dtype.args.out.dtype = FOVEA_BF16;  // 16 bits, like the part's f16
  EXPECT_THAT(dtype.Check(), Refuses("out", "overlaps outs[1]"));
  Case stride;
  stride.args.out = stride.outs[0];
  stride.args.out.stride[2] = 30;
  stride.args.out.stride[1] = 6;  // a permutation of the same memory
  EXPECT_THAT(stride.Check(), Refuses("out", "overlaps outs[0]"));
  Case data;
  data.args.lse = data.lses[2];
  data.args.lse.data = at(region(5) + 4);
  EXPECT_THAT(data.Check(), Refuses("lse", "overlaps lses[2]"));
}

TEST(MergePlace, IgnoresStridesThatAreNeverUsed) {
  Case test(2);
  for (fovea_tensor *t : {&test.outs[0], &test.outs[1], &test.args.out}) t->shape[0] = 1;
  for (fovea_tensor *t : {&test.lses[0], &test.lses[1], &test.args.lse}) t->shape[0] = 1;
  test.args.out = test.outs[0];
  test.args.lse = test.lses[0];
  test.args.out.stride[0] = 1;
  test.args.lse.stride[3] = 99;
  EXPECT_THAT(test.Check(), Passes());
}

TEST(MergePlace, IsOfOnePartOnly) {
  Case out, lse;
  out.args.out = out.outs[0];
  out.outs[2] = out.outs[0];
  EXPECT_THAT(out.Check(), Refuses("out", "overlaps outs[2]"));
  lse.args.lse = lse.lses[1];
  lse.lses[2] = lse.lses[1];
  EXPECT_THAT(lse.Check(), Refuses("lse", "overlaps lses[2]"));
}

TEST(MergePlace, IsNotAPartOfTheOtherKind) {
  Case out, lse, both;
  out.args.out.data = out.lses[1].data;
  EXPECT_THAT(out.Check(), Refuses("out", "overlaps lses[1]"));
  lse.args.lse.data = lse.outs[2].data;
  EXPECT_THAT(lse.Check(), Refuses("lse", "overlaps outs[2]"));
  both.args.lse.data = both.args.out.data;
  EXPECT_THAT(both.Check(), Refuses("out", "overlaps lse"));
}

TEST(MergePlace, MayInterleaveWithPartsInOneBuffer) {
  // The buffer is [batch, len_q, part, heads, dim_v]. The result takes the place of part 0.
  Case test;
  for (int n = 0; n < 3; ++n) {
    test.outs[n].dtype = FOVEA_F32;
    test.outs[n].data = at(region(0) + n * 24 * 4);
    test.outs[n].stride[1] = 3 * 24;
    test.outs[n].stride[0] = 5 * 3 * 24;
  }
  test.args.out = test.outs[0];
  EXPECT_THAT(test.Check(), Passes());
}

}  // namespace
}  // namespace fovea_test
